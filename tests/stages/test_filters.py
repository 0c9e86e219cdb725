"""Stage filters: thresholds on stored scores."""

from pathlib import Path
from typing import Any

import pytest

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from pipeline.recipe import load_recipe, make_stages
from stages.filters import FiltersConfig, FiltersStage
from stages.quality import QualityStage
from stages.stage import Context

SCORES = {"motion": 0.2, "frozen": 0.9, "shake": 0.01}


def filtering(folder: Path, **config: Any) -> FiltersStage:
    return FiltersStage(FiltersConfig(**config), Context(Media(folder), Clock()))


def outcome(stage: FiltersStage, scores: dict[str, float]) -> tuple[str, str | None, float | None]:
    record = {"clip_id": "c", "quality": scores}
    ((row,),) = stage.process([record])
    assert bool(stage.advance(record, [row])) == (row.outcome == "ok")
    return row.outcome, row.reason, row.score


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ("ok", None, None)),
        ({"at_most": {"frozen": 0.9}}, ("ok", None, None)),
        ({"at_most": {"frozen": 0.89}}, ("filtered", "frozen", 0.9)),
        ({"at_least": {"motion": 0.2}}, ("ok", None, None)),
        ({"at_least": {"motion": 0.21}}, ("filtered", "motion", 0.2)),
        ({"at_least": {"motion": 1}, "at_most": {"frozen": 0}}, ("filtered", "motion", 0.2)),
        ({"at_most": {"text": 0.5}}, ("filtered", "no_score", None)),
    ],
)
def test_a_score_beyond_its_bound_ends_a_clip(
    tmp_path: Path, config: dict[str, Any], expected: tuple[str, str | None, float | None]
) -> None:
    assert outcome(filtering(tmp_path, **config), SCORES) == expected


def test_what_is_no_number_passes_nothing(tmp_path: Path) -> None:
    for bounds in ("at_least", "at_most"):
        stage = filtering(tmp_path, **{bounds: {"motion": 0.5}})
        assert outcome(stage, {"motion": float("nan")})[:2] == ("filtered", "motion")


@pytest.mark.parametrize(
    "setting",
    [
        *("filters.at_most.motion=.nan", "filters.at_most.motion=.inf"),
        *("verdicts.at_least.plain=.nan", "near_duplicates.likeness=.nan", "probe.timeout=.inf"),
        *("source.remote.timeout=.inf", "source.where.x.at_least=.nan", "source.hash_workers=0"),
        "filters={at_least: {motion: 2}, at_most: {motion: 1}}",
    ],
)
def test_numbers_that_decide_nothing_are_refused(setting: str) -> None:
    with pytest.raises(UserError):
        load_recipe("real", [setting])


def stages(folder: Path, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe("real", overrides)
    made = make_stages(recipe, Context(Media(folder), recipe.clock.clock()))
    return {stage.name: stage for stage in made}


def test_a_threshold_changes_filters_alone(tmp_path: Path) -> None:
    before = stages(tmp_path)
    after = stages(tmp_path, "filters.at_least.motion=0.1")
    changed = [name for name in before if before[name].fingerprint != after[name].fingerprint]
    assert changed == ["filters"]


def test_a_threshold_on_what_is_not_computed_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="no score shke; quality computes: motion, shake"):
        stages(tmp_path, "filters.at_most.shke=0.1")
    with pytest.raises(UserError, match=r"none, as quality\.use is empty"):
        stages(tmp_path, "quality.use=[]")


def test_a_plan_has_only_stages_that_do_something(tmp_path: Path) -> None:
    assert {"quality", "filters"} <= set(stages(tmp_path))
    assert "filters" not in stages(tmp_path, "filters={}")
    arena = make_stages(load_recipe("arena"), Context(Media(tmp_path), Clock()))
    assert {stage.name for stage in arena} & {"quality", "filters", "near_duplicates"} == set()


def test_duplicates_need_signatures(tmp_path: Path) -> None:
    assert "near_duplicates" not in stages(tmp_path)
    asked = "near_duplicates.filter=true"
    with pytest.raises(UserError, match="add pixels"):
        stages(tmp_path, asked, "quality.use=[]", "filters={}")
    assert list(stages(tmp_path, asked))[4:7] == ["filters", "near_duplicates", "segments"]


def test_shipped_recipes_filter_only_what_nobody_wants(tmp_path: Path) -> None:
    for name in ("real", "films"):
        config = load_recipe(name).model_dump()["filters"]
        assert config == {"at_least": {}, "at_most": {"frozen": 0.98, "black": 0.9}}
    arena = load_recipe("arena").model_dump()
    assert arena["quality"]["use"] == () and arena["filters"] == {"at_least": {}, "at_most": {}}
    assert QualityStage.name == "quality"

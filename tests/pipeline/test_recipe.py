from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pipeline_fakes import Clips, FakeConfig, Latents, Probe, Segments, Shots

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from pipeline import recipe as recipes
from pipeline.recipe import check_plan, load_recipe, make_stages, parse_recipe
from stages.stage import Context, Stage

NAMES = ("Probe", "Shots", "Clips", "Segments", "Words", "Latents")


@pytest.fixture(autouse=True)
def fake_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {name.lower(): f"pipeline_fakes:{name}" for name in NAMES}
    monkeypatch.setattr(recipes, "ROW_STAGES", sections)
    monkeypatch.setattr(recipes, "CORPUS_STAGES", {})


def test_a_recipe_is_read_and_overridden(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\nprobe: {tag: a}\n")
    recipe: Any = load_recipe(str(path), ["probe.tag=b", "words.batch=7", "clock.fps=8"])
    assert (recipe.name, recipe.seed) == ("mine", 3)
    assert (recipe.probe.tag, recipe.words.batch) == ("b", 7)
    assert recipe.clock.clock() == Clock(8, 4)


def test_the_resolved_recipe_reads_back_as_itself() -> None:
    recipe = parse_recipe({"probe": {"tag": "a"}}, [], "here")
    again = parse_recipe(yaml.safe_load(recipe.to_yaml()), [], "again")
    assert again.model_dump() == recipe.model_dump()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sed": 1}, "sed is no key: did you mean seed?"),
        ({"probe": {"tga": 1}}, "probe.tga is no key: did you mean tag?"),
        ({"probe": {"xyzzy": 1}}, r"probe.xyzzy is no key: there are batch, log, tag"),
        ({"clock": {"fsp": 1}}, "clock.fsp is no key: did you mean fps?"),
        ({"words": {"batch": "many"}}, "words.batch: .*integer"),
        ({"name": "a/b"}, "name: "),
        ({"probe": 3}, "probe: "),
    ],
)
def test_mistakes_are_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_recipe(data, [], "here")


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", ""])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=r"x\.yaml"):
        load_recipe(str(tmp_path / "x.yaml"))


def test_an_unknown_name_lists_what_comes_along() -> None:
    with pytest.raises(
        UserError,
        match=r"none\.yaml is not a file, and no recipe that comes along: arena, films, real, wan$",
    ):
        load_recipe("none.yaml")


class TestPlan:
    context = Context(Media(Path("unused")), Clock())

    def stage(self, kind: type[Stage], **changed: Any) -> Stage:
        return type(kind.__name__, (kind,), changed)(FakeConfig(), self.context)

    def test_the_stages_of_a_recipe_fit(self) -> None:
        stages = make_stages(parse_recipe({}, [], "here"), self.context)
        assert [stage.name for stage in stages] == [name.lower() for name in NAMES]

    @pytest.mark.parametrize(
        ("kinds", "changed", "message"),
        [
            ((Shots,), {}, r"shots reads \['script'\], which nothing writes"),
            ((Probe, Shots, Clips), {"reads": ("video_id", "colour")}, "reads .*colour"),
            ((Probe, Shots, Clips), {"reads": ("script",)}, "clips must read video_id"),
            ((Probe,), {"writes": pa.schema([("score", pa.int32())])}, "probe writes .*score"),
            ((Probe, Shots, Clips, Segments, Probe), {}, "probe works on videos, after segments"),
        ],
    )
    def test_stages_that_do_not_fit(
        self, kinds: tuple[type[Stage], ...], changed: dict[str, Any], message: str
    ) -> None:
        stages = [self.stage(kind) for kind in kinds[:-1]] + [self.stage(kinds[-1], **changed)]
        with pytest.raises(ValueError, match=message):
            check_plan(stages)

    def test_the_batch_size_is_no_part_of_a_fingerprint(self) -> None:
        one = Latents(FakeConfig(batch=1), self.context)
        assert one.fingerprint == Latents(FakeConfig(batch=2), self.context).fingerprint
        assert one.fingerprint != Latents(FakeConfig(tag="x"), self.context).fingerprint

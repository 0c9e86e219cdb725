"""What a stage says it reads is all that it reads: keys and fingerprints name what decides."""

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import decord
import pytest
import scenedetect

sys.path.insert(0, str(Path(__file__).parent))
from films import context, source, write_film
from scenes import camera

from corpus.ids import sha256_file
from corpus.timeline import Span, Timeline, write_timeline
from pipeline.recipe import load_recipe, make_stages
from stages.stage import Record, Stage

REAL = ("clips.buckets=[[96, 96]]",)
GIVEN = (*REAL, "shots.detectors=[{kind: given}]", "segments.mode=fixed", "captions.backend=given")


ALLOWED = {
    "clips": {"packets"},  # bounds time only
    "shots": {"width", "height", "transfer", "matrix"},  # of the reel that it leaves for clips
}


def plan(folder: Path, overrides: tuple[str, ...]) -> list[Stage[Any]]:
    return make_stages(load_recipe("real", overrides), context(folder))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Two seconds and a half of a moving camera, with a timeline."""
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    frames = camera(3, 60, speed=(2.0, 1.0))[:, :96, :96]
    write_film(path, frames, [n * 3750 for n in range(60)], Fraction(1, 90000))
    record = source(path, [(0.0, 2.5)])
    timeline = Path(record["timeline"])
    write_timeline(timeline, Timeline((Span(0, 2.5),), (), (Span(0, 2.5, "go"),)))
    return {**record, "timeline_sha256": sha256_file(timeline)}


Met = list[tuple[Stage[Any], Record]]


@pytest.fixture(scope="module", params=[REAL, GIVEN], ids=["measured", "given"])
def met(request: pytest.FixtureRequest, film: Record, tmp_path_factory) -> Met:
    """Every stage with a record that it answered, having seen what it declares and no more."""
    found: Met = []
    record = film
    for stage in plan(tmp_path_factory.mktemp("corpus"), request.param):
        found.append((stage, record))
        (rows,) = stage.process([stage.seen(record)])
        (record,) = stage.advance(record, rows)
    return found


def test_every_stage_gets_along_with_what_it_declares(met: Met) -> None:
    assert len(met) == 10
    for stage, record in met:
        (on_all,), (on_seen,) = stage.process([record]), stage.process([stage.seen(record)])
        assert on_all == on_seen, stage.name


def test_the_key_names_everything_that_is_seen_but_places_and_limits(met: Met) -> None:
    places = {"path", "uri", "clip", "timing", "timeline"}
    for stage, record in met:
        seen = stage.seen(record)
        unnamed = {name for name in seen if stage.key({**record, name: other(record[name])})
                   == stage.key(record)}  # fmt: skip
        assert unnamed <= places | ALLOWED.get(stage.name, set()), stage.name


def test_clips_follow_a_corrected_probe(met: Met) -> None:
    (clips,) = [stage for stage, _ in met if stage.name == "clips"]
    (record,) = [record for stage, record in met if stage.name == "clips"]
    for name in ("stream", "width", "height", "transfer", "matrix", "time_base"):
        assert clips.key({**record, name: other(record[name])}) != clips.key(record), name
    shots = [{**shot, "opened_by": "another", "opened_score": 9.9} for shot in record["shots"]]
    assert clips.key({**record, "shots": shots}) == clips.key(record)


def test_rows_about_a_clip_do_not_depend_on_the_shot_it_came_from(met: Met) -> None:
    for stage, record in met[3:]:
        moved = {**record, "shot_id": "another"}
        assert stage.key(moved) == stage.key(record)
        assert stage.process([moved]) == stage.process([record])


@pytest.mark.parametrize(
    ("library", "measured", "given"),
    [
        (
            av,
            {"probe", "clips", "quality", "segments", "captions", "latents"},
            {"probe", "clips", "quality", "latents"},
        ),
        (cv2, {"shots", "quality", "segments", "captions"}, {"quality"}),
        (decord, {"quality", "segments", "captions", "latents"}, {"quality", "latents"}),
        (scenedetect, {"shots"}, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_another_build_of_a_library_is_another_fingerprint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: Any,
    measured: set[str],
    given: set[str],
) -> None:
    before = [plan(tmp_path, how) for how in (REAL, GIVEN)]
    old = [[stage.fingerprint for stage in stages] for stages in before]
    monkeypatch.setattr(library, "__version__", "0.0.1")
    for stages, prints, expected in zip(before, old, (measured, given), strict=True):
        changed = {s.name for s, was in zip(stages, prints, strict=True) if s.fingerprint != was}
        assert changed == expected


def other(value: Any) -> Any:
    """Something else of the same kind."""
    match value:
        case bool():
            return not value
        case str():
            return value + "x"
        case int() | float():
            return value + 1
        case list():
            changed = [other(item) for item in value]
            return changed if changed != value else [*value, 1]
        case dict():
            return {key: other(item) for key, item in value.items()}
        case _:
            return "something"

"""`tv2tv plan`: halves of real films predict each other, and a plan only reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.plan import errors, from_json
from corpus.video import write_video
from pipeline.forecast.estimate import Draws, exactly
from pipeline.forecast.forecast import forecast
from pipeline.forecast.totals import loads, wall
from pipeline.forecast.trial import Trial
from pipeline.forecast.words import duration, notes, size, table
from pipeline.plan import make_plan
from pipeline.recipe import Recipe, load_recipe
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView

# What `python -m benchmarks plan` measured on 14 public films; it prints the figures in full.
MEASURED = Path(__file__).parents[1] / "data" / "plan_public.json"


class TestHalvesOfRealFilms:
    """Clips, tokens and bytes within 30 %: for a sample that a plan draws nearly always, for any
    half of 14 films whose lengths span two orders of magnitude most of the time."""

    @pytest.mark.parametrize("name", ["clips", "tokens", "bytes"])
    def test_a_plan_is_within_30_percent(self, name: str) -> None:
        films, media = from_json(json.loads(MEASURED.read_text()))
        pairs = errors(films, media, 30, drawn=True)[name]
        off = np.abs([error for error, _ in pairs])
        assert np.median(off) < 0.15
        assert np.mean(off < 0.3) > 0.85

    @pytest.mark.parametrize("name", ["clips", "tokens", "bytes"])
    def test_a_half_predicts_the_other(self, name: str) -> None:
        films, media = from_json(json.loads(MEASURED.read_text()))
        pairs = errors(films, media, 40)[name]
        off = np.abs([error for error, _ in pairs])
        assert np.median(off) < 0.25
        assert np.mean(off < 0.3) > 0.7
        assert np.mean([held for _, held in pairs]) > 0.7


@pytest.fixture
def recipe() -> Recipe:
    small = ["clips.buckets=[[64, 64]]", "clips.min_seconds=1", "filters={}"]
    return load_recipe("films", small)


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Three films of 2, 3 and 4 seconds, a copy, and a file that is none."""
    folder = tmp_path / "films"
    folder.mkdir()
    random = np.random.default_rng(0)
    for seconds in (2, 3, 4):
        frames = np.zeros((16 * seconds, 64, 64, 3), np.uint8)
        ground = random.integers(0, 255, (64, 200, 3), np.uint8)
        for i, frame in enumerate(frames):
            frame[:] = ground[:, 2 * i % 100 :][:, :64]
        write_video(folder / f"{seconds}.mp4", frames, 16)
    (folder / "copy.mp4").write_bytes((folder / "2.mp4").read_bytes())
    (folder / "none.mp4").write_bytes(b"no film at all")
    return folder


def state(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.mark.usefixtures("local_ray")
def test_a_plan_tells_what_a_run_then_gives(recipe: Recipe, footage: Path, tmp_path: Path) -> None:
    said: list[str] = []
    told = forecast(recipe, footage, sample=10, say=said.append)
    assert (told.listed, told.done, told.tried) == (5, 0, 3)
    assert told.seconds.value == pytest.approx(9.0, abs=0.2)
    assert said and told.made["bytes.latents"].value > 0
    assert told.wall.value > 0 and told.wall.low is None, "three films are too few to be sure"
    assert told.cpu_total.value == pytest.approx(sum(e.value for e in told.cpu_hours.values()))
    assert "2 of 5 probed files are no film, unfit, or copies" in notes(told)
    Console(quiet=True).print(table(told))
    assert json.loads(json.dumps(told.to_json()))["made"]["clips"]["value"] == 3

    corpus = tmp_path / "corpus"
    result = run(make_plan(recipe, corpus), footage, PlainView(Console(quiet=True)))
    assert result.counts["clips"].ok == told.made["clips"].value
    assert result.counts["segments"].ok == told.made["segments"].value

    before = state(corpus), state(footage)
    again = forecast(recipe, footage, corpus=corpus)
    assert (state(corpus), state(footage)) == before, "a plan only reads"
    assert (again.done, again.tried, again.made["clips"].value) == (5, 0, 0)


def test_time_is_all_work_on_all_cores_and_a_ragged_end() -> None:
    work = exactly(100.0)
    one = wall(work, longest=10.0, fixed=5.0, workers=1).estimate
    assert (one.value, one.low, one.high) == (105.0, 105.0, 105.0)
    four = wall(work, longest=10.0, fixed=5.0, workers=4).estimate
    assert four.low is not None and four.high is not None
    assert 30.0 <= four.low < four.value < four.high <= 5 + 25 + 10
    many = wall(work, longest=10.0, fixed=5.0, workers=1000).estimate
    assert many.value == pytest.approx(15.0, abs=0.1), "one film does not get faster"
    assert wall(Draws(1.0, work.replicates, enough=False), 1.0, 1.0, 4).estimate.low is None


def test_a_busy_machine_widens_the_interval_and_a_quiet_one_does_not() -> None:
    """Films of one kind, some of which had to share their cores."""

    def tried(*seconds: float) -> list[Trial]:
        cpu = {"shots": 4.0, "latents": 1.0}
        return [
            Trial("v", {"shots": 4.0 * one, "latents": 0.5 * one}, dict(cpu)) for one in seconds
        ]

    assert [load.factor for load in loads(tried(1.0, 1.0, 1.0))] == pytest.approx([1.0] * 3)
    uneven = loads(tried(0.5, 1.0, 1.5))
    assert [load.factor for load in uneven] == pytest.approx([0.5, 1.0, 1.5])
    work = exactly(100.0)
    quiet = wall(work, 0.0, 5.0, 1, loads(tried(2.0, 2.0))).estimate
    assert (quiet.low, quiet.value, quiet.high) == pytest.approx((105.0, 105.0, 105.0))
    busy = wall(work, 0.0, 5.0, 1, uneven).estimate
    assert (busy.low, busy.value, busy.high) == pytest.approx((52.5, 105.0, 157.5))
    assert loads([Trial("v")]) == []


@pytest.mark.parametrize(
    ("text", "number", "shown"),
    [
        (duration, 5.0, "5.0 s"),
        (duration, 90.0, "1.5 min"),
        (duration, 9e6, "2,500.0 h"),
        (size, 12.0, "12 B"),
        (size, 2.5e12, "2.5 TB"),
        (size, 2.5e16, "25,000.0 TB"),
    ],
)
def test_numbers_for_people(text: Callable[[float], str], number: float, shown: str) -> None:
    assert text(number) == shown

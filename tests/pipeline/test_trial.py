"""Trials: the work of a run, in this process, on fake stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.forecast.trial import Trial, walk
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.plan import Plan
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView

FILMS: dict[str, Any] = {
    "a": {"shots": [[["x", "y"]], [["z"]], []]},
    "b": {"shots": [[["raise"]]]},
    "c": {"shots": [], "probe": "filter"},
}


def trials(plan: Plan, folder: Path, cache: Path) -> dict[str, Trial]:
    source = plan.recipe.source
    listing = identify(list_sources(folder, source), source, cache, rehash=False)
    stages = list(zip(plan.stages, plan.tables, strict=True))
    return {s.uri[0]: walk(stages, s.record(), str(s.video_id)) for s in listing.sources}


def test_trials_measure_and_a_run_finds_their_work_done(
    make_plan: Callable[..., Plan],
    films: Callable[..., Path],
    calls: Callable[[], dict[str, int]],
    view: PlainView,
    tmp_path: Path,
) -> None:
    folder, plan = films(**FILMS), make_plan()
    found = trials(plan, folder, tmp_path / "cache")
    a = found["a"]
    counted = {name: a.made[name] for name in ("shots", "clips", "segments")}
    assert counted == {"shots": 3, "clips": 2, "segments": 3}
    assert a.made["clip_seconds"] == 3 * 0.25
    assert a.made["bytes.clips"] == 2 * len("a clip")
    assert a.seconds.keys() == a.cpu.keys() == {stage.name for stage in plan.stages}
    assert all(seconds > 0 for seconds in a.seconds.values())
    assert found["b"].whole and found["b"].made.get("clips", 0) == 0, "quarantined, and so done"
    assert found["c"].probed is None
    assert a.probed is not None and "script" in a.probed
    assert calls()["words"] >= 3

    result = run(plan, str(folder), view)
    assert result.computed == {}, "no Ray is started, nothing is left"
    assert calls() == {}
    assert result.counts["clips"].ok == 2
    assert result.counts["clips"].quarantined == {"exception": 1}


def test_what_is_put_off_is_no_measurement(
    make_plan: Callable[..., Plan], films: Callable[..., Path], tmp_path: Path
) -> None:
    folder = films(a={"shots": [[["away", "x"]], [["y"]]]})
    found = trials(make_plan(), folder, tmp_path / "cache")["a"]
    assert not found.whole
    assert found.made["clips"] == 1

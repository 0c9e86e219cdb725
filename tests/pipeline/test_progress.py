"""What a person sees of a run: rates of late, time left, failures as they come."""

import io
from typing import Any

import pytest
from rich.console import Console

from pipeline.telemetry.progress import NAMED, RECENT, LiveView, PlainView, Progress


def batch(stage: str, begun: float, seconds: float, records: int = 1) -> dict[str, Any]:
    return {
        **{"event": "batch", "stage": stage, "worker": "w", "begun": begun, "seconds": seconds},
        **{"records": records, "computed": records, "onward": records},
        **{"outcomes": {"ok": records}, "reasons": {}},
    }


def failure(item: str, reason: str = "corrupt") -> dict[str, Any]:
    told = {"event": "failure", "stage": "shots", "item": item, "outcome": "failed"}
    return {**told, "reason": reason, "message": f"{item} is\nbroken\x1b[2J"}


def test_rates_forget_what_was_long_ago() -> None:
    progress = Progress(["probe"], {"probe": 100_000})
    (probe,) = progress.stages
    for second in range(3 * RECENT):
        progress.add(batch("probe", second, 1.0, records=10 if second < RECENT else 1))
    assert probe.done == 12 * RECENT
    assert probe.rate == pytest.approx(1.0, rel=0.01)
    assert progress.remaining(probe, 100_000) == pytest.approx(100_000 - 12 * RECENT, rel=0.01)
    assert len(probe.recent) <= 2 * RECENT + 1, "however long the run"


def test_all_is_done_when_the_slowest_stage_is() -> None:
    progress = Progress(["probe", "shots"], {"probe": 10})
    assert progress.left() is None, "nothing is known yet"
    progress.add(batch("probe", 0.0, 5.0, records=5))
    assert progress.left() is None
    progress.add(batch("shots", 5.0, 10.0))
    assert progress.left() == pytest.approx(9 * 10.0)


def test_failures_are_told_once_and_only_the_first_of_a_reason() -> None:
    progress = Progress(["shots"], {"shots": 100})
    for number in range(NAMED + 20):
        progress.add(failure(f"{number}.mp4"))
    progress.add(failure("other.mp4", "timeout"))
    told = progress.news()
    assert len(told) == NAMED + 2
    assert told[0].startswith("shots: 0.mp4 failed: corrupt: 0.mp4 is")
    assert all(text.isprintable() for text in told), "no terminal is told what to do"
    assert "only counted" in told[NAMED]
    assert progress.news() == []


@pytest.mark.parametrize("kind", [PlainView, LiveView])
def test_failures_are_shown_as_they_come(kind: type[PlainView]) -> None:
    out = io.StringIO()
    view = kind(Console(file=out, width=100, force_terminal=kind is LiveView))
    progress = Progress(["shots"], {"shots": 2})
    view.begin(progress)
    progress.add(failure("a.mp4"))
    view.update(progress)
    assert out.getvalue().count("a.mp4 failed") == 1
    progress.add(failure("b.mp4"))
    view.end(progress)
    assert out.getvalue().count("a.mp4 failed") == out.getvalue().count("b.mp4 failed") == 1

"""A film that hangs costs less than a minute, however long it says it is."""

import selectors
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from films import context, counter_film, probe, shots, source

from stages.clips import ClipsConfig, ClipsStage
from stages.probe import ProbeConfig, ProbeStage
from stages.reading.foreign import decoding_limits
from stages.shots import ShotsConfig, ShotsStage
from stages.stage import Record, Stage

HOUR = 3600 * 30  # pictures


class Hours:
    """A clock that leaps over the time that a child lets us wait."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        clock = self

        class Leaping(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                ready = super().select(0.5)  # a child has time to say that it started
                clock.now += 0.0 if ready else timeout or 0.0
                return ready

        patch.setattr("stages.reading.child.selectors.DefaultSelector", Leaping)
        tell = SimpleNamespace(monotonic=lambda: clock.now, sleep=time.sleep)
        patch.setattr("stages.reading.child.time", tell)


def silent(folder: Path) -> tuple[Path, Path]:
    """A program that says nothing for ever, and its log of starts."""
    log, path = folder / "log", folder / "silent"
    path.write_text(f"#!/bin/sh\necho started >> {log}\nexec sleep 600\n")
    path.chmod(0o755)
    return path, log


@pytest.fixture
def film(tmp_path: Path) -> Record:
    """A film with shots; its record says that it is an hour long."""
    path = counter_film(tmp_path / "a.mp4", [n * 3000 for n in range(60)], Fraction(1, 90000))
    _, (record,) = probe(tmp_path, source(path, [(0.0, 2.0)]))
    _, (record,) = shots(tmp_path, record)
    return {**record, "packets": HOUR}


@pytest.mark.parametrize("name", ["probe", "shots", "clips"])
def test_a_hang_is_gone_within_a_minute_by_the_default_numbers(
    tmp_path: Path, film: Record, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stages: dict[str, Stage[Any]] = {
        "probe": ProbeStage(ProbeConfig(), context(tmp_path)),
        "shots": ShotsStage(ShotsConfig(), context(tmp_path)),
        "clips": ClipsStage(ClipsConfig(min_seconds=1.0), context(tmp_path)),
    }
    program, log = silent(tmp_path)
    monkeypatch.setattr("stages.reading.foreign.ffmpeg", lambda: program)
    monkeypatch.setattr("stages.probe.sys", SimpleNamespace(executable=str(program)))
    hours = Hours(monkeypatch)
    (rows,) = stages[name].process([film])
    assert {(row.outcome, row.reason) for row in rows} == {("quarantined", "timeout")}
    assert 20 < hours.now < 60
    assert log.read_text().split() == ["started"] * 2


def test_a_long_film_has_time_as_long_as_pictures_come() -> None:
    limits = decoding_limits({"packets": HOUR}, ShotsConfig().timeout, 1 << 30)
    assert limits.seconds > HOUR / 10 and limits.stall < 60


def test_both_decoding_children_tell_of_every_picture_at_once(
    tmp_path: Path, film: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stall is time without output: pictures that wait in a buffer would look like one."""
    from stages.reading import child

    pieces: list[int] = []
    read = child.os.readv

    def counted(handle: int, buffers: list[memoryview]) -> int:
        pieces.append(read(handle, buffers))
        return pieces[-1]

    monkeypatch.setattr("stages.reading.child.os.readv", counted)
    stage = ShotsStage(ShotsConfig(), context(tmp_path))
    stage.process([film])
    # A picture nearly fills ffmpeg's own buffer, so that none waits there for more than the next.
    picture = 128 * 72 * 3
    assert 2 * picture > 1 << 15 and sum(pieces) == 60 * picture and max(pieces) < 60 * picture

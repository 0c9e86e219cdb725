"""A reel spares a decoding and changes nothing; without room, or broken, there is none."""

import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from films import context, counter_film, probe, read_counter, source

from corpus.video import read_video
from stages import clips
from stages.clips import ClipsConfig, ClipsStage
from stages.reading import reels
from stages.reading.child import Child
from stages.shots import Given, ShotsConfig, ShotsStage
from stages.stage import Record

BASE = Fraction(1, 90000)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reels of a test lie in a folder of its own."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def film(folder: Path, **more: Any) -> Record:
    path = counter_film(folder / "a.mp4", [n * 3000 for n in range(90)], BASE, **more)
    _, (record,) = probe(folder, source(path, [(0.0, 1.4), (1.5, 2.9)]))
    return record


def stages(folder: Path, encoding: str = "yuv420p") -> tuple[ShotsStage, ClipsStage]:
    here = context(folder)
    cutting = ClipsStage(
        ClipsConfig(min_seconds=1.0, max_seconds=2.0, buckets=((96, 96),), encoding=encoding), here
    )
    finding = ShotsStage(ShotsConfig(detectors=(Given(),)), here)
    cutting.agree({"shots": finding})
    return finding, cutting


def made(folder: Path, record: Record, encoding: str = "yuv420p") -> tuple[Record, ClipsStage]:
    finding, cutting = stages(folder, encoding)
    (rows,) = finding.process([finding.seen(record)])
    (record,) = finding.advance(record, rows)
    return record, cutting


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("encoding", ["yuv420p", "rgb_lossless"])
def test_clips_of_a_reel_are_those_of_the_film_and_nothing_is_left(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    record, cutting = made(tmp_path, film(tmp_path), encoding)
    assert len(files(folder)) == 1

    def no_child(*given: Any) -> Child:
        raise AssertionError("the film is decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(clips, "Child", no_child)
        (rows,) = cutting.process([cutting.seen(record)])
    assert [row.outcome for row in rows] == ["ok", "ok"] and not files(folder)
    media = context(tmp_path).media
    kept = [media.path(row.columns["clip"]).read_bytes() for row in rows]
    (again,) = cutting.process([cutting.seen(record)])  # decodes: the reel is gone
    assert again == rows
    assert [media.path(row.columns["clip"]).read_bytes() for row in rows] == kept
    frames = read_video(media.path(rows[1].columns["clip"]))
    assert [read_counter(frame) for frame in frames] == [
        45 + 30 * j // 16 for j in range(len(frames))
    ]


def test_without_room_there_is_no_reel(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reels, "MOST_BYTES", 90 * 96 * 96 * 3 // 2 - 1)
    record, cutting = made(tmp_path, film(tmp_path))
    assert not files(folder)
    (rows,) = cutting.process([cutting.seen(record)])
    assert [row.outcome for row in rows] == ["ok", "ok"]


def test_a_reel_of_another_length_is_not_used(tmp_path: Path, folder: Path) -> None:
    record, cutting = made(tmp_path, film(tmp_path))
    (reel,) = files(folder)
    reel.write_bytes(np.zeros(96 * 96, np.uint8).tobytes())
    (rows,) = cutting.process([cutting.seen(record)])
    frame = read_video(context(tmp_path).media.path(rows[0].columns["clip"]))[16]
    assert read_counter(frame) == 30 and not files(folder)


def test_a_reel_that_cannot_be_written_costs_nobody_the_film(tmp_path: Path, folder: Path) -> None:
    """A filter that fails stands for a full disk: ffmpeg gives up, and is asked for less."""
    finding, _ = stages(tmp_path)
    good = finding.ahead
    assert good is not None
    finding.ahead = lambda record: reels.Reel.of("x", "crop=9999:9999", "yuv420p", (144, 96))
    record = film(tmp_path)
    (rows,) = finding.process([finding.seen(record)])
    assert [row.outcome for row in rows] == ["ok", "ok"] and not files(folder)


def test_a_film_that_ends_at_its_shots_leaves_none(tmp_path: Path, folder: Path) -> None:
    record = film(tmp_path)
    finding, _ = stages(tmp_path)
    (rows,) = finding.process([finding.seen({**record, "packets": 200})])
    assert [(row.outcome, row.reason) for row in rows] == [("failed", "corrupt")]
    assert not files(folder)


def test_what_nobody_came_for_is_swept(tmp_path: Path, folder: Path, monkeypatch: Any) -> None:
    made(tmp_path, film(tmp_path))
    (old,) = files(folder)
    monkeypatch.setattr(reels, "KEPT", -1.0)
    reel = reels.Reel.of("another", "null", "yuv420p", (144, 96))
    assert reel.has_room(1) and not old.exists()
    reel._part.write_bytes(b"x")
    reel.keep()
    reels._forget(reel._made)
    assert not files(folder)


def test_a_folder_of_somebody_else_is_not_ours(tmp_path: Path, folder: Path) -> None:
    reels._place().mkdir()
    reels._place().chmod(0o777)
    made(tmp_path, film(tmp_path))
    assert not files(folder)

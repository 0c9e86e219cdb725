"""Shots are found where they are, and films that are not whole are refused."""

import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from films import context, counter_film, probe, shots, source, write_film
from scenes import Frames, brightness, camera, dissolve, flash, small

from stages.cutting.blends import BlendTest
from stages.cutting.boundaries import (
    Adaptive,
    Boundary,
    Content,
    CutTest,
    Threshold,
    find_boundaries,
)
from stages.cutting.boundaries import shots_between as between
from stages.reading.media_time import read_timing
from stages.shots import Given, ShotsConfig, ShotsStage

BASE = Fraction(1, 90000)
STEADY = [n * 3000 for n in range(90)]


def boundaries(frames: Frames) -> list[Boundary]:
    """With the settings that a recipe has by default."""
    config = ShotsConfig()
    detectors = [d for d in config.detectors if not isinstance(d, Given)]
    return find_boundaries(small(frames), 25.0, detectors, config.cuts, config.blends)


# -- what is a boundary -------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.0, 1.0, 4.0, 10.0])
def test_cuts_between_moving_scenes_are_found_to_the_frame(speed: float) -> None:
    angles = np.linspace(0, 6, 5)
    scenes = [
        camera(seed, 30, speed=(speed * np.cos(angle), speed * np.sin(angle)))
        for seed, angle in enumerate(angles, start=40)
    ]
    found = boundaries(np.concatenate(scenes))
    assert [(b.kind, b.start, b.end) for b in found] == [("cut", n, n) for n in (30, 60, 90, 120)]


@pytest.mark.parametrize(
    "frames",
    [
        camera(3, 90, shake=8.0),
        camera(4, 60, speed=(20.0, 0.0)),
        camera(5, 50, zoom=1.03),
        flash(camera(6, 60, speed=(1.0, 0.0)), 30, 1),
        flash(camera(6, 60, speed=(1.0, 0.0)), 30, 3),
        brightness(camera(6, 60, speed=(1.0, 0.0)), lambda t: 0.6 if t > 30 else 1.0),
        brightness(camera(6, 60, speed=(1.0, 0.0)), lambda t: 0.6 if t // 4 % 2 else 1.0),
        brightness(camera(6, 100, speed=(1.0, 0.0)), lambda t: 1.0 - 0.006 * t),
        np.repeat(camera(7, 12, speed=(6.0, 2.0)), 5, axis=0),
    ],
    ids=["shake", "pan", "zoom", "flash", "long flash", "exposure", "strobe", "dusk", "on fives"],
)
def test_what_happens_within_a_shot_is_no_boundary(frames: Frames) -> None:
    assert boundaries(frames) == []


def test_opencv_has_its_threads_back_afterwards() -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        boundaries(camera(3, 8))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_a_slide_whose_text_changes_is_a_new_shot() -> None:
    slides = np.full((120, 144, 256, 3), 245, np.uint8)
    rng = np.random.default_rng(0)
    for start, lines in ((0, 6), (60, 5)):
        for line in range(lines):
            words = rng.random(200) < 0.5
            slides[start : start + 60, 20 + 18 * line : 28 + 18 * line, 20:220][:, :, words] = 40
    found = boundaries(slides)
    assert [(b.kind, b.start) for b in found] == [("cut", 60)]


@pytest.mark.parametrize(("length", "speed"), [(5, 0.0), (25, 0.0), (60, 0.0), (8, 1.0), (20, 2.0)])
def test_dissolves_have_a_width(length: int, speed: float) -> None:
    a, b = camera(20, 100, speed=(speed, 0.0)), camera(21, 100, speed=(0.0, -speed))
    (found,) = boundaries(dissolve(a, b, length))
    assert found.kind == "gradual"
    # What is mixed is cut away, and little more: the motion of the shots blurs the ends.
    assert 100 - length - 8 <= found.start <= 100 - length + 2
    assert 98 <= found.end <= 110


def test_a_fade_through_black_is_one_boundary() -> None:
    out = brightness(camera(22, 80), lambda t: min(1.0, max(0.0, (70 - t) / 20)))
    into = brightness(camera(23, 80), lambda t: min(1.0, t / 20))
    (found,) = boundaries(np.concatenate([out, into]))
    assert 48 <= found.start <= 52 and 98 <= found.end <= 108


def test_a_title_over_a_running_shot_is_no_boundary() -> None:
    frames = camera(24, 90, speed=(1.0, 0.0)).astype(float)
    for t in range(30, 60):
        frames[t, 50:95, 70:190] += (255 - frames[t, 50:95, 70:190]) * (t - 30) / 30
    frames[60:, 50:95, 70:190] = 255
    assert boundaries(frames.astype(np.uint8)) == []


def test_a_night_scene_is_not_black() -> None:
    night = brightness(camera(25, 60), lambda t: 0.03)
    night[:, 60:90, 60:120] = camera(25, 60)[:, 60:90, 60:120]
    assert boundaries(np.concatenate([night, camera(26, 40)]))[0].start == 60


def test_shots_are_what_no_boundary_covers() -> None:
    cuts = [Boundary("cut", 10, 10, 2.0), Boundary("gradual", 20, 25, 0.1)]
    assert between(cuts, 40) == [(0, 10), (10, 20), (25, 40)]
    assert between([Boundary("black", 0, 5, 0.0), Boundary("black", 30, 40, 0.0)], 40) == [(5, 30)]
    assert between([Boundary("black", 0, 40, 0.0)], 40) == []


# -- the stage ----------------------------------------------------------------------------------


def film_of_three(path: Path, ticks: list[int]) -> Path:
    """Cuts at pictures 30 and 60."""
    scenes = np.concatenate([camera(seed, 30, speed=(2.0, 0.0)) for seed in (50, 51, 52)])
    return write_film(path, scenes, ticks, BASE)


def test_shots_and_timing_of_an_uneven_film(tmp_path: Path) -> None:
    gaps = np.random.default_rng(2).choice([1500, 3000, 4500], 89)
    ticks = [9000, *(9000 + np.cumsum(gaps)).tolist()]
    path = film_of_three(tmp_path / "a.mp4", ticks)
    _, (record,) = probe(tmp_path, source(path))
    rows, (record,) = shots(tmp_path, record)
    assert read_timing(context(tmp_path).media.path(record["timing"])).tolist() == ticks
    assert [(s["start_frame"], s["end_frame"]) for s in record["shots"]] == [
        (0, 30),
        (30, 60),
        (60, 90),
    ]
    for shot, row in zip(record["shots"], rows, strict=True):
        assert shot["shot_id"] == row.id and row.parent == record["video_id"]
        assert shot["start_pts"] == ticks[shot["start_frame"]]
        assert shot["start"] == pytest.approx(shot["start_pts"] / 90000)
        assert set(row.columns) == set(ShotsStage.writes.names)
    assert [s["opened_by"] for s in record["shots"]] == ["start", "cut", "cut"]
    assert record["shots"][0]["end_pts"] == ticks[30]
    assert record["shots"][-1]["end_pts"] > ticks[-1]


def test_two_runs_find_the_same(tmp_path: Path) -> None:
    path = film_of_three(tmp_path / "a.mp4", STEADY)
    results = []
    for side in ("one", "two"):
        _, (record,) = probe(tmp_path / side, source(path))
        rows, (record,) = shots(tmp_path / side, record)
        timing = context(tmp_path / side).media.path(record["timing"]).read_bytes()
        results.append((rows, record["timing"], timing))
    assert results[0] == results[1]


def test_given_shots_are_exact_in_time(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    spans = [(0.0, 1.0), (1.0, 65 / 30), (2.5, 3.0)]
    _, (record,) = probe(tmp_path, source(path, spans))
    _, (record,) = shots(tmp_path, record)
    assert [(s["start_frame"], s["end_frame"]) for s in record["shots"]] == [
        (0, 30),
        (30, 65),
        (75, 90),
    ]
    assert [s["opened_by"] for s in record["shots"]] == ["given"] * 3


@pytest.mark.parametrize("spans", [[(0.0, 9.0)], [(0.0, 2.0), (1.0, 3.0)], [(5.0, 6.0)]])
def test_given_shots_outside_the_film_are_refused(tmp_path: Path, spans: list) -> None:
    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    _, (record,) = probe(tmp_path, source(path, spans))
    rows, records = shots(tmp_path, record)
    assert [(row.outcome, row.reason, records) for row in rows] == [("failed", "timeline", [])]


def test_given_without_a_timeline_is_refused_and_part_of_the_key(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    _, (record,) = probe(tmp_path, source(path))
    rows, _ = shots(tmp_path, record, detectors=(Given(),))
    assert (rows[0].outcome, rows[0].reason) == ("failed", "timeline")
    found = ShotsStage(ShotsConfig(), context(tmp_path))
    given = ShotsStage(ShotsConfig(detectors=(Given(),)), context(tmp_path))
    other = {**record, "timeline_sha256": "1" * 64, "path": "elsewhere"}
    assert found.key(record) == found.key(other)
    assert given.key(record) != given.key(other)


def test_detectors_combine_and_given_stands_alone() -> None:
    ShotsConfig(detectors=({"kind": "hash"}, {"kind": "histogram", "threshold": 0.3}))
    for wrong in ((), (Given(), Content()), ({"kind": "magic"},)):
        with pytest.raises(ValueError):
            ShotsConfig(detectors=wrong)


@pytest.mark.parametrize("kind", ["hash", "histogram", "content", "adaptive"])
def test_each_detector_finds_a_plain_cut(kind: str) -> None:
    scenes = np.concatenate([camera(60, 30), camera(61, 30)])
    detectors = list(ShotsConfig(detectors=({"kind": kind},)).detectors)
    found = find_boundaries(small(scenes), 25.0, detectors, CutTest(), BlendTest())
    assert [(b.kind, b.start) for b in found] == [("cut", 30)]


def test_damage_is_counted(tmp_path: Path) -> None:
    """Bytes overwritten in the middle of the pictures: some go missing, and that is said."""
    path = film_of_three(tmp_path / "a.mp4", STEADY)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(data)
    row, records = probe(tmp_path, source(path))
    assert records, row
    rows, records = shots(tmp_path, records[0])
    assert [(row.outcome, row.reason, records) for row in rows] == [("failed", "corrupt", [])]
    assert "of 90 pictures" in str(rows[0].message)
    assert not (tmp_path / "media" / "timing").exists()


def test_packets_that_decode_to_nothing_are_no_frames(tmp_path: Path) -> None:
    ticks = list(range(0, 3000, 40))
    path = counter_film(tmp_path / "a.mkv", ticks, Fraction(1, 1000), codec="mpeg4")
    _, (record,) = probe(tmp_path, source(path))
    data = path.read_bytes().replace(b"\x00\x00\x01\xb6", b"\x00\x00\x01\x00")
    path.write_bytes(data)
    rows, records = shots(tmp_path, record)
    assert [(row.outcome, row.reason, records) for row in rows] == [("failed", "no_frames", [])]


def test_an_all_black_film_has_no_shots(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", np.zeros((60, 96, 96, 3), np.uint8), STEADY[:60], BASE)
    _, (record,) = probe(tmp_path, source(path))
    rows, records = shots(tmp_path, record)
    assert [(row.outcome, row.reason, records) for row in rows] == [("filtered", "no_shots", [])]


def test_identity_holds_what_decides_and_no_limits(tmp_path: Path) -> None:
    base = ShotsStage(ShotsConfig(), context(tmp_path)).fingerprint
    assert (
        ShotsStage(ShotsConfig(timeout=9.0, memory=1 << 33), context(tmp_path)).fingerprint == base
    )
    others = (
        ShotsConfig(detectors=(Content(), Adaptive(ratio=3.0), Threshold())),
        ShotsConfig(cuts=CutTest(ratio=2.0)),
        ShotsConfig(blends=BlendTest(area=0.6)),
        ShotsConfig(max_lost=0.1),
    )
    for config in others:
        assert ShotsStage(config, context(tmp_path)).fingerprint != base

"""Clips show the right pictures, the right way up, at the right size - or there are none."""

import itertools
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from films import (
    clips,
    context,
    counter,
    counter_film,
    probe,
    read_counter,
    shots,
    source,
    through,
    write_film,
)
from scenes import camera

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.video import encode_video, read_video
from stages.clips import ClipsConfig, ClipsStage
from stages.cutting.normalising import bucket, filters
from stages.cutting.windows import split
from stages.reading.media_time import read_timing, sample, write_timing

CLOCK = Clock()


def steady(rate: Fraction | int, base: Fraction, frames: int, start: int = 0) -> list[int]:
    return [start + round(n / Fraction(rate) / base) for n in range(frames)]


def uneven(frames: int) -> list[int]:
    gaps = np.random.default_rng(1).choice([305, 1912, 2400, 9000, 30000], frames - 1)
    return [0, *np.cumsum(gaps).tolist()]


BASE = Fraction(1, 90000)
FILMS = {
    "cfr24": ("a.mp4", steady(24, BASE, 96), BASE, {}),
    "cfr25": ("a.mp4", steady(25, BASE, 100), BASE, {}),
    "cfr30": ("a.mp4", steady(30, BASE, 120), BASE, {}),
    "ntsc": ("a.mp4", steady(Fraction(30000, 1001), BASE, 120), BASE, {}),
    "cfr60": ("a.mp4", steady(60, BASE, 240), BASE, {}),
    "slow": ("a.mp4", steady(5, BASE, 20), BASE, {}),
    "vfr": ("a.mp4", uneven(80), Fraction(1, 57600), {}),
    "no b-frames": ("a.mp4", steady(30, BASE, 120), BASE, {"options": {"bf": "0"}}),
    "many b-frames": ("a.mp4", steady(30, BASE, 120), BASE, {"options": {"bf": "5", "g": "40"}}),
    "open gop": (
        "a.mp4",
        steady(30, BASE, 120),
        BASE,
        {"options": {"x264-params": "open-gop=1:keyint=20"}},
    ),
    "starts later": ("a.mp4", steady(30, BASE, 120, start=126000), BASE, {}),
    "millisecond ticks": ("a.mkv", steady(24, BASE, 96), BASE, {}),
    "transport stream": ("a.ts", steady(25, BASE, 100, start=45000), BASE, {"muxer": "mpegts"}),
    "avi of mpeg4": ("a.avi", list(range(100)), Fraction(1, 25), {"codec": "mpeg4"}),
}


@pytest.mark.parametrize("kind", FILMS)
def test_every_frame_is_the_picture_on_show(tmp_path: Path, kind: str) -> None:
    """The numbers burned into the pictures, against times known before there was a film."""
    name, ticks, base, more = FILMS[kind]
    path = counter_film(tmp_path / name, ticks, base, **more)
    times = [tick * base for tick in ticks]
    begin = float(times[0] + (times[-1] - times[0]) / 10)
    (record,) = through(tmp_path, path, [(begin, float(times[-1]))], max_seconds=30.0)
    frames = read_video(context(tmp_path).media.path(record["clip"]))
    assert len(frames) == CLOCK.frames(record["chunks"])
    first = next(n for n, time in enumerate(times) if time >= Fraction(begin) - Fraction(1, 2000))
    slack = Fraction(1, 1000)
    for j, frame in enumerate(frames):
        shown = read_counter(frame)
        time = times[first] + Fraction(j, CLOCK.fps)
        # The times of the film's maker, and a millisecond where the container rounded them.
        assert times[shown] <= time + slack, (kind, j, shown)
        assert shown == len(times) - 1 or times[shown + 1] > time - slack, (kind, j, shown)
    assert abs(record["start"] - float(times[first])) < 1e-3


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_rotated_films_stand_upright(tmp_path: Path, quarter: int) -> None:
    wide = [np.concatenate([counter(n), np.full((96, 48, 3), 60, np.uint8)], 1) for n in range(60)]
    stored = [np.rot90(picture, -quarter) for picture in wide]
    path = write_film(tmp_path / "a.mp4", stored, steady(30, BASE, 60), BASE, rotation=90 * quarter)
    row, (record,) = probe(tmp_path, source(path, [(0.0, 2.0)]))
    assert (row.columns["width"], row.columns["height"]) == (144, 96)
    assert row.columns["rotation"] in (90, 180, 270)
    _, (record,) = shots(tmp_path, record)
    _, (clip,) = clips(tmp_path, record, buckets=((144, 96),))
    frames = read_video(context(tmp_path).media.path(clip["clip"]))
    assert frames.shape[1:] == (96, 144, 3)
    assert [read_counter(frame[:, :96]) for frame in frames[:17:8]] == [0, 15, 30]


def test_wide_pixels_become_square(tmp_path: Path) -> None:
    """96x96 pixels of 4:3 are 128x96: scaled to cover and cropped, the middle of it is seen."""
    flat = np.full((96, 96, 3), 30, np.uint8)
    flat[24:72, 30:66] = 220  # 48 lines by 36 columns of 4:3 pixels: a square
    path = write_film(
        tmp_path / "a.mp4", [flat] * 60, steady(30, BASE, 60), BASE, pixel_aspect=Fraction(4, 3)
    )
    (clip,) = through(tmp_path, path, [(0.0, 2.0)], buckets=((96, 96), (192, 144)))
    assert (clip["width"], clip["height"]) == (192, 144)
    frame = read_video(context(tmp_path).media.path(clip["clip"]))[0].mean(2) > 128
    assert abs(frame.any(1).sum() - 72) <= 2 and abs(frame.any(0).sum() - 72) <= 2


def test_pictures_are_cropped_and_never_stretched(tmp_path: Path) -> None:
    """A disc stays a disc in every bucket."""
    y, x = np.mgrid[0:120, 0:200]
    disc = np.where(((x - 100) ** 2 + (y - 60) ** 2 < 40**2)[..., None], 220, 30)
    pictures = [disc.astype(np.uint8).repeat(3, 2)] * 40
    path = write_film(tmp_path / "a.mp4", pictures, steady(20, BASE, 40), BASE)
    _, (probed,) = probe(tmp_path, source(path, [(0.0, 2.0)]))
    _, (record,) = shots(tmp_path, probed)
    for size in ((320, 192), (96, 96), (64, 128), (144, 80), (72, 48)):
        _, (clip,) = clips(tmp_path, record, buckets=(size,))
        frame = read_video(context(tmp_path).media.path(clip["clip"]))[0].mean(2) > 128
        assert frame.shape == size[::-1]
        scale = max(size[0] / 200, size[1] / 120)
        expected = [min(side, 80 * scale) for side in size]
        assert abs(frame.any(0).sum() - expected[0]) <= 3, size
        assert abs(frame.any(1).sum() - expected[1]) <= 3, size


def test_a_world_is_cut_without_loss(tmp_path: Path) -> None:
    """rgb_lossless, a bucket of the film's own size: the very pixels."""
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 256, (130, 24, 24, 3), np.uint8)
    path = write_film(
        tmp_path / "a.mp4", pictures, [1024 * n for n in range(130)], Fraction(1, 16384),
        codec="libx264rgb", pixels="rgb24", options={"qp": "0"},
    )  # fmt: skip
    records = through(
        tmp_path,
        path,
        [(0.0, 65 / 16), (65 / 16, 130 / 16)],
        buckets=((24, 24),),
        encoding="rgb_lossless",
        min_seconds=4.0,
    )
    assert [record["chunks"] for record in records] == [16, 16]
    for record, part in zip(records, (pictures[:65], pictures[65:]), strict=True):
        assert (read_video(context(tmp_path).media.path(record["clip"])) == part).all()


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", steady(30, BASE, 150), BASE)
    first = through(tmp_path / "one", path, [(0.0, 2.0), (2.0, 5.0)])
    second = through(tmp_path / "two", path, [(0.0, 2.0), (2.0, 5.0)])
    assert first == second and len(first) == 2
    for record in first:
        names = [context(tmp_path / side).media.path(record["clip"]) for side in ("one", "two")]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_what_memory_held_before_changes_no_byte(tmp_path: Path) -> None:
    """Clips are encoded in a worker that has done much else."""
    frames = camera(3, 60, speed=(2.0, 1.0), shake=1.0)[:, :120, :160]
    made = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        waste = [np.full(int(rng.integers(1, 300_000)), seed * 31, np.uint8) for _ in range(40)]
        del waste
        encode_video(tmp_path / "a.mp4", frames, 16)
        made.add(sha256_file(tmp_path / "a.mp4"))
    assert len(made) == 1


def test_another_setting_is_another_clip_and_the_same_key(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", steady(30, BASE, 60), BASE)
    _, (record,) = probe(tmp_path, source(path, [(0.0, 2.0)]))
    _, (record,) = shots(tmp_path, record)
    _, (small,) = clips(tmp_path, record, buckets=((96, 96),))
    _, (large,) = clips(tmp_path, record, buckets=((112, 112),))
    assert small["clip_id"] != large["clip_id"]
    stages = [
        ClipsStage(ClipsConfig(buckets=((size, size),)), context(tmp_path)) for size in (96, 112)
    ]
    assert stages[0].fingerprint != stages[1].fingerprint
    assert stages[0].key(record) == stages[1].key({**record, "path": "elsewhere", "uri": "x"})
    slow = ClipsStage(ClipsConfig(buckets=((96, 96),), timeout=999.0), context(tmp_path))
    assert slow.fingerprint == stages[0].fingerprint


def test_short_shots_say_so_and_need_no_decoding(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", steady(30, BASE, 60), BASE)
    _, (record,) = probe(tmp_path, source(path, [(0.0, 0.9), (0.9, 1.9)]))
    _, (record,) = shots(tmp_path, record)
    rows, records = clips(tmp_path, {**record, "path": str(tmp_path / "gone")})
    assert records == []
    assert [(row.outcome, row.reason, row.parent) for row in rows] == [
        ("filtered", "too_short", shot["shot_id"]) for shot in record["shots"]
    ]
    assert rows[0].score == pytest.approx(0.9) and "1.0 s" in str(rows[0].message)


def test_another_number_of_pictures_than_before_ends_all_shots(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", steady(30, BASE, 90), BASE)
    _, (record,) = probe(tmp_path, source(path, [(0.0, 1.5), (1.5, 3.0)]))
    _, (record,) = shots(tmp_path, record)
    timing = context(tmp_path).media.path(record["timing"])
    pts = read_timing(timing)
    for other in (pts[:-1], np.append(pts, pts[-1] + 3000)):
        write_timing(timing, other)
        rows, records = clips(tmp_path, record)
        assert records == []
        assert [(row.outcome, row.reason) for row in rows] == [("failed", "corrupt")] * 2
        assert "the second decoding gave" in str(rows[0].message)
        assert not list((tmp_path / "media" / "clips").rglob("*.mp4"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo started >> {log}; sleep 600", "timeout"),
        ("echo started >> {log}; kill -SEGV $$", "crash"),
    ],
)
def test_a_bad_child_is_put_away_after_a_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    path = counter_film(tmp_path / "a.mp4", steady(30, BASE, 60), BASE)
    _, (probed,) = probe(tmp_path, source(path, [(0.0, 2.0)]))
    _, (record,) = shots(tmp_path, probed)
    log, fake = tmp_path / "log", tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\n" + script.format(log=log) + "\n")
    fake.chmod(0o755)
    monkeypatch.setattr("stages.reading.foreign.ffmpeg", lambda: fake)
    monkeypatch.setattr("stages.reading.foreign.SECONDS_PER_PICTURE", 0.0)
    for run, unit in ((clips, record), (shots, probed)):
        log.unlink(missing_ok=True)
        rows, records = run(tmp_path, unit, timeout=0.4)
        assert records == []
        assert {(row.outcome, row.reason) for row in rows} == {("quarantined", reason)}
        assert len(log.read_text().splitlines()) == 2


@given(
    st.integers(1, 4000),
    st.integers(1, 40),
    st.integers(0, 60),
    st.sampled_from([(1, 90000), (1, 1000), (1001, 30000), (1, 30)]),
)
def test_windows_lie_in_the_shot_one_after_the_other(length, least, more, base) -> None:
    """Whole chunks within bounds, no overlap, nothing beyond the shot."""
    most, chunk, tick = least + more, Fraction(1, 4), Fraction(*base)
    start = 12345
    end = start + round(Fraction(length, 20) / tick)
    found = split(base, start, end, least, most, chunk)
    for at, chunks in found:
        assert least <= chunks <= most
        assert start <= at and (at - start) * tick + chunks * chunk < (end - start) * tick
    for (a, chunks), (b, _) in itertools.pairwise(found):
        assert a * tick + chunks * chunk < b * tick
    fits = (end - start) * tick > least * chunk + tick + Fraction(1, 1000)
    assert found or not fits
    if found:
        assert len({chunks for _, chunks in found}) == 1 and found[0][0] == start


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([1, 33, 500, 7000, 40_000]), min_size=1, max_size=12),
    st.sampled_from([1, 3]),
    st.integers(-1000, 1000),
)
def test_clips_of_slide_films_have_times_of_their_own(gaps, slower, start) -> None:
    """Whatever the pictures' times: a picture that stays long is in several clips, time in one."""
    base, chunk = (slower, 1000), Fraction(1, 4)
    pts = start + np.cumsum([0, *gaps])
    end = int(pts[-1]) + 500
    shot = {"shot_id": "s", "start_pts": int(pts[0]), "end_pts": end, "start": 0.0, "end": 1.0}
    config = ClipsConfig(min_seconds=2.0, max_seconds=16.0)
    stage = ClipsStage(config, context(Path("unused")))
    rows, windows = stage._windows({"time_base": base, "shots": [shot]})
    assert bool(rows) != bool(windows)
    ends = [w.start_pts + w.chunks * chunk / Fraction(*base) for w in windows]
    for this_end, following in zip(ends, windows[1:], strict=False):
        assert this_end < following.start_pts
    shown = [
        index
        for w in windows
        for index in sample(pts, base, w.start_pts, CLOCK.frames(w.chunks), CLOCK.fps)
    ]
    assert shown == sorted(shown)  # a film's pictures pass by once


def test_a_slide_film_gives_clips_of_different_names(tmp_path: Path) -> None:
    """The first picture stays for 40 of 42 seconds: it is all that the first two clips show."""
    ticks = [n * 90 for n in (0, 40_000, 40_500, 41_000)]
    path = counter_film(tmp_path / "a.mp4", ticks, BASE)
    records = through(tmp_path, path, [(0.0, 41.0)], min_seconds=2.0, max_seconds=16.0)
    assert len({record["clip_id"] for record in records}) == len(records) == 3
    for before, after in itertools.pairwise(records):
        assert before["end"] < after["start"]
    shown = [
        {read_counter(frame) for frame in read_video(context(tmp_path).media.path(record["clip"]))}
        for record in records
    ]
    assert shown == [{0}, {0}, {0, 1, 2}]


def test_long_shots_are_split_evenly() -> None:
    second = 16384
    found = split((1, second), 0, 40 * second, 24, 64, Fraction(1, 4))
    assert [(float(at) / second, k) for at, k in found] == [
        (0.0, 53), (pytest.approx(40 / 3, abs=1e-4), 53), (pytest.approx(80 / 3, abs=1e-4), 53),
    ]  # fmt: skip
    assert [k for _, k in split((1, second), 0, 16 * second + 1024, 24, 64, Fraction(1, 4))] == [64]
    # Two halves of 8.5 s would be too short for 12 s: one clip of 16 s, and the rest is left.
    assert [k for _, k in split((1, second), 0, 17 * second, 48, 64, Fraction(1, 4))] == [64]


def test_the_nearest_shape_wins() -> None:
    sizes = ((512, 288), (448, 336), (384, 384), (288, 512), (256, 144))
    for film, size in {
        (1920, 1080): (512, 288),
        (320, 180): (256, 144),
        (640, 480): (448, 336),
        (1080, 1920): (288, 512),
        (3026, 1386): (512, 288),
        (161, 121): (448, 336),
    }.items():
        assert bucket(*film, sizes) == size


def test_bright_hdr_becomes_white_and_sdr_is_left_alone(tmp_path: Path) -> None:
    """BT.2408: reference white of 203 cd/m2 is the PQ signal .58, and becomes nearly white."""
    sdr = {"width": 96, "height": 96, "transfer": "sdr", "matrix": "bt709"}
    assert "tonemap" not in filters(sdr, 96, 96, "yuv420p")
    grey = [np.full((96, 96, 3), round(level * 255), np.uint8) for level in (0.0, 0.3, 0.58, 0.9)]
    path = write_film(
        tmp_path / "a.mp4", [g for g in grey for _ in range(16)], steady(16, BASE, 64), BASE,
        pixels="yuv420p10le", colour={"color_trc": 16, "color_primaries": 9, "colorspace": 9},
    )  # fmt: skip
    row, _ = probe(tmp_path, source(path))
    assert row.columns["transfer"] == "pq" and row.columns["matrix"] == "bt2020"
    (clip,) = through(tmp_path, path, [(0.0, 4.0)])
    frames = read_video(context(tmp_path).media.path(clip["clip"]))
    black, dim, white, glare = (frames[i].mean() for i in (4, 20, 36, 52))
    assert black < 12 and 20 < dim < 110 and 170 < white <= 250 and white < glare <= 255


def test_hdr_of_odd_covering_size_is_mapped_too(tmp_path: Path) -> None:
    """96 x 86 covers 90 x 64 as 90 x 81, which subsampled chroma cannot be."""
    pictures = [np.full((86, 96, 3), 150, np.uint8)] * 32
    path = write_film(
        tmp_path / "a.mp4", pictures, steady(16, BASE, 32), BASE,
        pixels="yuv420p10le", colour={"color_trc": 16, "color_primaries": 9, "colorspace": 9},
    )  # fmt: skip
    (clip,) = through(tmp_path, path, [(0.0, 2.0)], buckets=((90, 64),))
    assert read_video(context(tmp_path).media.path(clip["clip"])).shape[1:] == (64, 90, 3)


def test_colours_stay_what_they_are(tmp_path: Path) -> None:
    """BT.709 that says so, and a small untagged film, which is BT.601 like all such films."""
    colours = np.array([[250, 20, 20], [20, 240, 30], [30, 30, 250], [200, 200, 30]], np.uint8)
    patches = np.kron(colours.reshape(2, 2, 3), np.ones((48, 48, 1), np.uint8))
    encode_video(tmp_path / "tagged.mp4", [patches] * 40, 16)
    write_film(tmp_path / "plain.mp4", [patches] * 40, steady(16, BASE, 40), BASE)
    for name, matrix in (("tagged.mp4", "bt709"), ("plain.mp4", "bt601")):
        folder = tmp_path / matrix
        row, _ = probe(folder, source(tmp_path / name))
        assert row.columns["matrix"] == matrix
        (clip,) = through(folder, tmp_path / name, [(0.0, 2.0)])
        frame = read_video(context(folder).media.path(clip["clip"]))[8]
        seen = frame[24::48, 24::48].reshape(4, 3).astype(int)
        assert abs(seen - colours).max() <= 8, (name, seen)


def test_hopeless_settings_are_refused() -> None:
    for wrong in (
        {"min_seconds": 9.0, "max_seconds": 8.0},
        {"buckets": ()},
        {"buckets": ((97, 96),)},
        {"nonsense": 1},
    ):
        with pytest.raises(ValueError):
            ClipsConfig(**wrong)
    ClipsConfig(buckets=((97, 96),), encoding="rgb_lossless")


def test_a_film_that_changes_its_size_midway_keeps_every_picture(tmp_path: Path) -> None:
    """Broadcasts do this; ffmpeg builds its filters anew, and must neither lose nor repeat any."""
    ticks = steady(30, BASE, 120, start=9000)
    parts = [
        write_film(
            tmp_path / f"{n}.ts",
            [np.kron(counter(60 * n + i), np.ones((n + 1, n + 1, 1), np.uint8)) for i in range(60)],
            ticks[60 * n : 60 * n + 60],
            BASE,
            muxer="mpegts",
        )
        for n in (0, 1)
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    (record,) = through(tmp_path, path, [(0.1, 4.0)])
    frames = read_video(context(tmp_path).media.path(record["clip"]))
    assert [read_counter(frame) for frame in frames] == [30 * j // 16 for j in range(len(frames))]


def test_odd_sizes_survive_without_loss(tmp_path: Path) -> None:
    pictures = np.random.default_rng(4).integers(0, 256, (40, 33, 27, 3), np.uint8)
    path = write_film(
        tmp_path / "a.mp4", pictures, [1024 * n for n in range(40)], Fraction(1, 16384),
        codec="libx264rgb", pixels="rgb24", options={"qp": "0"},
    )  # fmt: skip
    (record,) = through(tmp_path, path, [(0.0, 2.5)], buckets=((27, 33),), encoding="rgb_lossless")
    frames = read_video(context(tmp_path).media.path(record["clip"]))
    assert (frames == pictures[: len(frames)]).all() and len(frames) == 37


def test_a_length_that_the_clock_cannot_hold_is_refused_before_any_film_is_opened(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"4\.1 s is not a whole number of chunks"):
        ClipsStage(ClipsConfig(max_seconds=4.1, min_seconds=2.0), context(tmp_path))

"""Time is right: a clip's frame is the picture on show at its time, in films of every making.

The pictures show their number (`films.counter`). An independent reader (PyAV, which decodes the
film from its beginning) says when each is on show, and is held against the maker's own times.
"""

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from films import context, counter, probe, read_counter, source, write_film

from corpus.clock import Clock
from corpus.video import ffmpeg, read_video
from stages.clips import ClipsConfig, ClipsStage
from stages.reading.media_time import read_timing
from stages.shots import Given, ShotsConfig, ShotsStage
from stages.stage import Record

FPS = Clock().fps
MILLISECOND = Fraction(1, 1000)  # containers round times to their ticks
Shown = list[tuple[Fraction, int]]  # when a picture begins to be on show, and its number


def tool(*words: str | Path, pictures: Sequence[np.ndarray] = ()) -> bytes:
    """Run ffmpeg, as the people do whose films we get; returns what it wrote to stdout."""
    data = b"".join(picture.tobytes() for picture in pictures)
    command = [str(ffmpeg()), "-y", "-v", "error", *map(str, words)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def encode(path: Path, rate: str, count: int, *options: str, size: str = "96:96") -> Path:
    """Numbered pictures at a constant rate, stretched to a size."""
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "96x96", "-r", rate, "-i", "-")
    pictures = [counter(number) for number in range(count)]
    scale = ("-vf", f"scale={size}:flags=neighbor", "-threads", "1")
    pixels = () if "-pix_fmt" in options else ("-pix_fmt", "yuv420p")
    tool(*raw, *scale, *pixels, *options, path, pictures=pictures)
    return path


def reader(path: Path, quarters: int = 0) -> Shown:
    """What PyAV says: every picture's time, and the number that it shows when turned upright."""
    shown = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = np.rot90(frame.to_ndarray(format="rgb24"), quarters)
            assert frame.pts is not None and frame.time_base is not None
            shown.append((frame.pts * frame.time_base, read_counter(picture)))
    return shown


def check(folder: Path, path: Path, truth: Shown, cuts: Sequence[int], **config: Any) -> None:
    """Cut a film at these of its pictures: every frame of every clip must be the true one."""
    for clip in clips_of(folder, path, [time for time, _ in truth], cuts, **config):
        frames = read_video(context(folder).media.path(clip["clip"]))
        assert len(frames) == 1 + 4 * clip["chunks"]
        for j, frame in enumerate(frames):
            time = clip["start_pts"] * Fraction(*clip["time_base"]) + Fraction(j, FPS)
            assert read_counter(frame) in on_show(truth, time), (float(time), j)


def clips_of(
    folder: Path, path: Path, truth: Sequence[Fraction], cuts: Sequence[int], **config: Any
) -> list[Record]:
    """Clips of a film cut at these of its pictures, which must be on show at the true times.

    They are cut twice, from a reel (`reading.reels`) and by decoding the film: to the same bytes.
    """
    _, (record,) = probe(folder, source(path))
    sidecar = source(path, [(float(max(truth[0], Fraction(0))), float(truth[-1]))])
    bounds = {"min_seconds": 0.25, "max_seconds": 30.0, "buckets": ((96, 96),)}
    finding = ShotsStage(ShotsConfig(detectors=(Given(),)), context(folder))
    cutting = ClipsStage(ClipsConfig(**bounds | config), context(folder))
    cutting.agree({"shots": finding})
    record = {**record, "timeline": sidecar["timeline"]}
    (rows,) = finding.process([finding.seen(record)])
    assert finding.advance(record, rows), rows
    (record,) = finding.advance(record, rows)
    pts, tick = read_timing(context(folder).media.path(record["timing"])), record["time_base"]
    times = [int(time) * Fraction(*tick) for time in pts]
    assert len(times) == len(truth)
    assert all(abs(a - b) <= MILLISECOND for a, b in zip(times, truth, strict=True))
    shot = {"start": 0.0, "end": 0.0}
    record["shots"] = [
        {**shot, "shot_id": str(a), "start_pts": int(pts[a]), "end_pts": int(pts[b])}
        for a, b in pairwise([0, *cuts, len(pts) - 1])
    ]
    assert cutting.reel(record).frames(len(pts)) is not None, "there is a reel"
    (rows,) = cutting.process([cutting.seen(record)])
    assert cutting.reel(record).frames(len(pts)) is None, "and it was used"
    (decoded,) = cutting.process([cutting.seen(record)])
    assert decoded == rows, "clip_sha256 and all"
    clips = cutting.advance(record, rows)
    assert clips, rows
    return clips


def on_show(truth: Shown, time: Fraction) -> set[int]:
    """Numbers that may be seen at a time, give or take a millisecond."""
    ends = [start for start, _ in truth[1:]] + [truth[-1][0] + 60]
    return {
        number
        for (start, number), end in zip(truth, ends, strict=True)
        if start <= time + MILLISECOND and time - MILLISECOND < end
    }


def steady(truth: Shown, rate: Fraction) -> bool:
    """Whether the reader's times are the maker's: number n at n / rate, from some moment on."""
    start, number = truth[0]
    return all(
        abs(time - start - (n - number) / rate) <= 2 * MILLISECOND for time, n in truth
    ) and all(b == a + 1 for (_, a), (_, b) in pairwise(truth))


def assert_known(truth: Shown, times: Sequence[Fraction]) -> None:
    """The reader sees all of the maker's pictures, at the maker's times."""
    assert [number for _, number in truth] == list(range(len(times)))
    assert all(abs(a - b) <= MILLISECOND for (a, _), b in zip(truth, times, strict=True))


X264 = ("-c:v", "libx264", "-preset", "veryfast")
X265 = ("-c:v", "libx265", "-preset", "ultrafast")
BT2020 = ("-color_primaries", "bt2020", "-colorspace", "bt2020nc")
MADE: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "23.976 in mkv": ("a.mkv", "24000/1001", X264),
    "29.97 in ts": ("a.ts", "30000/1001", X264),
    "50 in webm": ("a.webm", "50", ("-c:v", "libvpx", "-auto-alt-ref", "1")),
    "59.94 in mp4": ("a.mp4", "60000/1001", X264),
    "120 in mkv": ("a.mkv", "120", X264),
    "coarse ticks": ("a.mp4", "25", (*X264, "-video_track_timescale", "25")),
    "fine ticks": ("a.mov", "30", (*X264, "-video_track_timescale", "1000000")),
    "fragments": ("a.mp4", "30", (*X264, "-movflags", "frag_keyframe+empty_moov")),
    "no edit list": ("a.mp4", "30", (*X264, "-bf", "3", "-use_editlist", "0")),
    "negative offsets": ("a.mp4", "30", (*X264, "-bf", "3", "-movflags", "negative_cts_offsets")),
    "starts late": ("a.mp4", "30", (*X264, "-output_ts_offset", "3.21")),
    "starts late in flv": ("a.flv", "25", (*X264, "-output_ts_offset", "1.5")),
    "hidden pictures": ("a.webm", "30", ("-c:v", "libvpx-vp9", "-auto-alt-ref", "1",
                        "-lag-in-frames", "16", "-cpu-used", "8")),
    "av1": ("a.mp4", "30", ("-c:v", "libsvtav1", "-preset", "12", "-crf", "20")),
    "hevc, open gop": ("a.mp4", "30", (*X265, "-x265-params",
                       "log-level=none:open-gop=1:keyint=20")),
    "hevc in ts": ("a.ts", "30", (*X265, "-x265-params", "log-level=none:bframes=4")),
    "pyramid": ("a.mkv", "30", (*X264, "-x264-params", "b-pyramid=normal:bframes=8:b-adapt=0")),
    "interlaced h264": ("a.ts", "25", (*X264, "-x264-params", "interlaced=1:tff=1")),
    "interlaced mpeg2": ("a.mpg", "25", ("-c:v", "mpeg2video", "-q:v", "4", "-bf", "2",
                         "-flags", "+ildct+ilme")),
    "before zero": ("a.ts", "25", (*X264, "-output_ts_offset", "95441.9")),
    "wmv": ("a.wmv", "25", ("-c:v", "wmv2", "-q:v", "4")),
    "theora": ("a.ogv", "25", ("-c:v", "libtheora", "-q:v", "8")),
    "mxf": ("a.mxf", "25", ("-c:v", "mpeg2video", "-q:v", "4")),
    "mpeg4 in avi": ("a.avi", "24000/1001", ("-c:v", "mpeg4", "-q:v", "4", "-bf", "2")),
    "gif": ("a.gif", "20", ("-pix_fmt", "rgb8")),
    "pq": ("a.mp4", "24", (*X265, "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none",
           "-color_trc", "smpte2084", *BT2020)),
    "hlg": ("a.mkv", "24", (*X265, "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none",
            "-color_trc", "arib-std-b67", *BT2020)),
}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_every_frame_is_the_picture_on_show(tmp_path: Path, kind: str) -> None:
    name, rate, options = MADE[kind]
    count = min(90, int(3 * Fraction(rate)))
    truth = reader(encode(tmp_path / name, rate, count, *options))
    assert len(truth) == count and steady(truth, Fraction(rate))
    assert (truth[0][0] < 0) == (kind == "before zero")  # where the clock of 33 bits wraps
    check(tmp_path, tmp_path / name, truth, [count // 3, count // 2])


@pytest.mark.parametrize("at", ["0.9", "1.37"])
@pytest.mark.parametrize("options", [X264, (*X264, "-x264-params", "open-gop=1:keyint=24"), X265])
def test_a_copy_cut_shows_what_its_edit_list_says(
    tmp_path: Path, at: str, options: tuple[str, ...]
) -> None:
    """`-ss -c copy` keeps the pictures before the cut for decoding, and hides them."""
    quiet = ("-x265-params", "log-level=none:open-gop=1:keyint=24") if options is X265 else ()
    whole = encode(tmp_path / "whole.mp4", "30", 90, *options, *quiet)
    tool("-ss", at, "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    truth = reader(tmp_path / "cut.mp4")
    assert steady(truth, Fraction(30)) and 20 < truth[0][1] < 60
    check(tmp_path, tmp_path / "cut.mp4", truth, [len(truth) // 2])


@pytest.mark.parametrize("size", ["97:95", "63:131"])
def test_odd_sizes_show_the_same_pictures(tmp_path: Path, size: str) -> None:
    """Stretched, and cropped to a square again: the numbers of tall ones are no longer whole."""
    path = encode(tmp_path / "a.mkv", "25", 60, "-c:v", "ffv1", "-pix_fmt", "yuv444p", size=size)
    truth = reader(path)
    assert steady(truth, Fraction(25))
    width, height = map(int, size.split(":"))
    check(tmp_path, path, truth, [25], buckets=((width + width % 2, height + height % 2),))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotated_uneven_and_anamorphic_at_once(tmp_path: Path, quarters: int) -> None:
    """Stored lying, with pixels of 2:1, at uneven times, and bright: upright and in time."""
    gaps = np.random.default_rng(quarters).choice([1500, 3003, 12000], 79)
    ticks = [4000, *(4000 + np.cumsum(gaps)).tolist()]
    base = Fraction(1, 90000)
    stored = [np.rot90(counter(n), -quarters)[:, ::2] for n in range(80)]
    path = write_film(
        tmp_path / "a.mp4", stored, ticks, base, rotation=90 * quarters,
        pixel_aspect=Fraction(2), pixels="yuv420p10le", options={"bf": "3"},
        colour={"color_trc": 18, "color_primaries": 9, "colorspace": 9},
    )  # fmt: skip
    truth = reader(path, quarters)
    assert_known(truth, [tick * base for tick in ticks])
    row, _ = probe(tmp_path, source(path))
    assert (row.columns["width"], row.columns["height"]) == (96, 96)
    check(tmp_path, path, truth, [20, 50])


def test_the_clock_of_a_long_transport_stream_wraps_in_its_midst(tmp_path: Path) -> None:
    """33 bits of a 90 kHz clock are 26.5 hours; this film comes to their end after 80 s."""
    options = (*X264, "-g", "20", "-output_ts_offset", str(2**33 / 90000 - 80))
    path = encode(tmp_path / "a.ts", "3", 300, *options)
    truth = reader(path)
    assert len(truth) == 300 and steady(truth, Fraction(3))
    check(tmp_path, path, truth, [200, 230, 250], max_seconds=16.0)


@st.composite
def uneven(draw: st.DrawFn) -> tuple[list[int], Fraction, list[int]]:
    """Ticks of a film's pictures, the length of a tick, and where it is cut."""
    base = draw(st.sampled_from([Fraction(1, 90000), Fraction(1, 600), Fraction(1001, 30000)]))
    most = int(Fraction(1, 3) / base)
    gaps = draw(
        st.lists(st.integers(max(1, int(Fraction(2, 1000) / base)), most), min_size=12, max_size=60)
    )
    start = draw(st.integers(0, 3 * most))
    ticks = [start, *(start + np.cumsum(gaps)).tolist()]
    cuts = draw(st.sets(st.integers(1, len(ticks) - 2), max_size=3))
    return ticks, base, sorted(cuts)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    uneven(),
    st.sampled_from(["a.mp4", "a.mov", "a.mkv"]),
    st.sampled_from([{"bf": "0"}, {"bf": "4", "g": "15"}, {"x264-params": "open-gop=1:keyint=9"}]),
)
def test_uneven_films_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory,
    film: tuple[list[int], Fraction, list[int]],
    name: str,
    options: dict[str, str],
) -> None:
    ticks, base, cuts = film
    folder = tmp_path_factory.mktemp("uneven")
    pictures = (counter(n) for n in range(len(ticks)))
    path = write_film(folder / name, pictures, ticks, base, options=options)
    truth = [(tick * base, n) for n, tick in enumerate(ticks)]
    assert_known(reader(path), [time for time, _ in truth])
    if ticks[-1] - ticks[0] > 1 / base:
        check(folder, path, truth, cuts)


QUICK = ("androidx_bear_vp9.webm", "torchcodec_nasa_13013.mp4", "mediabunny_cursed_vfr.mp4")


def seen(path: Path, cover: str, size: tuple[int, int]) -> tuple[list[Fraction], np.ndarray]:
    """Times of a real film, by PyAV, and all its pictures, by ffmpeg: uint8 (T, H, W, 3)."""
    with av.open(str(path)) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    scale = f"scale={cover}:flags=bicubic,crop={size[0]}:{size[1]}"
    raw = ("-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    data = tool("-threads", "1", "-i", path, "-vf", scale, *raw)
    return times, np.frombuffer(data, np.uint8).reshape(len(times), size[1], size[0], 3)


def unlike(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two pictures in grey levels, after brightness and contrast of one are
    made the other's, which tone mapping changes; but black never becomes something."""
    x, y = a.astype(np.float32).ravel(), b.astype(np.float32).ravel()
    gain = min(2.0, max(0.5, float(y.std() / max(1.0, x.std()))))
    return float(np.abs((x - x.mean()) * gain - (y - y.mean())).mean())


def real_film(folder: Path, path: Path) -> None:
    """Cut a real film, whose pictures have no numbers, and compare pictures.

    Of all pictures around, the one on show must be as good as most like the clip's frame; and
    over all frames no picture before or after it may be more like.
    """
    row, _ = probe(folder, source(path))
    facts = row.columns
    short = 96 / min(facts["width"], facts["height"])
    cover = [round(facts[side] * short) for side in ("width", "height")]
    width, height = (side // 2 * 2 for side in cover)
    times, pictures = seen(path, f"{cover[0]}:{cover[1]}", (width, height))
    truth = list(zip(times, range(len(times)), strict=True))
    cuts = [len(times) // 3, len(times) // 2]
    moved: dict[int, list[float]] = {offset: [] for offset in range(-3, 4)}
    for clip in clips_of(folder, path, times, cuts, buckets=((width, height),), max_seconds=8.0):
        film = read_video(context(folder).media.path(clip["clip"]))
        for j in range(0, len(film), 3):
            time = clip["start_pts"] * Fraction(*clip["time_base"]) + Fraction(j, FPS)
            at = min(on_show(truth, time))
            near = [offset for offset in moved if 0 <= at + offset < len(times)]
            far = {n: unlike(pictures[at + n], film[j]) for n in near}
            right = min(far[n - at] for n in on_show(truth, time))
            assert right < min(far.values()) + 0.5, (path.name, float(time), at, far)
            for offset in near:
                moved[offset].append(far[offset] - right)
    worse = {offset: float(np.mean(by)) for offset, by in moved.items() if offset}
    assert min(worse.values()) > -0.01, (path.name, worse)  # slides look the same for long
    assert max(worse.values()) > 0.05, (path.name, worse)


@pytest.mark.parametrize("name", QUICK)
def test_real_films_are_in_time(tmp_path: Path, public_videos: Path, name: str) -> None:
    real_film(tmp_path, public_videos / name)


@pytest.mark.slow
def test_all_real_films_are_in_time(tmp_path: Path, public_videos: Path) -> None:
    paths = [path for path in public_videos.iterdir() if path.suffix in (".mp4", ".webm", ".avi")]
    for path in sorted(path for path in paths if path.name not in QUICK):
        real_film(tmp_path / path.stem, path)

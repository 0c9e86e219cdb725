"""What a decoder conceals is noticed, counted and cut away."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from films import clips, context, probe, shots, source
from scenes import Frames, camera

from corpus.video import ffmpeg, read_video
from stages.reading.damage import Damage, outside

PICTURES, GROUP = 120, 20
CODECS = {
    "h264.mp4": ("libx264", "-preset", "veryfast", "-bf", "0", "-x264-params", "scenecut=0"),
    "h264.ts": ("libx264", "-preset", "veryfast", "-bf", "0", "-x264-params", "scenecut=0"),
    "hevc.mkv": ("libx265", "-preset", "ultrafast", "-x265-params",
                 f"log-level=none:keyint={GROUP}:scenecut=0:open-gop=0:bframes=0"),
    "mpeg4.avi": ("mpeg4", "-q:v", "4"),
    "mpeg2.mkv": ("mpeg2video", "-q:v", "4", "-bf", "2"),
    "vp9.webm": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "2M"),
    "av1.mkv": ("libsvtav1", "-preset", "12", "-crf", "12"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> Frames:
    """A moving camera with a grainy film, so that every packet has some hundred bytes."""
    frames = camera(7, PICTURES, speed=(2.0, 1.0))[:, :96, :128]
    grain = np.random.default_rng(0).integers(-9, 10, frames.shape)
    return (frames + grain).clip(0, 255).astype(np.uint8)


def write(path: Path, frames: Frames, options: tuple[str, ...]) -> Path:
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-r", "30", "-i", "-")
    coded = ("-g", str(GROUP), "-threads", "1", "-pix_fmt", "yuv420p", "-c:v", *options)
    command = [str(ffmpeg()), "-y", "-v", "error", *raw, *coded, str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True, timeout=60)
    return path


def decoded(path: Path) -> Frames:
    raw = ("-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    command = [str(ffmpeg()), "-v", "quiet", "-threads", "1", "-i", str(path), *raw]
    data = subprocess.run(command, capture_output=True, timeout=60).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, 96, 128, 3)


def hurt(path: Path, *numbers: int, head: bool = False) -> Path:
    """Overwrite the midst of packets, so that they are decoded and wrong, or their heads."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        size = packets[number].size
        start, length = (0, 6) if head else (size // 2, size // 4)
        if path.suffix == ".ts":  # packets lie in pieces there; none is longer than this
            at = packets[number].pos + 100
        else:
            at = data.find(bytes(packets[number])) + start
        data[at : at + length] = b"\x5a" * length
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", CODECS)
def test_no_clip_shows_damage(tmp_path: Path, pictures: Frames, name: str) -> None:
    """Two packets in different groups are hurt: what they spoil is in no shot, the rest is."""
    path = write(tmp_path / name, pictures, CODECS[name])
    clean = decoded(path)
    assert len(clean) == PICTURES
    # Behind the heads of these, any bits make sense to their decoders: nothing could be noticed.
    hurt(path, 2 * GROUP + 7, 4 * GROUP + 3, head=name.startswith(("hevc", "vp9", "av1")))
    _, (record,) = probe(tmp_path, source(path))
    rows, (record,) = shots(tmp_path, record, max_lost=0.9)
    assert "damage" in {row.columns["opened_by"] for row in rows}
    # A decoder is some pictures late: it may tell of a lost one when the next group has begun.
    covered = sum(row.columns["end_frame"] - row.columns["start_frame"] for row in rows)
    assert PICTURES // 3 <= covered <= PICTURES - 4
    (counts,) = {(row.columns["decoded"], row.columns["damaged"]) for row in rows}
    assert PICTURES - 2 * GROUP <= counts[0] <= PICTURES and counts[0] - counts[1] == covered
    _, made = clips(tmp_path, record, min_seconds=0.25, buckets=((128, 96),))
    start = rows[0].columns["start"]
    for clip in made:
        frames = read_video(context(tmp_path).media.path(clip["clip"])).astype(int)
        for j, frame in enumerate(frames):
            number = int((clip["start"] - start + j / 16) * 30 + 0.05)
            off = abs(frame - clean[number]).mean()
            assert off < 4, (clip["start"], j, number)


def test_a_decoder_that_does_not_say_which_pictures_it_means_is_not_believed() -> None:
    damage = Damage()
    damage(b"[h264 @ 0x1] [warning] corrupt decoded frame\n")
    pts = np.arange(10, dtype=np.int64)
    assert damage.ranges(pts) == [(0, 10)]
    assert Damage().ranges(pts) == []


def test_damage_lasts_until_the_next_key_frame_and_begins_with_the_picture_before() -> None:
    damage = Damage()
    for number in range(12):
        if number in (3, 8):
            assert not damage(b"[dec:h264 @ 0x1] [warning] corrupt decoded frame\n")
        key = int(number % 5 == 0)
        line = f"[dec:h264] [info] decoder -> pts:{number * 40} pts_time:1.0 keyframe:{key} x:1\n"
        assert damage(line.encode())
    pts = np.arange(0, 480, 40, dtype=np.int64)
    assert damage.ranges(pts) == [(2, 5), (7, 10)]
    assert (damage.corrupt, damage.pictures) == (2, 12)


def test_what_is_left_of_a_shot() -> None:
    assert outside(0, 10, []) == [(0, 10)]
    assert outside(0, 10, [(2, 4), (6, 20)]) == [(0, 2), (4, 6)]
    assert outside(3, 10, [(0, 5)]) == [(5, 10)]
    assert outside(3, 5, [(0, 8)]) == []
    assert outside(6, 9, [(0, 3), (20, 30)]) == [(6, 9)]

"""Small films of our own making, in the containers and codecs that the world uses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
from scenes import camera

from corpus.video import ffmpeg

RATE = 24
PICTURES = 60
_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "24")
# name: encoder and muxer options
FILMS: dict[str, tuple[str, ...]] = {
    "h264.mp4": _X264,
    "h264-front.mp4": (*_X264, "-movflags", "faststart"),
    "h264-fragments.mp4": (*_X264, "-movflags", "frag_keyframe+empty_moov"),
    "h264.mkv": _X264,
    "h264.ts": _X264,
    "h264.flv": _X264,
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "av1.mp4": ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-q:v", "5", "-g", "24"),
    "mjpeg.mov": ("-c:v", "mjpeg", "-q:v", "5"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-q:v", "5", "-bf", "2"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-q:v", "5", "-flags", "+ildct+ilme"),
    "mpeg2.mxf": ("-c:v", "mpeg2video", "-q:v", "5"),
    "wmv2.wmv": ("-c:v", "wmv2", "-q:v", "5"),
    "theora.ogv": ("-c:v", "libtheora", "-q:v", "5"),
    "ffv1.mkv": ("-c:v", "ffv1"),
}


def pictures(seed: int) -> NDArray[np.uint8]:
    """uint8 (PICTURES, 96, 128, 3): a moving camera."""
    return camera(seed, PICTURES, speed=(2.0, 1.0))[:, :96, :128]


def make(folder: Path, names: tuple[str, ...] = tuple(FILMS)) -> list[Path]:
    """Write films into a folder, each of another scene; RuntimeError names one that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / name, seed, FILMS[name]) for seed, name in enumerate(names, start=100)]


def _write(path: Path, seed: int, options: tuple[str, ...]) -> Path:
    frames = pictures(seed)
    _, height, width, _ = frames.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(RATE)]
    command = [str(ffmpeg()), "-y", "-v", "error", *raw, "-i", "-", "-threads", "1", *options]
    if "-pix_fmt" not in options:
        command += ["-pix_fmt", "yuvj420p" if "mjpeg" in options else "yuv420p"]
    done = subprocess.run([*command, str(path)], input=frames.tobytes(), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{path.name}: {done.stderr.decode(errors='replace')[-500:]}")
    return path

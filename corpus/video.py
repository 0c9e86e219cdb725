"""Video files of our own making: written with one pinned ffmpeg, read back frame by frame.

Foreign files never come here; `stages.probe`, `stages.shots` and `stages.clips` open them in child
processes. What this module reads was written by `write_video`.
"""

import functools
import os
import subprocess
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import av
import decord
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from corpus.errors import UserError
from corpus.files import writing

Encoding = Literal["yuv420p", "rgb_lossless"]
Frames = NDArray[np.uint8]

# decord's get_batch fails where a row of RGB pixels does not fill whole 32-byte units.
DECORD_WIDTH_STEP = 32

_BT709 = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
_ARGUMENTS: dict[str, list[str]] = {
    "yuv420p": [
        *("-vf", _BT709, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "10"),
        *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
        *("-color_range", "tv"),
    ],
    # A 4-pixel sprite does not survive chroma subsampling.
    "rgb_lossless": ["-c:v", "libx264rgb", "-pix_fmt", "rgb24", "-qp", "0"],
}
_COMMON = ["-preset", "veryfast", "-g", "32", "-threads", "1", "-an", "-map_metadata", "-1"]
_EXACT = ["-flags:v", "+bitexact", "-fflags", "+bitexact", "-f", "mp4"]


@functools.cache
def ffmpeg() -> Path:
    """The ffmpeg to use: ``TV2TV_FFMPEG`` if set, else the binary of the imageio-ffmpeg wheel."""
    configured = os.environ.get("TV2TV_FFMPEG")
    if configured is None:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    path = Path(configured)
    if not os.access(path, os.X_OK) or path.is_dir():
        raise UserError(
            f"TV2TV_FFMPEG={configured} is no executable file: "
            "correct the path, or unset it to use the ffmpeg that comes with imageio-ffmpeg"
        )
    return path


@functools.cache
def ffmpeg_build() -> str:
    """Version line of `ffmpeg`; part of every clip's identity, since it decides the bytes."""
    run = subprocess.run([ffmpeg(), "-version"], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[0].split(" Copyright")[0].removeprefix("ffmpeg version ")


def encoder_arguments(encoding: Encoding) -> list[str]:
    """ffmpeg's output arguments for an encoding; part of every clip's identity."""
    return [*_ARGUMENTS[encoding], *_COMMON, *_EXACT]


def write_video(
    path: Path, frames: Iterable[Frames], fps: int, encoding: Encoding = "yuv420p"
) -> None:
    """Write an mp4, atomically; equal frames give equal bytes.

    Args:
        frames: uint8 (H, W, 3) RGB, all of one size, at least one; consumed as a stream.
        fps: constant frame rate.
        encoding: ``yuv420p`` is near-lossless (crf 10) and needs even sizes.
    """
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"{path}: a film needs at least one frame")
    height, width, _ = first.shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    with writing(path) as temporary:
        command = [str(ffmpeg()), "-v", "error", "-nostdin", *source, "-i", "pipe:0"]
        command += [*encoder_arguments(encoding), "-y", str(temporary)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            message = _feed(child, chain([first], stream), first.shape, path)
        except BaseException:
            child.kill()
            child.wait()
            raise
        if child.returncode:
            raise OSError(f"ffmpeg could not write {path}: {message.strip()}")


def _feed(
    child: "subprocess.Popen[bytes]", frames: Iterable[Frames], shape: tuple[int, ...], path: Path
) -> str:
    """Push frames into the encoder; return what it said on stderr."""
    assert child.stdin is not None and child.stderr is not None  # noqa: S101 - both are pipes
    try:
        for frame in frames:
            if frame.shape != shape or frame.dtype != np.uint8:
                raise ValueError(f"{path}: frame {frame.dtype} {frame.shape} among {shape}")
            child.stdin.write(np.ascontiguousarray(frame).data)
        child.stdin.close()
    except BrokenPipeError:
        pass  # the encoder died; its exit status and stderr say why
    message = child.stderr.read().decode(errors="replace")
    child.stderr.close()
    child.wait()
    return message


def read_video(path: Path, indices: Sequence[int] | None = None) -> Frames:
    """Frames of one of our own films.

    Args:
        indices: which frames, in any order; all of them by default.

    Returns:
        uint8 (T, H, W, 3) RGB.

    Raises:
        UserError: the file is missing, unreadable, or shorter than asked.
    """
    try:
        with av.open(str(path)) as container:
            if container.streams.video[0].width % DECORD_WIDTH_STEP:
                return _select(container, indices)
        reader = decord.VideoReader(str(path), num_threads=1)
        wanted = range(len(reader)) if indices is None else indices
        return reader.get_batch(list(wanted)).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read back ({error}): delete it and run again") from error


def count_frames(path: Path) -> int:
    """Frames of one of our own films, from its index."""
    with av.open(str(path)) as container:
        return container.streams.video[0].frames


def _select(container: av.container.InputContainer, indices: Sequence[int] | None) -> Frames:
    frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames if indices is None else [frames[i] for i in indices])

"""Video files of our own making: written with one pinned encoder, read back frame by frame.

Foreign files never come here; `stages.probe`, `stages.shots` and `stages.clips` open them in child
processes. What this module reads was written by `write_video`.
"""

import functools
import os
import subprocess
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import av
import cv2  # noqa: F401 - ahead of decord, whose old zlib breaks OpenCV's PNG reader otherwise
import decord
import imageio_ffmpeg
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.filter import Graph
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from corpus.errors import UserError
from corpus.files import writing

Encoding = Literal["yuv420p", "rgb_lossless"]
READERS = (av, decord)  # whose builds decide what `read_video` gives
Frames = NDArray[np.uint8]

# decord's get_batch fails where a row of RGB pixels does not fill whole 32-byte units.
DECORD_WIDTH_STEP = 32

BT709 = "out_color_matrix=bt709:out_range=tv"  # of ffmpeg's filter scale
_BT709 = f"{BT709}:flags=bicubic+accurate_rnd+full_chroma_int"
# Near-lossless, and fast both ways: what the preset veryfast gives at crf 12, in a third of the
# time, read back in half (docs/benchmarks.md).
# x264's macroblock tree reads memory that it has not written: equal frames, other bytes.
_NEAR_LOSSLESS = {
    **{"preset": "ultrafast", "crf": "15"},
    "x264-params": "mbtree=0:8x8dct=1:deblock=1:subme=1",
}
# encoder, pixel format, options
_ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "yuv420p": ("libx264", "yuv420p", _NEAR_LOSSLESS),
    # A 4-pixel sprite does not survive chroma subsampling.
    "rgb_lossless": ("libx264rgb", "rgb24", {"preset": "veryfast", "qp": "0"}),
}
_COMMON = {"g": "32", "threads": "1"}
_H273_BT709, _H273_LIMITED = 1, 1


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
    """Version line of `ffmpeg`; part of every clip's identity, since it decides the pixels."""
    run = subprocess.run([ffmpeg(), "-version"], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[0].split(" Copyright")[0].removeprefix("ffmpeg version ")


def encoder_arguments(encoding: Encoding) -> list[str]:
    """Encoder, its build and its settings; part of every clip's identity."""
    name, pixels, options = _ENCODERS[encoding]
    settings = [f"{key}={value}" for key, value in sorted({**options, **_COMMON}.items())]
    scale = [_BT709] if pixels == "yuv420p" else []
    build = ".".join(map(str, av.library_versions["libavcodec"]))
    return [name, pixels, *settings, *scale, f"av={av.__version__}", f"libavcodec={build}"]


def write_video(
    path: Path, frames: Iterable[Frames], fps: int, encoding: Encoding = "yuv420p"
) -> None:
    """Write an mp4, atomically; equal frames give equal bytes. See `encode_video`."""
    with writing(path) as temporary:
        encode_video(temporary, frames, fps, encoding)


def encode_video(
    path: Path, frames: Iterable[Frames], fps: int, encoding: Encoding = "yuv420p"
) -> None:
    """Write an mp4 to a path that is the caller's to keep or to remove.

    In this process and on one thread: a child would cost more than a small clip, and threads
    would change the bytes.

    Args:
        frames: uint8, all of one size, at least one; consumed as a stream. RGB (H, W, 3), or
            what `piped` says: pictures that are YUV already are not taken through RGB.
        fps: constant frame rate.
        encoding: ``yuv420p`` is near-lossless and needs even sizes.
    """
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"{path}: a film needs at least one frame")
    try:
        exact = {"fflags": "+bitexact"}
        with av.open(str(path), "w", format="mp4", options=exact) as container:
            pixels, planar = piped(encoding, *_size(first))[0], first.ndim == 2
            track = _track(container, _size(first), fps, encoding)
            convert = None if pixels == "rgb24" or planar else _to_yuv(first.shape, fps)
            for number, frame in enumerate(chain([first], stream)):
                if frame.shape != first.shape or frame.dtype != np.uint8:
                    raise ValueError(
                        f"{path}: frame {frame.dtype} {frame.shape} among {first.shape}"
                    )
                picture = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(frame), format=pixels if planar else "rgb24"
                )
                picture.pts, picture.time_base = number, Fraction(1, fps)
                if convert is not None:
                    convert.vpush(picture)
                    picture = convert.vpull()
                container.mux(track.encode(picture))
            container.mux(track.encode(None))
    except av.FFmpegError as error:
        raise OSError(error.errno, f"ffmpeg could not write {path}: {error}") from error


def piped(encoding: Encoding, width: int, height: int) -> tuple[str, tuple[int, ...]]:
    """Pixel format in which pictures for an encoding are piped, and the shape of one.

    ``yuv420p`` is BT.709 in limited range: uint8 (H * 3 / 2, W), the planes one after the other.
    """
    if encoding == "yuv420p":
        return "yuv420p", (height * 3 // 2, width)
    return "rgb24", (height, width, 3)


def _size(frame: Frames) -> tuple[int, int]:
    """(width, height) of RGB or of planes."""
    return frame.shape[1], frame.shape[0] if frame.ndim == 3 else frame.shape[0] * 2 // 3


def _track(
    container: OutputContainer, size: tuple[int, int], fps: int, encoding: Encoding
) -> VideoStream:
    name, pixels, options = _ENCODERS[encoding]
    track = container.add_stream(name, rate=fps, options={**options, **_COMMON})
    assert isinstance(track, VideoStream)  # noqa: S101 - both encoders are of video
    track.width, track.height = size
    track.pix_fmt = pixels
    codec = track.codec_context
    codec.thread_count = 1
    codec.flags |= Flags.bitexact
    if encoding == "yuv420p":
        codec.colorspace = codec.color_primaries = codec.color_trc = _H273_BT709
        codec.color_range = _H273_LIMITED
    return track


def _to_yuv(shape: tuple[int, ...], fps: int) -> Graph:
    """RGB to BT.709 in limited range, with the chroma where decoders expect it."""
    graph = Graph()
    height, width, _ = shape
    nodes = [
        graph.add_buffer(
            width=width,
            height=height,
            format=av.VideoFormat("rgb24"),
            time_base=Fraction(1, fps),
        ),
        graph.add("scale", _BT709),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


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
        raise UserError(
            f"{path} cannot be read back ({error}): delete it and run again, which makes it anew"
        ) from error


def count_frames(path: Path) -> int:
    """Frames of one of our own films, from its index."""
    with av.open(str(path)) as container:
        return container.streams.video[0].frames


def _select(container: av.container.InputContainer, indices: Sequence[int] | None) -> Frames:
    # One converter for all, on one thread: each frame's own would start a pool of threads for it.
    convert = VideoReformatter()
    frames = [
        convert.reformat(frame, format="rgb24", threads=1).to_ndarray()
        for frame in container.decode(video=0)
    ]
    return np.stack(frames if indices is None else [frames[i] for i in indices])

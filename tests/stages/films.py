"""Films that carry their own truth: every picture shows its number as bits that survive coding."""

import os
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from corpus.clock import Clock
from corpus.ids import video_id
from corpus.layout import Media
from corpus.rows import Row
from corpus.timeline import Span, Timeline, write_timeline
from stages.clips import ClipsConfig, ClipsStage
from stages.probe import ProbeConfig, ProbeStage
from stages.shots import Given, ShotsConfig, ShotsStage
from stages.stage import Context, Record

Frames = NDArray[np.uint8]

GRID = 4  # cells each way; three corners tell which way is up, the others are bits
CELL = 24  # pixels
CORNERS = {0: True, GRID - 1: False, GRID * GRID - GRID: False}
BITS = [cell for cell in range(GRID * GRID) if cell not in CORNERS]


def counter(number: int) -> Frames:
    """uint8 (96, 96, 3): the number as white and black cells."""
    cells = np.zeros(GRID * GRID, bool)
    for cell, value in CORNERS.items():
        cells[cell] = value
    for place, cell in enumerate(BITS):
        cells[cell] = bool(number >> place & 1)
    picture = np.kron(cells.reshape(GRID, GRID), np.ones((CELL, CELL))) * 200 + 25
    return np.repeat(picture[..., None], 3, axis=2).astype(np.uint8)


def read_counter(picture: Frames) -> int:
    """The number that an upright square picture of any size shows; -1 when it is not upright."""
    height, width, _ = picture.shape
    y, x = ((np.arange(GRID) + 0.5) * side / GRID for side in (height, width))
    cells = picture[np.ix_(y.astype(int), x.astype(int))].mean(2).ravel() > 128
    if any(cells[cell] != value for cell, value in CORNERS.items()):
        return -1
    return sum(1 << place for place, cell in enumerate(BITS) if cells[cell])


def write_film(
    path: Path,
    pictures: Iterable[Frames],
    ticks: Sequence[int],
    time_base: Fraction,
    codec: str = "libx264",
    rotation: int = 0,
    pixel_aspect: Fraction = Fraction(1),
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    muxer: str | None = None,
    colour: dict[str, int] | None = None,
) -> Path:
    """A foreign film: each picture shown from its own tick on."""
    with av.open(str(path), "w", format=muxer) as container:
        stream: Any = container.add_stream(codec, rate=30, options=options or {})
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        for name, value in (colour or {}).items():
            setattr(stream.codec_context, name, value)
        for number, (picture, tick) in enumerate(zip(pictures, ticks, strict=True)):
            if number == 0:
                stream.height, stream.width, _ = picture.shape
                stream.codec_context.sample_aspect_ratio = pixel_aspect
                if rotation:
                    stream.set_display_rotation(rotation)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def counter_film(path: Path, ticks: Sequence[int], time_base: Fraction, **more: Any) -> Path:
    """Pictures 0, 1, 2, ... at the given ticks."""
    return write_film(path, (counter(n) for n in range(len(ticks))), ticks, time_base, **more)


def read_video_of(path: Path, size: tuple[int, int], numbers: range) -> Frames:
    """Pictures of a trusted foreign film by their number, decoded here with PyAV."""
    pictures = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers:
                pictures.append(frame.to_ndarray(format="rgb24", width=size[0], height=size[1]))
            if number >= numbers.stop:
                break
    return np.stack(pictures)


def source(path: Path, shots: Sequence[tuple[float, float]] = ()) -> Record:
    """What the source stage would say; with shots, a timeline is written beside the film."""
    sidecar = None
    if shots:
        sidecar = path.with_name(f"{path.name}.timeline.jsonl")
        write_timeline(sidecar, Timeline(shots=tuple(Span(a, b) for a, b in shots)))
    return {
        "video_id": video_id(path),
        "uri": path.name,
        "path": os.fspath(path),
        "size": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
        "meta": {},
        "timeline": None if sidecar is None else str(sidecar),
        "timeline_sha256": None if sidecar is None else "0" * 64,
    }


def context(folder: Path) -> Context:
    return Context(Media(folder / "media"), Clock())


def probe(folder: Path, record: Record, **config: Any) -> tuple[Row, list[Record]]:
    stage = ProbeStage(
        ProbeConfig(**{"min_seconds": 0.1, "min_size": 16} | config), context(folder)
    )
    ((row,),) = stage.process([stage.seen(record)])
    return row, stage.advance(record, [row])


def shots(folder: Path, record: Record, **config: Any) -> tuple[list[Row], list[Record]]:
    """Shots of a probed record; by its timeline where it has one."""
    settings = {"detectors": (Given(),)} if record["timeline"] else {}
    stage = ShotsStage(ShotsConfig(**settings | config), context(folder))
    (rows,) = stage.process([stage.seen(record)])
    return rows, stage.advance(record, rows)


def clips(folder: Path, record: Record, **config: Any) -> tuple[list[Row], list[Record]]:
    """Clips of a record that has shots."""
    settings = {"min_seconds": 1.0, "max_seconds": 4.0, "buckets": ((96, 96),)} | config
    stage = ClipsStage(ClipsConfig(**settings), context(folder))
    (rows,) = stage.process([stage.seen(record)])
    return rows, stage.advance(record, rows)


def through(
    folder: Path, path: Path, spans: Sequence[tuple[float, float]] = (), **config: Any
) -> list[Record]:
    """All three stages, which must all be content."""
    row, records = probe(folder, source(path, spans))
    assert records, row
    rows, records = shots(folder, records[0])
    assert records, rows
    rows, records = clips(folder, records[0], **config)
    assert all(row.outcome == "ok" for row in rows), rows
    return records

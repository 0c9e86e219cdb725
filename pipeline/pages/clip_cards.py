"""Clips as pictures: a film strip over a timeline of captions, self-contained and escaped.

Used by the report and by the demo's page: `card` collects, `render` gives HTML that fits into any
page that also holds `style`.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from corpus.captions import KEEP
from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from corpus.video import Frames, read_video
from pipeline.pages.html import TEMPLATES, data_uri, environment
from stages.stage import Record

STRIP = 10  # frames of a strip
STRIP_WIDTH = 224  # pixels of a frame in the page
PIXEL_ART = 64  # frames narrower than this are shown pixel by pixel
JPEG_QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """One frame: its time in the clip, and a data URI."""

    seconds: float
    uri: str
    pixels: bool


@dataclass(frozen=True)
class Stretch:
    """One segment: times in seconds, place on the timeline in percent of the clip."""

    start: float
    end: float
    left: float
    width: float
    text: str
    verdict: str
    scores: tuple[tuple[str, str], ...]

    @property
    def kept(self) -> bool:
        return self.verdict == KEEP


@dataclass(frozen=True)
class Card:
    """One clip as shown.

    Attributes:
        title: where it comes from.
        facts: short remarks, such as its size.
        meta: the caption of the whole clip.
        note: why there are no pictures, if there are none.
    """

    title: str
    facts: tuple[str, ...]
    meta: str
    pictures: tuple[Picture, ...]
    stretches: tuple[Stretch, ...]
    note: str = ""


def style() -> Markup:
    """The style sheet that `render` counts on; our own file, so it is not escaped."""
    return Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704


def render(cards: Iterable[Card]) -> Markup:
    """Cards as HTML."""
    text = environment().get_template("cards.html").render(cards=list(cards))
    return Markup(text)  # noqa: S704 - the template has escaped every value


def card(record: Record, media: Media, clock: Clock) -> Card:
    """A clip record that has come as far as captions, as it is shown."""
    try:
        pictures, note = _strip(media.path(record["clip"]), record["chunks"], clock), ""
    except UserError as error:
        pictures, note = (), str(error)
    return Card(
        title=str(record["uri"]),
        facts=tuple(_facts(record, clock)),
        meta=record.get("meta_text") or "",
        pictures=pictures,
        stretches=tuple(stretch(one, record["chunks"], clock) for one in record["segments"]),
        note=note,
    )


def picture(frame: Frames, seconds: float = 0.0) -> Picture:
    """A frame uint8 (H, W, 3) as a data URI: PNG for tiny ones, else a JPEG of modest size."""
    image = Image.fromarray(frame)
    pixels = image.width <= PIXEL_ART
    if image.width > STRIP_WIDTH:
        image = image.resize((STRIP_WIDTH, round(image.height * STRIP_WIDTH / image.width)))
    buffer = io.BytesIO()
    if pixels:
        image.save(buffer, "png")
    else:
        image.save(buffer, "jpeg", quality=JPEG_QUALITY)
    uri = data_uri(buffer.getvalue(), "image/png" if pixels else "image/jpeg")
    return Picture(seconds, uri, pixels)


def _strip(path: Path, chunks: int, clock: Clock) -> tuple[Picture, ...]:
    """Frames from the middles of equal parts of the clip, so that they stand above their times."""
    frames = clock.frames(chunks)
    count = min(STRIP, frames)
    indices = [int((i + 0.5) * frames / count) for i in range(count)]
    shown = np.asarray(read_video(path, indices))
    return tuple(picture(f, i / clock.fps) for f, i in zip(shown, indices, strict=True))


def stretch(segment: dict[str, Any], chunks: int, clock: Clock) -> Stretch:
    """A segment's columns as they are shown."""
    a, b = segment["a"], segment["b"]
    scores = segment.get("scores") or {}
    return Stretch(
        start=a * clock.chunk_seconds,
        end=b * clock.chunk_seconds,
        left=100 * a / chunks,
        width=100 * (b - a) / chunks,
        text=segment.get("text") or "",
        verdict=segment.get("verdict") or "no verdict",
        scores=tuple((name, _number(value)) for name, value in sorted(scores.items())),
    )


def _facts(record: Record, clock: Clock) -> Sequence[str]:
    facts = [
        f"{record['start']:.2f} s to {record['end']:.2f} s of the source",
        f"{record['chunks'] * clock.chunk_seconds:g} s, {record['chunks']} chunks",
        f"{record['width']}×{record['height']}",
    ]
    if record.get("psnr") is not None:
        facts.append(f"latent PSNR {record['psnr']:.1f} dB")
    return [*facts, f"clip {record['clip_id'][:12]}"]


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)

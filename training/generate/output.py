"""A finished film on disk: the mp4, its transcript, its subtitles, and one picture of it all."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from corpus.clock import Clock
from corpus.codecs import Codec
from corpus.files import write_text, writing
from corpus.video import Frames, write_video
from training.generate.events import Film

Spell = Callable[[Sequence[int]], str]

SCHEMA = 1
SHORT_SIDE = 192  # px; smaller films are enlarged by a whole factor, so that a person sees them
STRIP_SIDE = 96
STRIP_COLUMNS = 8
STRIP_GAP = 8
STRIP_LINES = 3
FONT_SIZE = 14
LINE_HEIGHT = 18
PAPER, INK, USER_INK = (255, 255, 255), (40, 40, 40), (196, 48, 16)


def write_film(
    out: Path, film: Film, codec: Codec, clock: Clock, spell: Spell, about: dict[str, Any]
) -> dict[str, Path]:
    """Decode a film and write it beside its words.

    Args:
        out: the mp4; the other files take its name with their own suffix.
        spell: token ids to text.
        about: how it was made, for the transcript (JSON values).

    Returns:
        Paths of "film", "transcript", "subtitles" and "strip".
    """
    frames = codec.decode(film.latent)
    words = spoken(film, clock, spell)
    paths = {
        "film": out,
        "transcript": out.with_suffix(".json"),
        "subtitles": out.with_suffix(".vtt"),
        "strip": out.with_suffix(".png"),
    }
    write_video(out, enlarge(frames, SHORT_SIDE), clock.fps)
    height, width = frames.shape[1:3]
    transcript = {
        "schema": SCHEMA,
        "prompt": spell(film.prompt.meta),
        "seconds": len(film.slots) * clock.chunk_seconds,
        "chunks": len(film.slots),
        "ended": film.ended,
        "clock": clock.to_json(),
        "size": [width, height],
        "made": about,
        "words": words,
    }
    write_text(paths["transcript"], json.dumps(transcript, indent=2, ensure_ascii=False) + "\n")
    write_text(paths["subtitles"], subtitles(words, len(film.slots) * clock.chunk_seconds))
    with writing(paths["strip"]) as temporary:
        strip(frames, words, clock).save(temporary, format="PNG")
    return paths


def spoken(film: Film, clock: Clock, spell: Spell) -> list[dict[str, Any]]:
    """What was said, chunk by chunk: text, who chose it, and the seconds of its chunk.

    Chunk i is on show from i to i + 1 chunk lengths after the start frame.
    """
    length = clock.chunk_seconds
    return [
        {
            "chunk": i,
            "start": i * length,
            "end": (i + 1) * length,
            "text": spell(slot.words),
            "by": slot.by,
        }
        for i, slot in enumerate(film.slots)
        if slot.words
    ]


def subtitles(words: Sequence[dict[str, Any]], seconds: float) -> str:
    """WebVTT; words stay until the next ones, and the user's are bold."""
    cues = ["WEBVTT"]
    ends = [each["start"] for each in words[1:]] + [seconds]
    for each, end in zip(words, ends, strict=False):
        text = each["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        text = f"<b>{text}</b>" if each["by"] == "user" else text
        cues.append(f"{_time(each['start'])} --> {_time(end)}\n{text}")
    return "\n\n".join(cues) + "\n"


def strip(frames: Frames, words: Sequence[dict[str, Any]], clock: Clock) -> Image.Image:
    """The start frame and the last frame of every chunk, with the words under their chunks.

    Words run on under the pictures that follow, up to the next words or the end of the line.
    """
    chosen = enlarge(frames[:: clock.frames_per_chunk], STRIP_SIDE)
    count, height, width = chosen.shape[:3]
    columns = min(STRIP_COLUMNS, count)
    font = ImageFont.load_default(FONT_SIZE)
    cell = (width + STRIP_GAP, height + STRIP_GAP + STRIP_LINES * LINE_HEIGHT)
    size = (columns * cell[0] + STRIP_GAP, -(-count // columns) * cell[1] + STRIP_GAP)
    picture = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(picture)

    def corner(index: int) -> tuple[int, int]:
        return (
            STRIP_GAP + index % columns * cell[0],
            STRIP_GAP + index // columns * cell[1],
        )

    for index, frame in enumerate(chosen):
        picture.paste(Image.fromarray(frame), corner(index))
    follow = [1 + each["chunk"] for each in words[1:]] + [count]
    for each, following in zip(words, follow, strict=False):
        index = 1 + each["chunk"]
        cells = min(following, (index // columns + 1) * columns) - index
        lines = _wrap(each["text"], cells * cell[0] - STRIP_GAP, font)
        x, y = corner(index)
        ink = USER_INK if each["by"] == "user" else INK
        brush.text((x, y + height + 2), "\n".join(lines), fill=ink, font=font, spacing=2)
    return picture


def enlarge(frames: Frames, short_side: int) -> Frames:
    """Repeat pixels by the least whole factor that gives this short side and even sizes."""
    height, width = frames.shape[1:3]
    factor = max(1, -(-short_side // min(height, width)))
    if factor % 2 and (height % 2 or width % 2):
        factor += 1
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """The text in at most STRIP_LINES lines of a width in pixels; an ellipsis if it is longer."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > STRIP_LINES:
        lines = [*lines[: STRIP_LINES - 1], lines[STRIP_LINES - 1] + "…"]
    return [_fit(line, width, font) for line in lines]


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, shortened to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"

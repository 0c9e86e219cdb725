"""`inspect`: one sample of a shard set as a page: its latents decoded, beside the clip they are of.

The clip is there where the set lies in its corpus, as CORPUS/shards/NAME; it counts only if its
bytes are those of which the sample tells. Everything from a set is escaped, and films are opened
only if they are the corpus' own.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from corpus.captions import ClipCaptions
from corpus.clock import Clock
from corpus.codecs import from_description, psnr
from corpus.errors import UserError
from corpus.files import write_text
from corpus.ids import canonical_json, sha256_file
from corpus.layout import open_corpus
from corpus.shards.faults import plain
from corpus.shards.finding import Finder
from corpus.shards.index import captions_to_row
from corpus.shards.reading import Entry
from corpus.shards.sample import CAPTIONS, INFO, LATENT, parse_json, parse_latent
from corpus.store import LocalStore, Store, store_at
from corpus.video import Frames, read_video
from pipeline.pages.clip_cards import Picture, Stretch, picture, stretch, style
from pipeline.pages.html import environment

STRIP = 10  # pictures of a strip
LOUDER = 4  # times which the difference is shown
TALLEST, LABELLED = 50.0, 24  # dB of a full bar; bars that can be labelled
LISTED = 20  # keys of a summary
SHORT = 60  # characters of a caption in a summary


@dataclass(frozen=True)
class Strip:
    """Pictures in a row, of the same frames as those of the other strips."""

    name: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Bar:
    title: str
    percent: float
    label: str
    worst: bool


@dataclass(frozen=True)
class Likeness:
    """How near the decoded latents come to the clip, in dB.

    Attributes:
        parts: of latent 0, then of each chunk.
    """

    whole: float
    parts: tuple[float, ...]


def summary(place: str) -> list[str]:
    """What a set holds, and some of its keys, in lines."""
    finder = Finder.open(place)
    totals, shards = finder.manifest["totals"], finder.manifest["shards"]
    told = [
        f"{totals['samples']} samples of {totals['videos']} videos in {len(shards)} shards, "
        f"{totals['bytes']:,} bytes"
    ]
    for row, _ in zip(finder.rows(["key", "split", "chunks", "meta"]), range(LISTED), strict=False):
        text = row["meta"][0]["text"] if row["meta"] else ""
        text = text if len(text) <= SHORT else f"{text[:SHORT]}..."
        told.append(plain(f"  {row['key']}  {row['split']}  {row['chunks']} chunks  {text}"))
    if totals["samples"] > LISTED:
        told.append(f"  and {totals['samples'] - LISTED} more")
    return [*told, f"one of them: tv2tv inspect {place} KEY"]


def inspect(place: str, key: str, out: Path | None) -> list[str]:
    """Write the page of a sample; lines that tell of it.

    Args:
        key: of the sample, or how it alone begins.
        out: by default KEY.html in the working directory.

    Raises:
        UserError: no such sample, or it is damaged.
    """
    finder = Finder.open(place)
    entry = finder.find(key)
    try:
        info = parse_json(finder.member(entry, INFO))
        captions = ClipCaptions.from_json(parse_json(finder.member(entry, CAPTIONS)))
        captions.check(entry.chunks)
        latent = parse_latent(finder.member(entry, LATENT), entry.latent_shape, entry.latent_dtype)
    except ValueError as error:
        raise UserError(f"{entry.shard}, sample {entry.key}: {error}") from error
    clock, notes = Clock(**finder.manifest["clock"]), list[str]()
    source = _source(finder.store, entry, info, clock, notes)
    decoded = _decoded(finder, latent, clock.frames(entry.chunks), notes)
    near = None
    if source is not None and decoded is not None and source.shape == decoded.shape:
        near = _likeness(source, decoded, clock)
    text = _page(entry, info, captions, clock, source, decoded, near, notes)
    target = Path(f"{entry.key}.html") if out is None else out
    write_text(target, text)
    told = _told(entry, captions, clock, near)
    return [plain(line) for line in [*told, *notes, f"page: {target}"]]


# -- pictures ---------------------------------------------------------------------------------


def _source(
    shards: Store, entry: Entry, info: dict[str, Any], clock: Clock, notes: list[str]
) -> Frames | None:
    """Frames of the clip (1 + n k, H, W, 3), if the corpus of a set is there and has it."""
    found = _corpus(shards)
    try:
        if found is None:
            raise UserError("the set lies in no corpus")
        media = open_corpus(found)[1].media
        if not media.store.has(media.clip(entry.key)):
            raise UserError("its corpus has it no more")
        path = media.path(media.clip(entry.key))
        if sha256_file(path) != info.get("clip_sha256"):
            raise UserError(f"{path} is another than the latents are of")
        frames = read_video(path)
        if len(frames) != clock.frames(entry.chunks):
            raise UserError(f"{path} has {len(frames)} frames")
        return frames
    except UserError as error:
        notes.append(f"the clip is not shown: {error}")
        return None


def _corpus(shards: Store) -> Store | None:
    """Where CORPUS is, if a set lies at CORPUS/shards/NAME."""
    if isinstance(shards, LocalStore):
        root = shards.root
        return LocalStore(root.parent.parent) if root.parent.name == "shards" else None
    above, _, folder = shards.place().rpartition("/")[0].rpartition("/")
    return store_at(above) if folder == "shards" else None


def _decoded(
    finder: Finder, latent: np.ndarray[Any, Any], frames: int, notes: list[str]
) -> Frames | None:
    """Frames that the latents give, if their codec is at hand."""
    try:
        decoded = from_description(finder.manifest["codec"]).decode(latent)
    except (UserError, ValueError) as error:
        notes.append(f"the latents are not shown: {error}")
        return None
    if len(decoded) != frames:
        notes.append(f"the latents gave {len(decoded)} frames, the clock asks for {frames}")
        return None
    return decoded


def _likeness(source: Frames, decoded: Frames, clock: Clock) -> Likeness:
    edges = [0, *range(1, len(source) + 1, clock.frames_per_chunk)]
    parts = (psnr(source[a:b], decoded[a:b]) for a, b in pairwise(edges))
    return Likeness(psnr(source, decoded), tuple(parts))


def _strips(source: Frames | None, decoded: Frames | None, clock: Clock) -> list[Strip]:
    shown = {"clip": source, "decoded from latents": decoded}
    if source is not None and decoded is not None and source.shape == decoded.shape:
        apart = np.abs(source.astype(np.int16) - decoded.astype(np.int16))
        shown[f"difference, {LOUDER} times"] = np.minimum(apart * LOUDER, 255).astype(np.uint8)
    found = []
    for name, frames in shown.items():
        if frames is not None:
            places = np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)
            pictures = (picture(frames[at], at / clock.fps) for at in places)
            found.append(Strip(name, tuple(pictures)))
    return found


# -- words ------------------------------------------------------------------------------------


def _told(entry: Entry, captions: ClipCaptions, clock: Clock, near: Likeness | None) -> list[str]:
    told = [
        f"sample {entry.key}, {entry.shard}, {entry.split}, video {entry.video_id}",
        ", ".join(_facts(entry, clock)),
        *(f"clip: {one.text}" for one in captions.meta if one.text),
    ]
    for span in captions.segments:
        start, end = (at * clock.chunk_seconds for at in (span.a, span.b))
        said = span.caption
        told.append(f"  {start:6.2f}-{end:.2f} s  {said.verdict:10}  {said.text or '(no text)'}")
    return told if near is None else [*told, _likeness_words(near, clock)]


def _likeness_words(near: Likeness, clock: Clock) -> str:
    worst = int(np.argmin(near.parts))
    where = "the first frame" if worst == 0 else f"{(worst - 1) * clock.chunk_seconds:.2f} s"
    return (
        f"PSNR {near.whole:.1f} dB against the clip, at worst {min(near.parts):.1f} dB at {where}"
    )


def _facts(entry: Entry, clock: Clock) -> list[str]:
    return [
        f"{entry.chunks * clock.chunk_seconds:g} s",
        f"{entry.chunks} chunks",
        f"latent {entry.latent_dtype} {' x '.join(map(str, entry.latent_shape))}",
    ]


def _page(
    entry: Entry,
    info: dict[str, Any],
    captions: ClipCaptions,
    clock: Clock,
    source: Frames | None,
    decoded: Frames | None,
    near: Likeness | None,
    notes: list[str],
) -> str:
    columns, chunks = captions_to_row(captions), max(entry.chunks, 1)

    def spans(items: list[dict[str, Any]]) -> list[Stretch]:
        return [stretch({**one, "scores": dict(one["scores"])}, chunks, clock) for one in items]

    tiles = [(f"{near.whole:.1f} dB", "PSNR of the latents")] if near else []
    tiles += [(f"{min(near.parts):.1f} dB", "in the worst chunk")] if near else []
    tiles += [
        (f"{entry.chunks * clock.chunk_seconds:g} s", f"{entry.chunks} chunks"),
        (f"{len(captions.segments)}", "segments"),
        (f"{sum(bool(one.caption.text) for one in captions.segments)}", "of them with text"),
    ]
    shown = info.items()
    return (
        environment()
        .get_template("sample.html")
        .render(
            style=style(),
            key=entry.key,
            entry=entry,
            tiles=tiles,
            notes=notes,
            strips=_strips(source, decoded, clock),
            near=near,
            bars=_bars(near),
            metas=[one.text for one in captions.meta if one.text],
            layers=[
                ("segments", spans(columns["segments"])),
                *((f"ladder {one['every']}", spans(one["spans"])) for one in columns["ladders"]),
            ],
            facts=[(k, v if isinstance(v, str) else canonical_json(v)) for k, v in shown],
        )
    )


def _bars(near: Likeness | None) -> list[Bar]:
    """One for every latent frame."""
    if near is None:
        return []
    names = ["first frame", *(f"chunk {number}" for number in range(len(near.parts) - 1))]
    return [
        Bar(
            f"{name}: {value:.1f} dB",
            100 * min(value / TALLEST, 1),
            f"{value:.1f}" if len(names) <= LABELLED else "",
            value == min(near.parts),
        )
        for name, value in zip(names, near.parts, strict=True)
    ]

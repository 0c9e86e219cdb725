"""Whether the members of one sample are what the format says, and fit each other and the set."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus.captions import ClipCaptions, Segments
from corpus.ids import canonical_json, segment_id
from corpus.shards.arrays import from_npy
from corpus.shards.index import captions_to_row
from corpus.shards.sample import (
    CAPTIONS,
    INFO,
    LATENT,
    MEMBERS,
    PREVIEW,
    parse_json,
    parse_latent,
)
from corpus.shards.schema import Kind, problems

Problem = tuple[str, str]  # member, what is wrong with it
_MP4 = slice(4, 8), b"ftyp"


@dataclass(frozen=True)
class About:
    """What a trusted manifest says of every sample; None where there is no trusted one."""

    clock: Mapping[str, Any]
    codec: Mapping[str, Any]
    fingerprints: Mapping[str, Any]
    policy: Mapping[str, Any] | None


def check_sample(
    key: str,
    members: Mapping[str, bytes | None],
    row: Mapping[str, Any] | None,
    about: About | None,
) -> Iterator[Problem]:
    """What is wrong with a sample.

    Args:
        members: bytes by name; None for those whose fault is known.
        row: of the index, if that can be trusted.
    """
    for name in MEMBERS:
        if name not in members:
            yield name, "is missing"
    info = yield from _json(members.get(INFO), INFO, "sample")
    captions = yield from _json(members.get(CAPTIONS), CAPTIONS, "captions")
    if info is not None:
        yield from ((INFO, what) for what in _info(key, info, row, about))
        yield from _arrays(members, info, row)
    if captions is not None:
        yield from ((CAPTIONS, what) for what in _captions(key, captions, info, row))
    preview = members.get(PREVIEW)
    if preview is not None and preview[_MP4[0]] != _MP4[1]:
        yield PREVIEW, "is no mp4"


def _json(
    data: bytes | None, name: str, kind: Kind
) -> Generator[Problem, None, dict[str, Any] | None]:
    """Tells what is wrong, and returns the object if it is of any use."""
    if data is None:
        return None
    try:
        value = parse_json(data)
        if canonical_json(value).encode() != data:
            yield name, "is not spelled canonically: sorted keys, no spaces, no key twice"
    except ValueError as error:
        yield name, f"cannot be read: {error}"
        return None
    wrong = list(problems(kind, value))
    yield from ((name, what) for what in wrong)
    return None if wrong else value


def _info(
    key: str, info: dict[str, Any], row: Mapping[str, Any] | None, about: About | None
) -> Iterator[str]:
    for name in ("key", "clip_id"):
        if info[name] != key:
            yield f"{name} is {info[name]!r}"
    if about is not None:
        for name, wanted in vars(about).items():
            if info.get(name) != wanted:
                yield f"{name} is not that of the manifest"
    if row is not None:
        for name in ("video_id", "chunks"):
            if info[name] != row[name]:
                yield f"{name} is {info[name]!r}, the index says {row[name]!r}"
        if info["latent"] != {"dtype": row["latent_dtype"], "shape": row["latent_shape"]}:
            yield f"latent is {canonical_json(info['latent'])}, which is not what the index says"
    codec, shape = info["codec"], info["latent"]["shape"]
    _, down, right = codec["stride"]
    wanted = [codec["channels"], 1 + info["chunks"], info["height"] / down, info["width"] / right]
    if shape != wanted:
        yield f"the latent's shape is {shape}, chunks, size and codec ask for {wanted}"
    if {len(codec["mean"]), len(codec["std"])} != {codec["channels"]}:
        yield "the codec's mean and std are not one number per channel"


def _arrays(
    members: Mapping[str, bytes | None], info: dict[str, Any], row: Mapping[str, Any] | None
) -> Iterator[Problem]:
    latent, streams = info["latent"], info.get("streams", {})
    if (data := members.get(LATENT)) is not None:
        try:
            parse_latent(data, tuple(latent["shape"]), latent["dtype"])
        except ValueError as error:
            yield LATENT, str(error)
    there = {name.removesuffix(".npy") for name in members if name.endswith(".npy")} - {"latent"}
    for name in sorted(there ^ set(streams)):
        yield f"{name}.npy", "is missing" if name in streams else f"is not described in {INFO}"
    for name in sorted(there & set(streams)):
        data, told = members[f"{name}.npy"], streams[name]
        if data is None:
            continue
        try:
            values = from_npy(data, told["dtype"], tuple(told["shape"]))
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                yield f"{name}.npy", "is not finite"
        except ValueError as error:
            yield f"{name}.npy", str(error)


def _captions(
    key: str, data: dict[str, Any], info: dict[str, Any] | None, row: Mapping[str, Any] | None
) -> Iterator[str]:
    try:
        captions = ClipCaptions.from_json(data)
    except ValueError as error:
        yield str(error)
        return
    chunks = info["chunks"] if info is not None else captions.chunks
    try:
        captions.check(chunks)
    except ValueError as error:
        yield str(error)
    named = {"segments": captions.segments, **captions.ladders}
    for where, spans in named.items():
        yield from (f"{where} {what}" for what in _ids(key, spans))
    if info is not None and "policy" not in info:  # a view joins texts, which no one answer said
        for one in (*captions.meta, *(span.caption for span in captions.segments)):
            if one.text and not one.binding and not one.corruption:
                yield f"{one.text[:40]!r} is bound to no frames and no prompt"
    if row is not None:
        for column, value in captions_to_row(captions).items():
            if not _same(row[column], value):
                yield f"its {column} are not those of the index"


def _ids(key: str, spans: Segments) -> Iterator[str]:
    for span in spans:
        if span.segment_id != segment_id(key, span.a, span.b):
            yield f"[{span.a}, {span.b}): its id is not that of these chunks of this clip"


def _same(one: Any, other: Any) -> bool:
    """Arrow gives the pairs of a map as tuples."""
    return bool(canonical_json(one) == canonical_json(other))

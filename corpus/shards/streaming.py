"""Samples of tars alone, one after the other, without index or manifest: from a pipe, or a copy of
one shard. Slower to plan with than an index, and just as careful."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.captions import ClipCaptions
from corpus.errors import UserError
from corpus.shards.sample import CAPTIONS, INFO, LATENT, parse_json, parse_latent
from corpus.shards.walking import Member, Walk


@dataclass(frozen=True)
class Streamed:
    """A sample as its tar alone tells of it.

    Attributes:
        latent: float32 (C, 1 + k, h, w), standardised.
        info: provenance; codec and clock are in it.
    """

    key: str
    latent: NDArray[np.float32]
    captions: ClipCaptions
    info: dict[str, Any]


def stream(tars: Iterable[Path]) -> Iterator[Streamed]:
    """Samples in the order of the tars.

    Raises:
        UserError: names tar, sample and member of what is damaged. Values that changed unseen are
            found only with an index, which has their SHA-256.
    """
    for path in tars:
        try:
            with path.open("rb") as file:
                walk = Walk(file, path.stat().st_size)
                for members in walk.alone():
                    yield _sample(path, members)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        if walk.faults:
            raise UserError(f"{path}: {walk.faults[0]}; copy it again")


def _sample(path: Path, members: list[Member]) -> Streamed:
    key, found = members[0].key, {one.name: one for one in members}
    for one in members:
        if one.faults:
            raise UserError(f"{path}, sample {key}, {one.name}: {one.faults[0]}; copy it again")
    name = INFO
    try:
        info = parse_json(_data(found, INFO))
        told = info["latent"]
        name = CAPTIONS
        captions = ClipCaptions.from_json(parse_json(_data(found, CAPTIONS)))
        name = LATENT
        latent = parse_latent(_data(found, LATENT), tuple(told["shape"]), told["dtype"])
        name = CAPTIONS
        captions.check(latent.shape[1] - 1)
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}, sample {key}, {name}: {error}") from error
    if latent.ndim != 4 or info.get("key") != key:
        raise UserError(f"{path}, sample {key}, {INFO}: it is of something else")
    return Streamed(key, latent, captions, info)


def _data(found: dict[str, Member], name: str) -> bytes:
    data = found[name].data if name in found else None
    if data is None:
        raise ValueError("is missing")
    return data

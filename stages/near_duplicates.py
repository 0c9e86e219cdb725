"""Stage near_duplicates: of clips that look and move alike, one goes on.

It reads signatures (`measures.signature`) of all clips that passed the filters: the same film
coded again, a little cropped, brighter or darker. Clips are taken in an order that only their
content decides, the longest first, then the sharpest, then by id. A clip that is too like one that
stays is filtered; being like one that went is no reason, so that no chain links strangers.

Reason: ``near_duplicate``, with the likeness as its score.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from corpus.errors import UserError
from corpus.rows import Row
from stages.measures.signature import (
    PICTURE,
    Signatures,
    change_likeness,
    picture_likeness,
    picture_part,
    read,
)
from stages.quality import QualityStage
from stages.stage import GateStage, Record, Stage, StageConfig

REASON = "near_duplicate"
TABLES = 128
BLOCK = 65_536  # pairs that are compared at once


class NearDuplicatesConfig(StageConfig):
    """
    Attributes:
        filter: whether near-duplicates are filtered. It is then decided before any clip is
            captioned, and captions wait for the last clip.
        likeness: from which two clips count as one, 0 to 1.
    """

    filter: bool = False
    likeness: float = Field(default=0.85, gt=0, le=1)


class NearDuplicatesStage(GateStage[NearDuplicatesConfig]):
    """Decides over all clips at once."""

    name = "near_duplicates"
    version = "1"
    level = "clip"
    reads = ("clip_id", "chunks", "quality", "signature")
    Config = NearDuplicatesConfig
    writes = pa.schema([])

    @property
    def wanted(self) -> bool:
        return self.config.filter

    def agree(self, earlier: Mapping[str, Stage]) -> None:
        """There are signatures to compare."""
        quality = earlier.get(QualityStage.name)
        if quality is None or "pixels" not in quality.config.use:
            raise UserError(
                "near_duplicates: clips are compared by what pixels gives: add pixels to "
                "quality.use, or set near_duplicates.filter to false"
            )

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        found = duplicates(records, self.config.likeness)
        return [[self._row(record["clip_id"], found)] for record in records]

    def _row(self, clip: str, found: dict[str, "Duplicate"]) -> Row:
        twin = found.get(clip)
        if twin is None:
            return Row("clip", None, clip)
        why = f"it is {twin.likeness:.3f} like clip {twin.of}, which stays"
        return Row("clip", None, clip, "filtered", REASON, why, twin.likeness)


@dataclass(frozen=True)
class Duplicate:
    """What a clip is a duplicate of."""

    of: str
    likeness: float


def duplicates(records: Sequence[Record], likeness: float) -> dict[str, Duplicate]:
    """The clips that go, by id, with the likest one that stays; the records' order is no matter."""
    shown = sorted((one for one in records if one["signature"]), key=_rank)
    alike: dict[int, list[tuple[float, int]]] = {}
    for (earlier, later), value in pairs(
        read([one["signature"] for one in shown]), likeness
    ).items():
        alike.setdefault(later, []).append((value, earlier))
    gone: dict[int, Duplicate] = {}
    for later in sorted(alike):
        stay = [one for one in alike[later] if one[1] not in gone]
        if stay:
            value, earlier = max(stay, key=lambda one: (one[0], -one[1]))
            gone[later] = Duplicate(shown[earlier]["clip_id"], value)
    return {shown[index]["clip_id"]: found for index, found in gone.items()}


def _rank(record: Record) -> tuple[int, float, str]:
    return -record["chunks"], record["quality"].get("blur", 0.0), record["clip_id"]


def pairs(signatures: Signatures, likeness: float) -> dict[tuple[int, int], float]:
    """Likeness by (i, j), i < j, of those that are at least so alike.

    Not every pair is looked at, for there may be millions of clips: only such whose pictures lie on
    the same side of some random planes, in one of `TABLES` draws (Charikar: Similarity estimation
    techniques from rounding algorithms, 2002). The more clips, the more planes a draw has. At a
    likeness of .9 none of 20,000 clips is missed, and one pair in 600 of a million; at .85 one in
    25 of a million.
    """
    found: dict[tuple[int, int], float] = {}
    planes = np.random.default_rng(0)
    count = max(1, len(signatures).bit_length() - 1)
    pictures = picture_part(signatures)
    for _ in range(TABLES):
        # Whole numbers: on every machine a picture lies on the same side.
        drawn = planes.integers(-1, 2, (PICTURE, count)).astype(np.float32)
        sides = (pictures @ drawn > 0) @ (1 << np.arange(count))
        for one, other in _neighbours(sides):
            first, second = np.minimum(one, other), np.maximum(one, other)
            values = picture_likeness(pictures[first], pictures[second])
            close = values >= likeness
            first, second, values = first[close], second[close], values[close]
            values = np.minimum(values, change_likeness(signatures[first], signatures[second]))
            for index in np.flatnonzero(values >= likeness):
                found[int(first[index]), int(second[index])] = float(values[index])
    return found


def _neighbours(keys: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """All pairs of places with equal keys, `BLOCK` or fewer at a time."""
    order = np.argsort(keys, kind="stable")
    line = keys[order]
    here, step = np.arange(len(keys)), 1
    while len(here):
        # Who equals the one so many steps on in the sorted line equals all in between.
        here = here[here + step < len(line)]
        here = here[line[here] == line[here + step]]
        for start in range(0, len(here), BLOCK):
            part = here[start : start + BLOCK]
            yield order[part], order[part + step]
        step += 1

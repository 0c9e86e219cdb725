"""Stage near_duplicates: of clips that look and move alike, one goes on.

It reads signatures (`stages.near_signature`) of all clips that passed the filters: the same film
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
from stages.near_signature import Signatures, change_likeness, picture_likeness, read
from stages.quality import QualityStage
from stages.stage import GateStage, Record, Stage, StageConfig

REASON = "near_duplicate"
BLOCK = 1024  # clips that are compared with as many others at once


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
        if "pixels" not in earlier[QualityStage.name].config.use:
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
    """The clips that go, by id, with the likest one that stays; the records' order is no matter.

    Every pair is looked at: exact, and a million clips take minutes.
    """
    shown = sorted((one for one in records if one["signature"]), key=_rank)
    alike: dict[int, list[tuple[float, int]]] = {}
    for earlier, later, value in pairs(read([one["signature"] for one in shown]), likeness):
        alike.setdefault(later, []).append((value, earlier))
    gone: dict[str, Duplicate] = {}
    for later in sorted(alike):
        stay = [one for one in alike[later] if shown[one[1]]["clip_id"] not in gone]
        if stay:
            value, earlier = max(stay, key=lambda one: (one[0], -one[1]))
            gone[shown[later]["clip_id"]] = Duplicate(shown[earlier]["clip_id"], value)
    return gone


def _rank(record: Record) -> tuple[int, float, str]:
    return -record["chunks"], record["quality"].get("blur", 0.0), record["clip_id"]


def pairs(signatures: Signatures, likeness: float) -> Iterator[tuple[int, int, float]]:
    """(i, j, likeness) with i < j of all that are at least so alike."""
    for start in range(0, len(signatures), BLOCK):
        later = signatures[start : start + BLOCK]
        for before in range(0, start + 1, BLOCK):
            earlier = signatures[before : before + BLOCK]
            close = picture_likeness(earlier, later)
            first, second = np.nonzero(close >= likeness)
            kept = first + before < second + start
            first, second = first[kept], second[kept]
            values = np.minimum(
                close[first, second].astype(np.float64),
                change_likeness(earlier[first], later[second]),
            )
            yield from _found(first + before, second + start, values, likeness)


def _found(
    first: NDArray[np.intp], second: NDArray[np.intp], values: NDArray[np.float64], least: float
) -> Iterator[tuple[int, int, float]]:
    for index in np.flatnonzero(values >= least):
        yield int(first[index]), int(second[index]), float(values[index])

"""How well latents keep their clips: PSNRs of those that were decoded back, and the worst of them.

A clip under the floor is flagged, not filtered: what a codec loses is for a person to judge.
"""

from dataclasses import dataclass

from corpus.layout import Media
from pipeline.ledger.walk import Slice
from pipeline.pages.first import First
from pipeline.pages.rejects import Reject, pictures_of
from pipeline.plan import Plan
from pipeline.sweep.spread import Spread
from stages.latents import LatentsStage
from stages.stage import Record

SHOWN = 6


@dataclass(frozen=True)
class Flagged:
    """Clips under the floor.

    Attributes:
        count: all of them, not only those shown.
    """

    codec: str
    floor: float
    count: int
    checked: int
    shown: tuple[Reject, ...]


class RoundTrips:
    """Of a corpus that comes slice by slice."""

    def __init__(self, plan: Plan) -> None:
        stage = next((one for one in plan.stages if isinstance(one, LatentsStage)), None)
        self.codec = stage.codec.info.id if stage is not None else ""
        self.floor = stage.floor if stage is not None else None
        self.psnrs = Spread(cuts=() if self.floor is None else (self.floor,))  # dB
        self.flagged = 0
        self._worst = First[Record](SHOWN)

    def add(self, part: Slice) -> None:
        checked = [one for one in part.found.finished if one.get("psnr") is not None]
        for record in checked:
            self.psnrs.add(record["psnr"])
        under = [one for one in checked if self.floor is not None and one["psnr"] < self.floor]
        self.flagged += len(under)
        self._worst.add(((one["psnr"], one["clip_id"]), one) for one in under)

    def worst(self, media: Media) -> Flagged | None:
        """The flagged clips with pictures, the worst first; None where there is none."""
        if self.floor is None or not self.flagged:
            return None
        shown = tuple(_shown(record, media) for record in self._worst.found)
        return Flagged(self.codec, self.floor, self.flagged, self.psnrs.count, shown)


def _shown(record: Record, media: Media) -> Reject:
    title = f"{record['uri']}, {record['start']:.2f} s to {record['end']:.2f} s"
    note = f"{record['psnr']:.1f} dB, clip {record['clip_id']}"
    return Reject(title, note, pictures_of(media, record["clip"]))

"""Pictures against packets: a decoder that hides damage is found out by counting.

Every packet of a film must become a picture (`stages.probe` counts the packets, `stages.shots` the
pictures). What is missing, and what was cut away because the decoder called it damaged or built it
on damage, is told film by film. A film that lost too much of itself ended as ``corrupt``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from pipeline.inputs.listing import Source
from pipeline.ledger.endings import NAMED, in_a_line
from pipeline.ledger.replay import Replay

KEPT = 100  # damaged films that are known by name


@dataclass(frozen=True)
class Film:
    """A decoded film: packets that had to become pictures, pictures, and those cut away."""

    file: str
    packets: int
    decoded: int
    cut: int

    @property
    def missing(self) -> int:
        return max(0, self.packets - self.decoded)

    @property
    def damaged(self) -> bool:
        return self.missing + self.cut > 0

    def __str__(self) -> str:
        return f"of {self.packets} pictures {_lost(self.missing, self.cut)}"


@dataclass
class Decoding:
    """All decoded films.

    Attributes:
        films, packets, decoded, cut: sums; ``missing``: pictures, over the films that miss some.
        damaged: number of films that miss pictures or had some cut away.
        worst: of these the first `KEPT`, those that lost most before others.
    """

    films: int = 0
    packets: int = 0
    decoded: int = 0
    missing: int = 0
    cut: int = 0
    damaged: int = 0
    worst: list[Film] = field(default_factory=list)

    def add(self, sources: Sequence[Source], found: Replay) -> None:
        """Count the films of a slice."""
        damaged = []
        for film in _films(sources, found):
            self.films += 1
            self.packets += film.packets
            self.decoded += film.decoded
            self.missing += film.missing
            self.cut += film.cut
            if film.damaged:
                damaged.append(film)
        self.damaged += len(damaged)
        self.worst = nsmallest(KEPT, [*self.worst, *damaged], key=_rank)

    def to_json(self) -> dict[str, Any]:
        names = ("films", "packets", "decoded", "missing", "cut", "damaged")
        return {name: getattr(self, name) for name in names}

    def lines(self) -> list[str]:
        """For people: one line, and below it the films that lost most; nothing of no film."""
        if not self.films:
            return []
        films = f"{self.films:,} film{'' if self.films == 1 else 's'}"
        pictures = f"{self.decoded:,} pictures of {self.packets:,} packets in {films}"
        if not self.damaged:
            return [f"decoded: {pictures}, none damaged"]
        told = [f"decoded: {pictures}, {self.damaged:,} damaged: {_lost(self.missing, self.cut)}"]
        told += [f"  {in_a_line(f'{film.file}: {film}')}" for film in self.worst[:NAMED]]
        if self.damaged > NAMED:
            told.append(f"  and {self.damaged - NAMED} more")
        return told


def _lost(missing: int, cut: int) -> str:
    return f"{missing:,} missing, {cut:,} cut away as damaged"


def _rank(film: Film) -> tuple[float, str]:
    return -(film.missing + film.cut) / max(1, film.packets), film.file


def _films(sources: Sequence[Source], found: Replay) -> Iterator[Film]:
    packets: dict[str, int] = {}
    shots: dict[str, tuple[int, int]] = {}
    for answered in found.answered:
        for row in answered.rows:
            if row.level == "video" and row.columns.get("packets") is not None:
                packets[row.subject] = row.columns["packets"]
            elif row.level == "shot" and row.columns.get("decoded") is not None:
                shots[str(row.parent)] = row.columns["decoded"], row.columns["damaged"]
    for source in sources:
        if source.outcome == "ok" and source.video_id in shots:
            yield Film(source.uri, packets[source.video_id], *shots[source.video_id])

"""Why things ended: every reason at every level, with files and words to tell it by."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest

from corpus.rows import LEVELS
from pipeline.inputs.sources import Source
from pipeline.ledger.conservation import NOT_OK, Fate, fates
from pipeline.ledger.replay import Replay
from stages.stage import Stage

NAMED = 3  # files that a message names for one reason
KEPT = 100  # that are known by name at all: a corpus may have millions
LONGEST = 240  # characters of a message in a line


@dataclass(frozen=True)
class Said:
    """What was said of one entity: its file, and the message; "" where it shared another's fate."""

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}" if self.message else self.file


@dataclass(frozen=True)
class Ending:
    """Entities of a level that ended for one reason.

    Attributes:
        level: ``videos``, ``shots``, ``clips`` or ``segments``.
        count: how many.
        said: of the first `KEPT`, those before others that a row of their own ended.
    """

    level: str
    outcome: str
    reason: str
    count: int
    said: tuple[Said, ...]


def endings(
    sources: Sequence[Source],
    stages: Sequence[Stage],
    replay: Replay,
    known: Mapping[str, Fate] | None = None,
) -> list[Ending]:
    """By level and outcome, the most frequent first; arguments and errors are those of `count`."""
    fate_of = fates(sources, stages, replay) if known is None else known
    own, borrowed = last_words(replay)
    files = _files(sources, replay)
    found: dict[tuple[str, str, str], list[tuple[bool, Said]]] = defaultdict(list)
    for source in sources:
        if source.outcome in NOT_OK:
            said = Said(source.uri, source.message or "")
            found["videos", source.outcome, str(source.reason)].append((False, said))
    for name, fate in fate_of.items():
        if fate.outcome in NOT_OK:
            said = Said(files[name], own.get(name) or borrowed.get(name, ""))
            key = (f"{fate.level}s", fate.outcome, str(fate.reason))
            found[key].append((name not in own, said))
    made = []
    for about, told in found.items():
        first = nsmallest(KEPT, told, key=lambda one: one[0])
        made.append(Ending(*about, len(told), tuple(said for _, said in first)))
    return sorted(made, key=_rank)


def joined(some: Sequence[Ending], more: Sequence[Ending]) -> list[Ending]:
    """Endings of two parts of a corpus."""
    found: dict[tuple[str, str, str], Ending]
    found = {(one.level, one.outcome, one.reason): one for one in some}
    for one in more:
        known = found.setdefault((one.level, one.outcome, one.reason), one)
        if known is not one:
            said = sorted((*known.said, *one.said), key=lambda said: not said.message)
            both = replace(known, count=known.count + one.count, said=tuple(said[:KEPT]))
            found[one.level, one.outcome, one.reason] = both
    return sorted(found.values(), key=_rank)


def last_words(replay: Replay) -> tuple[dict[str, str], dict[str, str]]:
    """Messages by entity: of the row that ended it, and of the first child to end below it."""
    parents = _parents(replay)
    own: dict[str, str] = {}
    borrowed: dict[str, str] = {}
    for answered in replay.answered:
        for row in answered.rows:
            if row.outcome != "ok":
                own.setdefault(row.subject, row.message or "")
                above = parents.get(row.subject)
                while above is not None:
                    borrowed.setdefault(above, row.message or "")
                    above = parents.get(above)
    return own, borrowed


def lines(found: Sequence[Ending], corpus: str) -> list[str]:
    """For people: ``3 clips filtered: black``, and below it the first files with their messages."""
    told = []
    for one in found:
        level = one.level if one.count > 1 else one.level[:-1]
        advice = " (`tv2tv run --retry` does it again)" if one.outcome == "quarantined" else ""
        told.append(f"{one.count} {level} {one.outcome}: {one.reason}{advice}")
        told += [f"  {in_a_line(str(said))}" for said in one.said[:NAMED]]
        if one.count > NAMED:
            told.append(f"  and {one.count - NAMED} more: tv2tv report {corpus}")
    return told


def _rank(one: Ending) -> tuple[int, int, int, str]:
    levels = [f"{level}s" for level in LEVELS]
    return levels.index(one.level), NOT_OK.index(one.outcome), -one.count, one.reason


def _parents(replay: Replay) -> dict[str, str]:
    rows = (row for answered in replay.answered for row in answered.rows)
    return {row.id: row.parent for row in rows if row.id is not None and row.parent is not None}


def _files(sources: Sequence[Source], replay: Replay) -> dict[str, str]:
    """The file that an entity comes from, by its id."""
    files = {s.video_id: s.uri for s in sources if s.video_id is not None and s.outcome == "ok"}
    for name, parent in _parents(replay).items():  # parents come first: stages go down the levels
        files.setdefault(name, files[parent])
    return files


def in_a_line(text: str) -> str:
    """Text from outside for a terminal: one line of printable characters."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.strip())
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} ..."

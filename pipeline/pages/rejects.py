"""Pictures of what was rejected: a few per reason, drawn by the hash of their ids.

A rejected clip lies in the corpus and is read as any film of ours. Of a shot or film that gave no
clip only the foreign file is there: a killable child decodes a picture or two
(`pipeline.pages.thumbnails`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from corpus.errors import UserError
from corpus.ids import unit_hash
from corpus.layout import Media
from corpus.rows import Row
from corpus.video import count_frames, read_video
from pipeline.inputs.listing import Source
from pipeline.ledger.walk import Slice
from pipeline.pages.clip_cards import Picture, picture
from pipeline.pages.thumbnails import Thumbnails
from pipeline.plan import Plan

SHOWN = 6  # of each reason
MOMENTS = (1 / 6, 1 / 2, 5 / 6)  # of each one, as shares of its length


@dataclass(frozen=True)
class Reject:
    """One entity that did not go on.

    Attributes:
        title: its file, and where in it.
        note: what was said of it.
        pictures: none where nothing could be decoded.
    """

    title: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Group:
    """Rejects for one reason.

    Attributes:
        kind: ``video``, ``shot`` or ``clip``.
        count: all of them, not only those shown.
    """

    kind: str
    stage: str
    outcome: str
    reason: str
    count: int
    shown: tuple[Reject, ...]


@dataclass(frozen=True)
class _Entity:
    kind: str
    parent: str | None
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class _Drawn:
    """A reject that is shown, with what made it and all above it, and its file."""

    row: Row
    entity: _Entity
    facts: Mapping[str, Any]
    source: Source | None


_Key = tuple[str, str, str, str]  # kind, stage, outcome, reason


class Rejects:
    """Rejects of a corpus that comes slice by slice: counted, and a few of them kept."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._counts = Counter[_Key]()
        self._drawn: dict[_Key, list[_Drawn]] = {}

    def add(self, part: Slice) -> None:
        """Count a slice, and draw of it."""
        rows = _ended(self._plan, part)
        for key, some in rows.items():
            self._counts[key] += len(some)
        chosen = {key: nsmallest(SHOWN, some, key=_place) for key, some in rows.items()}
        entities = _entities(part, [row.subject for some in chosen.values() for row in some])
        files = {s.video_id: s for s in part.sources if s.video_id and s.outcome == "ok"}
        for key, some in chosen.items():
            found = [_draw(row, entities, files) for row in some]
            both = [*self._drawn.get(key, ()), *found]
            self._drawn[key] = nsmallest(SHOWN, both, key=lambda one: _place(one.row))

    def groups(self, thumbnails: Thumbnails) -> list[Group]:
        """By reason, the most frequent first."""
        media = self._plan.layout.media
        made = []
        for key, drawn in self._drawn.items():
            shown = tuple(_reject(one, media, thumbnails) for one in drawn)
            made.append(Group(*key, self._counts[key], shown))
        return sorted(made, key=lambda group: (-group.count, group.kind, group.reason))


def _ended(plan: Plan, part: Slice) -> dict[_Key, list[Row]]:
    """Rows that ended a video, shot or clip; segments have no pictures of their own."""
    names = [stage.name for stage in plan.stages]
    kinds = {s.video_id: "video" for s in part.sources if s.video_id and s.outcome == "ok"}
    groups: dict[_Key, list[Row]] = {}
    for answered in part.found.answered:
        for row in answered.rows:
            if row.id is not None and row.level in ("shot", "clip"):
                kinds[row.id] = row.level
            kind = kinds.get(row.subject)  # what is made comes before what ends it
            if row.outcome != "ok" and kind is not None:
                key = (kind, names[answered.stage], str(row.outcome), str(row.reason))
                groups.setdefault(key, []).append(row)
    return groups


def _place(row: Row) -> tuple[float, str]:
    return unit_hash("rejects", row.subject), row.subject


def _entities(part: Slice, subjects: Iterable[str]) -> dict[str, _Entity]:
    """What made these entities and all above them."""
    wanted, found = set(subjects), dict[str, _Entity]()
    for answered in reversed(part.found.answered):  # what is made below comes later
        for row in answered.rows:
            if row.id in wanted and (row.parent or row.level == "video") and row.columns:
                found.setdefault(str(row.id), _Entity(row.level, row.parent, row.columns))
                wanted.add(str(row.parent))
    return found


def _draw(row: Row, entities: Mapping[str, _Entity], files: Mapping[str, Source]) -> _Drawn:
    lineage = list(_lineage(row.subject, entities))
    facts: dict[str, Any] = {}
    for name in lineage:
        if name in entities:
            facts = {**entities[name].columns, **facts}
    source = next((files[name] for name in lineage if name in files), None)
    return _Drawn(row, entities.get(row.subject, _Entity("video", None, {})), facts, source)


def _reject(drawn: _Drawn, media: Media, thumbnails: Thumbnails) -> Reject:
    row, entity, source = drawn.row, drawn.entity, drawn.source
    start, end = entity.columns.get("start"), entity.columns.get("end")
    title = source.uri if source is not None else row.subject
    if start is not None and end is not None:
        title = f"{title}, {start:.2f} s to {end:.2f} s"
    if entity.kind == "clip" and "clip" in entity.columns:
        shown = pictures_of(media, str(entity.columns["clip"]))
    else:
        length = float(drawn.facts.get("duration") or 0.0)
        first, last = (0.0, length) if start is None or end is None else (start, end)
        moments = [first + (last - first) * share for share in MOMENTS] if last > first else [first]
        path = source.path if source is not None else ""
        frames = thumbnails.at(path, int(drawn.facts.get("stream") or 0), moments)
        shown = tuple(picture(f, at) for f, at in zip(frames, moments, strict=False))
    note = row.message or ("" if row.score is None else f"{row.score:.4g}")
    return Reject(title, note, shown)


def _lineage(name: str | None, entities: Mapping[str, _Entity]) -> Iterator[str]:
    while name is not None:
        yield name
        name = entities[name].parent if name in entities else None


def pictures_of(media: Media, name: str) -> tuple[Picture, ...]:
    """Frames of a clip that we wrote."""
    path = media.path(name)
    try:
        count = count_frames(path)
        indices = [min(count - 1, int(share * count)) for share in MOMENTS]
        return tuple(picture(frame) for frame in read_video(path, indices))
    except UserError:
        return ()

"""Pictures of what was rejected: a few per reason, drawn by the hash of their ids.

A rejected clip lies in the corpus and is read as any film of ours. Of a shot or film that gave no
clip only the foreign file is there: a killable child decodes a picture or two
(`pipeline.pages.thumbnails`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.errors import UserError
from corpus.ids import unit_hash
from corpus.layout import Media
from corpus.rows import Row
from corpus.video import count_frames, read_video
from pipeline.ledger.status import Status
from pipeline.pages.clip_cards import Picture, picture
from pipeline.pages.thumbnails import Thumbnails

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


def rejects(status: Status, thumbnails: Thumbnails) -> list[Group]:
    """By reason, the most frequent first."""
    names = [stage.name for stage in status.plan.stages]
    kinds = dict(_kinds(status))
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for answered in status.found.answered:
        for row in answered.rows:
            kind = kinds.get(row.subject)
            if row.outcome != "ok" and kind is not None:
                name = (kind, names[answered.stage], str(row.outcome), str(row.reason))
                groups.setdefault(name, []).append(row)
    chosen = {key: _draw(rows) for key, rows in groups.items()}
    entities = _entities(status, [row.subject for rows in chosen.values() for row in rows])
    files = {s.video_id: s for s in status.listing.sources if s.video_id and s.outcome == "ok"}
    made = []
    for key, rows in chosen.items():
        shown = tuple(
            _reject(row, entities, files, status.plan.layout.media, thumbnails) for row in rows
        )
        made.append(Group(*key, len(groups[key]), shown))
    return sorted(made, key=lambda group: (-group.count, group.kind, group.reason))


def _kinds(status: Status) -> Iterator[tuple[str, str]]:
    """Level of every video, shot and clip, by id; segments have no pictures of their own."""
    for source in status.listing.sources:
        if source.video_id is not None and source.outcome == "ok":
            yield source.video_id, "video"
    for answered in status.found.answered:
        for row in answered.rows:
            if row.id is not None and row.level in ("shot", "clip"):
                yield row.id, row.level


def _draw(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: unit_hash("rejects", row.subject))[:SHOWN]


def _entities(status: Status, subjects: Iterable[str]) -> dict[str, _Entity]:
    """What made these entities and all above them."""
    wanted, found = set(subjects), dict[str, _Entity]()
    for answered in reversed(status.found.answered):  # what is made below comes later
        for row in answered.rows:
            if row.id in wanted and (row.parent or row.level == "video") and row.columns:
                found.setdefault(str(row.id), _Entity(row.level, row.parent, row.columns))
                wanted.add(str(row.parent))
    return found


def _reject(
    row: Row,
    entities: Mapping[str, _Entity],
    files: Mapping[str, Any],
    media: Media,
    thumbnails: Thumbnails,
) -> Reject:
    entity = entities.get(row.subject, _Entity("video", None, {}))
    lineage = list(_lineage(row.subject, entities))
    source = next((files[name] for name in lineage if name in files), None)
    facts: dict[str, Any] = {}
    for name in lineage:
        if name in entities:
            facts = {**entities[name].columns, **facts}
    start, end = entity.columns.get("start"), entity.columns.get("end")
    title = source.uri if source is not None else row.subject
    if start is not None and end is not None:
        title = f"{title}, {start:.2f} s to {end:.2f} s"
    if entity.kind == "clip" and "clip" in entity.columns:
        shown = _own(media, str(entity.columns["clip"]))
    else:
        length = float(facts.get("duration") or 0.0)
        first, last = (0.0, length) if start is None or end is None else (start, end)
        moments = [first + (last - first) * share for share in MOMENTS] if last > first else [first]
        path = source.path if source is not None else ""
        frames = thumbnails.at(path, int(facts.get("stream") or 0), moments)
        shown = tuple(picture(f, at) for f, at in zip(frames, moments, strict=False))
    note = row.message or ("" if row.score is None else f"{row.score:.4g}")
    return Reject(title, note, shown)


def _lineage(name: str | None, entities: Mapping[str, _Entity]) -> Iterator[str]:
    while name is not None:
        yield name
        name = entities[name].parent if name in entities else None


def _own(media: Media, name: str) -> tuple[Picture, ...]:
    """Frames of a clip that we wrote."""
    path = media.path(name)
    try:
        count = count_frames(path)
        indices = [min(count - 1, int(share * count)) for share in MOMENTS]
        return tuple(picture(frame) for frame in read_video(path, indices))
    except UserError:
        return ()

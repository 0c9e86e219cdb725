"""What is to be done: the listed films, less what a corpus has of them already. Only reads."""

from dataclasses import dataclass
from pathlib import Path

from corpus import layout
from pipeline.inputs.sources import LISTING, Listing, Source, read_listing
from pipeline.inputs.uris import is_remote, stored
from pipeline.ledger.walk import slices
from pipeline.plan import make_plan
from pipeline.recipe import Recipe


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        todo: files with work left, and the first stage that waits for each.
        done: number of files without.
    """

    listing: Listing
    todo: tuple[tuple[Source, int], ...]
    done: int

    @staticmethod
    def of(recipe: Recipe, listing: Listing, corpus: Path | str | None) -> "Work":
        sources = [source for source in listing.sources if source.outcome == "ok"]
        known = _standing(recipe, corpus) if corpus is not None else {}
        first = [(source, known.get(stamp(source), 0)) for source in sources]
        count = len(make_plan(recipe, Path("unused")).stages)
        todo = tuple(pair for pair in first if pair[1] < count)
        return Work(listing, todo, len(first) - len(todo))


def stamp(source: Source) -> tuple[str, int, int]:
    """What tells a file from another; of a remote one only its URI, as it is stored."""
    if is_remote(source.path):
        return stored(source.path), -1, -1
    if source.size >= 0:
        return source.path, source.size, source.mtime_ns
    try:
        stat = Path(source.path).stat()
    except OSError:
        return source.path, -1, -1
    return source.path, stat.st_size, stat.st_mtime_ns


def size_of(source: Source) -> int:
    """Bytes; -1 where nobody says."""
    return source.size if is_remote(source.path) else stamp(source)[1]


def _standing(recipe: Recipe, corpus: Path | str) -> dict[tuple[str, int, int], int]:
    """First stage that waits, by file, for all files that runs of a corpus have listed; as many as
    there are stages where none does. Only reads."""
    plan = make_plan(recipe, corpus)
    if not plan.layout.store.has(layout.HEADER):
        return {}
    sources: dict[str, Source] = {}
    stamps: dict[tuple[str, int, int], str] = {}  # copies share the standing of their film
    runs = plan.layout.runs
    for name in (name for name in runs.names() if name.endswith(f"/{LISTING}")):
        listed = read_listing(runs.at(name.removesuffix(f"/{LISTING}"))).sources
        sources |= {s.video_id: s for s in listed if s.video_id and s.outcome == "ok"}
        stamps |= {stamp(s): s.video_id for s in listed if s.video_id}
    position = dict.fromkeys(sources, len(plan.stages))
    for part in slices(plan, Listing(tuple(sources.values()))):
        for one in part.found.waiting:
            video = one.record["video_id"]
            position[video] = min(position[video], one.stage)
    return {stamp: position.get(video, 0) for stamp, video in stamps.items()}

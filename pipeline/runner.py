"""`run`: list inputs, replay, stream what waits, check conservation, write shards.

The loop is the whole of resume: replay the tables; if records wait, stream them; replay again.
Whether any work remains is thereby decided before Ray is started.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from corpus import layout
from corpus.errors import UserError
from corpus.layout import TOOL_VERSION
from corpus.shards.reading import read_manifest
from corpus.store import Store
from pipeline import conservation
from pipeline.endings import Ending, endings
from pipeline.events import SCHEMA, Event, EventLog, event
from pipeline.faults import PutOff, RunError, blameless, read_put_off, tidy
from pipeline.lock import Lock
from pipeline.plan import Cluster, Plan, phases
from pipeline.progress import Progress, View
from pipeline.replay import Replay, replay
from pipeline.sources import Listing, identify, list_sources, write_listing
from pipeline.tables import Stored

NOTES = "notes"
MOST_NAMED = 10  # records that a message lists


@dataclass(frozen=True)
class Result:
    """What a run did.

    Attributes:
        folder: of the run.
        computed: units of work per stage that were computed, not read.
        counts: the conservation table.
        endings: why things ended.
        shards: folder of the shards; None when no clip came through and none stood there.
        rewritten: whether the shards were made anew.
    """

    folder: Store
    computed: dict[str, int]
    counts: conservation.Counts
    endings: list[Ending]
    shards: Store | None
    rewritten: bool


def run(
    plan: Plan,
    inputs: Path | str,
    view: View,
    *,
    limit: int | None = None,
    rehash: bool = False,
    retry: bool = False,
    verbose: bool = False,
    address: str | None = None,
) -> Result:
    """Bring everything that ``inputs`` lists through all stages of a plan; the corpus is made if it
    is not there.

    Args:
        inputs: a folder, a video or a manifest.
        limit: only the first so many files.
        rehash: read every input anew to name it, even if it looks unchanged.
        retry: do again what was quarantined.
        verbose: let Ray speak.
        address: of the Ray cluster to work on (`pipeline.joining.find_address`).

    Raises:
        UserError: a mistake in the input, or another run holds the corpus.
        RunError: a stage is broken; or, after everything else is done, records had to be put off.
            What is durable stays.
        ConservationError: something was lost or counted twice.
    """
    listing = list_sources(inputs, plan.recipe.source).limit(limit)
    layout.create(plan.layout.store, plan.recipe.clock.clock())
    number = len(listing.sources)
    view.say(f"{number} file{'' if number == 1 else 's'} listed, {listing.ignored} ignored")
    place = plan.layout.runs.at(_run_name())
    with (
        Lock(plan.layout.store, view.say) as lock,
        place.folder() as folder,
        EventLog(folder / "events.jsonl") as log,
    ):
        for part in ("tables", "media", "shards"):
            plan.layout.store.at(part).sweep()
        if replaced := _replaced(plan):
            view.say(replaced)
        cache = plan.layout.table("sources", "1")
        listing = identify(listing, plan.recipe.source, cache, rehash=rehash)
        place.write_text("recipe.yaml", plan.recipe.to_yaml())
        write_listing(place, listing)
        about = {"schema": SCHEMA, "tool": TOOL_VERSION, "recipe": plan.recipe.name}
        log.write([event("begin", **about, inputs=len(listing.sources))])
        found, computed, put_off = _drain(
            plan, listing, place, folder, log, view, retry=retry, verbose=verbose, address=address
        )
        put_off = [*listing.put_off(), *put_off]
        counts = conservation.count(listing.sources, plan.stages, found)
        conservation.check(listing.sources, counts, found)
        shards, rewritten = _finish(plan, found, lock)
        levels = {name: level.to_json() for name, level in counts.items()}
        log.write([event("put_off", **asdict(one)) for one in put_off])
        end = {"levels": levels, "computed": computed, "put_off": len(put_off)}
        log.write([event("end", **end, shards_rewritten=rewritten)])
    if put_off:
        raise RunError(_unfinished(put_off))
    why = endings(listing.sources, plan.stages, found)
    return Result(place, computed, counts, why, shards, rewritten)


def _drain(
    plan: Plan,
    listing: Listing,
    place: Store,
    folder: Path,
    log: EventLog,
    view: View,
    *,
    retry: bool,
    verbose: bool,
    address: str | None,
) -> tuple[Replay, dict[str, int], list[PutOff]]:
    """Replay and stream in turn until nothing waits but what had to be put off."""
    computed: Counter[str] = Counter()
    before: set[tuple[int, str]] = set()
    put_off: list[PutOff] = []
    notes = place.at(NOTES)
    found, stored = _replay(plan, listing, view, retry=retry)
    if not found.waiting:
        return found, {}, put_off
    from pipeline.cluster import connected  # Ray takes a second to import, and is not always needed
    from pipeline.nodes import check_nodes

    view.say(_announcement(plan, found))
    try:
        log_file = folder / "ray.log"
        with connected(plan.stages, log_file, verbose=verbose, address=address) as cluster:
            phases(plan.stages, cluster)  # what can never run is told before anything runs
            if cluster.sizes:
                view.say(f"a cluster of {cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs")
                check_nodes(plan, place, [one.record for one in found.waiting])
            log.write([event("cluster", **asdict(cluster))])
            while left := _left(plan, found, put_off):
                now = {(one.stage, one.key) for one in left.waiting}
                if now == before:
                    names = sorted({plan.stages[position].name for position, _ in now})
                    raise RunError(f"{len(now)} records wait for {', '.join(names)}: no progress")
                before = now
                with _shown(plan, left, log, view) as on_events:
                    _stream(plan, left, stored, cluster, notes, on_events)
                put_off = read_put_off(notes)
                earlier = stored
                found, stored = _replay(plan, listing, view)
                computed += _fresh(plan, earlier, stored)
    finally:  # here, when no worker can write any more
        keys = blameless(notes)
        for stage, table in zip(plan.stages, plan.tables, strict=True):
            table.forget(keys.get(stage.name, ()))
    tidy(notes)
    return found, dict(computed), put_off


def _fresh(plan: Plan, earlier: Sequence[Stored], now: Sequence[Stored]) -> Counter[str]:
    """Units of work by stage that became durable in between."""
    pairs = zip(plan.stages, earlier, now, strict=True)
    return Counter(
        {stage.name: len(new.answers.keys() - old.answers.keys()) for stage, old, new in pairs}
    )


def _left(plan: Plan, found: Replay, put_off: Sequence[PutOff]) -> Replay | None:
    """What is left to do in this run; None when that is nothing."""
    later = {(one.stage, one.key) for one in put_off}
    waiting = [one for one in found.waiting if (plan.stages[one.stage].name, one.key) not in later]
    return replace(found, waiting=waiting) if waiting else None


def _replay(
    plan: Plan, listing: Listing, view: View, *, retry: bool = False
) -> tuple[Replay, list[Stored]]:
    """Where everything stands, after what is stale was taken out of the tables."""
    while True:
        stored = [table.read() for table in plan.tables]
        answers = [one.answers for one in stored]
        found = replay(plan.stages, listing.records(), answers, retry=retry)
        if not found.stale:
            return found, stored
        for position, table in enumerate(plan.tables):
            keys = {key for at, key in found.stale if at == position}
            if keys:
                view.say(f"{len(keys)} results of {plan.stages[position].name} are made again")
                table.forget(keys)


def _stream(
    plan: Plan,
    found: Replay,
    stored: Sequence[Stored],
    cluster: Cluster,
    notes: Store,
    on_events: Callable[[list[Event]], None],
) -> None:
    """One phase: from the first stage at which a record waits to the last that fits beside it."""
    from pipeline.stream import Link, stream

    first = min(one.stage for one in found.waiting)
    phase = next(part for part in phases(plan.stages, cluster) if first in part)
    positions = range(first, phase.stop)
    # Every worker gets a copy of what is known. What the replay went past does not come again.
    past = {(one.stage, one.key) for one in found.answered}
    links = [
        Link(
            i,
            plan.stages[i],
            plan.tables[i],
            {key: part for key, part in stored[i].parts.items() if (i, key) not in past},
        )
        for i in positions
    ]
    ready = [one for one in found.waiting if one.stage in positions]
    stream(links, ready, cluster, notes, on_events)


@contextmanager
def _shown(
    plan: Plan, found: Replay, log: EventLog, view: View
) -> Iterator[Callable[[list[Event]], None]]:
    """Give the function that takes events: into the log and the view."""
    names = [stage.name for stage in plan.stages]
    waiting = Counter(plan.stages[one.stage].name for one in found.waiting)
    before: dict[str, list[list[str]]] = {name: [] for name in names}
    for one in found.answered:
        before[names[one.stage]].append([row.outcome for row in one.rows])
    progress = Progress(names, waiting, before)

    def on_events(events: list[Event]) -> None:
        log.write(events)
        for one in events:
            progress.add(one)
        view.update(progress)

    view.begin(progress)
    try:
        yield on_events
    finally:
        view.end(progress)


def _finish(plan: Plan, found: Replay, lock: Lock) -> tuple[Store | None, bool]:
    """Corpus stages on the finished records.

    No clip makes no shards; where older ones stand they are replaced by an empty set, since what
    lies there is what the latest run gives.
    """
    (stage,) = plan.corpus_stages
    folder = _shards_folder(plan)
    if not found.finished and not folder.names():
        return None, False
    return folder, stage.run(found.finished, folder, _header(plan), lock.check)


def _shards_folder(plan: Plan) -> Store:
    return plan.layout.shards(plan.recipe.model_dump()["shards"]["name"])


def _header(plan: Plan) -> dict[str, Any]:
    """What a shard manifest says of its making: only what can change a byte, and no paths."""
    identities = {stage.name: stage.identity() for stage in plan.stages}
    return {
        "clock": plan.recipe.clock.clock().to_json(),
        "codec": identities["latents"]["codec"],
        "recipe": {"name": plan.recipe.name, "seed": plan.recipe.seed, "stages": identities},
        "fingerprints": {stage.name: stage.fingerprint for stage in plan.stages},
    }


def _replaced(plan: Plan) -> str | None:
    """A sentence, if shards of another making stand where this run's are to go."""
    folder = _shards_folder(plan)
    try:
        before = read_manifest(folder)["recipe"]
        name, stages = before["name"], dict(before["stages"])
    except (UserError, LookupError, TypeError, ValueError):
        return None  # nothing that anybody could read
    now = json.loads(json.dumps(_header(plan)["recipe"]))
    changed = [stage for stage, settings in now["stages"].items() if stages.get(stage) != settings]
    if name == now["name"] and not changed:
        return None
    how = f"the recipe {name}" if name != now["name"] else f"other settings of {', '.join(changed)}"
    return (
        f"{folder.place()} was made with {how}: this run replaces it "
        "(--set shards.name=OTHER keeps both)"
    )


def _unfinished(put_off: Sequence[PutOff]) -> str:
    """How a run ends that had to leave records."""
    shown = [f"  {one.stage}, {one.item}: {one.why}" for one in put_off[:MOST_NAMED]]
    if len(put_off) > MOST_NAMED:
        shown.append(f"  and {len(put_off) - MOST_NAMED} more")
    return "\n".join(
        [
            f"{len(put_off)} records are left, since they could not be worked on now:",
            *shown,
            "All else is done. Mend the cause and run the same command again: it takes them up.",
        ]
    )


def _announcement(plan: Plan, found: Replay) -> str:
    waiting = Counter(one.stage for one in found.waiting)
    parts = [f"{count} for {plan.stages[i].name}" for i, count in sorted(waiting.items())]
    return f"waiting: {', '.join(parts)}; starting Ray"


def _run_name() -> str:
    """A name that sorts by time."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{stamp}-{os.getpid()}"

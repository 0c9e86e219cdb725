"""`run`: list inputs, replay, stream what waits, check conservation, write shards.

The loop is the whole of resume: replay the tables; if records wait, stream them; replay again.
Whether any work remains is thereby decided before Ray is started.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from corpus import layout
from corpus.errors import UserError
from corpus.layout import TOOL_VERSION
from corpus.shards.manifest import read_manifest
from corpus.store import Store
from pipeline.cluster.signals import terminations_interrupt
from pipeline.faults import PutOff, RunError, blameless, read_put_off, tidy
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import Listing, write_listing
from pipeline.ledger import conservation
from pipeline.ledger.compaction import AT_ONCE, compact
from pipeline.ledger.decoding import Decoding
from pipeline.ledger.endings import Ending
from pipeline.ledger.leash import Leash
from pipeline.ledger.lock import Lock
from pipeline.ledger.walk import Finished, Tally, slices
from pipeline.plan import Cluster, Plan, phases
from pipeline.streaming.queue import Queue
from pipeline.telemetry.events import SCHEMA, Event, EventLog, event
from pipeline.telemetry.progress import Progress, View

NOTES, QUEUE = "notes", "waiting"
STAMP = "%Y%m%dT%H%M%S.%fZ"
MOST_NAMED = 10  # records that a message lists


@dataclass(frozen=True)
class Result:
    """What a run did.

    Attributes:
        folder: of the run.
        computed: units of work per stage that were computed, not read.
        counts: the conservation table.
        endings: why things ended.
        decoding: pictures against packets.
        shards: folder of the shards; None when no clip came through and none stood there.
        rewritten: whether the shards were made anew.
    """

    folder: Store
    computed: dict[str, int]
    counts: conservation.Counts
    endings: list[Ending]
    decoding: Decoding
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
        address: of the Ray cluster to work on (`pipeline.cluster.joining.find_address`).

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
    place = plan.layout.runs.at(_run_name(plan.layout.runs))
    with (
        terminations_interrupt(),
        Lock(plan.layout.store, view.say) as lock,
        place.folder() as folder,
        EventLog(folder / "events.jsonl") as log,
    ):
        for part in ("tables", "media", "shards"):
            plan.layout.store.at(part).sweep()
        _tidy_earlier(plan.layout.runs)
        if replaced := _replaced(plan):
            view.say(replaced)
        cache = plan.layout.table("sources", "1")
        listing = identify(listing, plan.recipe.source, cache, rehash=rehash)
        place.write_text("recipe.yaml", plan.recipe.to_yaml())
        write_listing(place, listing)
        about = {"schema": SCHEMA, "tool": TOOL_VERSION, "recipe": plan.recipe.name}
        log.write([event("begin", **about, inputs=len(listing.sources))])
        found, computed, put_off = _drain(
            plan,
            listing,
            place,
            folder,
            log,
            view,
            lock.leash,
            retry=retry,
            verbose=verbose,
            address=address,
        )
        put_off = [*listing.put_off(), *put_off]
        shards, rewritten = _finish(plan, found, lock)
        levels = conservation.told(found.sums.counts)
        log.write([event("put_off", **asdict(one)) for one in put_off])
        end = {"levels": levels, "computed": computed, "put_off": len(put_off)}
        log.write([event("end", **end, shards_rewritten=rewritten)])
    if put_off:
        raise RunError(_unfinished(put_off))
    sums = found.sums
    return Result(place, computed, sums.counts, sums.endings, sums.decoding, shards, rewritten)


@dataclass(frozen=True)
class _Standing:
    """Where everything stands: its sum, and what is on disk of it."""

    sums: Tally
    queue: Queue
    finished: Finished


def _drain(
    plan: Plan,
    listing: Listing,
    place: Store,
    folder: Path,
    log: EventLog,
    view: View,
    leash: Leash,
    *,
    retry: bool,
    verbose: bool,
    address: str | None,
) -> tuple[_Standing, dict[str, int], list[PutOff]]:
    """Replay and stream in turn until nothing waits but what had to be put off."""
    notes, put_off = place.at(NOTES), list[PutOff]()
    for table in plan.tables:
        compact(table)
    now = begun = _stand(plan, listing, place, view, retry=retry)
    if not now.queue:
        return now, {}, put_off
    from pipeline.cluster.connect import (
        connected,  # Ray takes a second to import, and is not always needed
        measured,
    )
    from pipeline.cluster.nodes import check_nodes

    view.say(_announcement(begun.sums))
    try:
        log_file = folder / "ray.log"
        with connected(plan.stages, log_file, verbose=verbose, address=address) as cluster:
            phases(plan.stages, cluster)  # what can never run is told before anything runs
            if cluster.sizes:
                view.say(f"a cluster of {cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs")
                if lost := check_nodes(plan, place, begun.queue.some()):
                    view.say(f"died while they were asked, and left out: {', '.join(lost)}")
                    cluster = measured(foreign=True)
                    phases(plan.stages, cluster)
            size = {"cpus": cluster.cpus, "gpus": cluster.gpus, "workers": cluster.workers}
            log.write([event("cluster", **size)])
            for table in plan.tables:
                compact(table, many=1)  # what is durable now is looked up in sorted parts
            before = None
            while now.queue:
                if (now.queue.digest, len(now.queue)) == before:
                    names = ", ".join(plan.stages[at].name for at in now.queue.stages)
                    raise RunError(f"{len(now.queue)} records wait for {names}: no progress")
                before = (now.queue.digest, len(now.queue))
                with _shown(now.sums, log, view) as on_events:
                    _stream(plan, now.queue, cluster, notes, on_events, leash)
                put_off = read_put_off(notes)
                now = _stand(plan, listing, place, view, put_off)
    finally:  # here, when no worker can write any more
        keys = blameless(notes)
        for stage, table in zip(plan.stages, plan.tables, strict=True):
            table.forget(keys.get(stage.name, ()))
    for table in plan.tables:
        compact(table)
    tidy(notes)
    place.at(QUEUE).clear()
    return now, dict(now.sums.durable - begun.sums.durable), put_off


def _stand(
    plan: Plan,
    listing: Listing,
    place: Store,
    view: View,
    put_off: Sequence[PutOff] = (),
    *,
    retry: bool = False,
) -> _Standing:
    """Where everything stands, after what is stale was taken out of the tables."""
    names = [stage.name for stage in plan.stages]
    later = {(names.index(one.stage), one.key) for one in put_off}
    while True:
        now = _Standing(Tally(plan), Queue(place.at(QUEUE), later), Finished())
        for part in slices(plan, listing, retry=retry):
            now.sums.add(part)
            now.queue.add(part.found.waiting)
            now.finished.add(part.found.finished)
        if not now.sums.stale:
            now.queue.close()
            return now
        for name, table in zip(names, plan.tables, strict=True):
            if keys := now.sums.stale.get(name):
                view.say(f"{len(keys)} results of {name} are made again")
                table.forget(keys)


def _stream(
    plan: Plan,
    queue: Queue,
    cluster: Cluster,
    notes: Store,
    on_events: Callable[[list[Event]], None],
    leash: Leash,
) -> None:
    """One phase: from the first stage at which a record waits to the last that fits beside it."""
    from pipeline.streaming.stream import Link, stream

    first = queue.stages[0]
    phase = next(part for part in phases(plan.stages, cluster) if first in part)
    positions = range(first, phase.stop)
    links = [Link(at, plan.stages[at], plan.tables[at]) for at in positions]
    stream(links, queue.backlog(positions), cluster, notes, on_events, leash)


@contextmanager
def _shown(now: Tally, log: EventLog, view: View) -> Iterator[Callable[[list[Event]], None]]:
    """Give the function that takes events: into the log and the view. It sorts parts as they come:
    a long run leaves no folder of a million files."""
    names = [stage.name for stage in now.plan.stages]
    progress = Progress(names, now.waiting, now.answered, now.outcomes)
    tables = dict(zip(names, now.plan.tables, strict=True))
    written = Counter[str]()

    def on_events(events: list[Event]) -> None:
        log.write(events)
        for one in events:
            progress.add(one)
            if one["event"] == "batch" and one["computed"]:
                written[one["stage"]] += 1
        view.update(progress)
        for name in [name for name, parts in written.items() if parts >= AT_ONCE]:
            compact(tables[name], many=AT_ONCE)
            del written[name]

    view.begin(progress)
    try:
        yield on_events
    finally:
        view.end(progress)


def _finish(plan: Plan, found: _Standing, lock: Lock) -> tuple[Store | None, bool]:
    """Corpus stages on the finished records.

    No clip makes no shards; where older ones stand they are replaced by an empty set, since what
    lies there is what the latest run gives.
    """
    (stage,) = plan.corpus_stages
    folder = _shards_folder(plan)
    if not found.finished and not folder.names():
        return None, False
    header = {**plan.header(), "counts": conservation.told(found.sums.counts)}
    return folder, stage.run(found.finished, folder, header, lock.check)


def _shards_folder(plan: Plan) -> Store:
    return plan.layout.shards(plan.recipe.model_dump()["shards"]["name"])


def _replaced(plan: Plan) -> str | None:
    """A sentence, if shards of another making stand where this run's are to go."""
    folder = _shards_folder(plan)
    try:
        before = read_manifest(folder)["recipe"]
        name, stages = before["name"], dict(before["stages"])
    except (UserError, LookupError, TypeError, ValueError):
        return None  # nothing that anybody could read
    now = json.loads(json.dumps(plan.header()["recipe"]))
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


def _announcement(now: Tally) -> str:
    parts = [f"{now.waiting[s.name]} for {s.name}" for s in now.plan.stages if now.waiting[s.name]]
    return f"waiting: {', '.join(parts)}; starting Ray"


def _run_name(runs: Store) -> str:
    """A name that sorts behind those of earlier runs, also where the clock went backwards."""
    now = datetime.now(UTC)
    for stamp in (name.partition("-")[0] for name in runs.names()):
        with suppress(ValueError):  # a folder that is no run
            before = datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
            now = max(now, before + timedelta(microseconds=1))
    return f"{now.strftime(STAMP)}-{os.getpid()}"


def _tidy_earlier(runs: Store) -> None:
    """Clear away what killed runs noted and queued."""
    noted = {tuple(name.split("/")[:2]) for name in runs.names() if name.count("/") > 1}
    for run, folder in sorted(noted):
        if folder == NOTES:
            tidy(runs.at(f"{run}/{folder}"))
        elif folder == QUEUE:
            runs.at(f"{run}/{folder}").clear()

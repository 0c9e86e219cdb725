"""The streaming execution: one Ray Data pipeline of actor pools, one per crew (`pipeline.crews`).

All stages of a phase work at once: while clips of one video are cut, clips of another are
captioned. Records are small (references, never frames), and so are blocks: the clips of one long
film spread over all workers of the next stage. A stage on a CPU takes what has arrived, at most its
batch; only where a GPU would idle do batches wait to be filled across films.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from corpus.store import Folder, store_at
from pipeline.cluster.connect import measured
from pipeline.cluster.joining import is_client
from pipeline.cluster.nodes import SeeingCrew, leave_sign
from pipeline.cluster.room import all_fit
from pipeline.crews import crews, need, needs
from pipeline.faults import RunError, read_fatal
from pipeline.ledger.leash import Leash
from pipeline.ledger.tables import Table
from pipeline.plan import Cluster
from pipeline.streaming.queue import Backlog, taken
from pipeline.streaming.worker import Crew, Job
from pipeline.telemetry.events import Event
from stages.stage import Stage

BLOCK_BYTES = 4 * 1024  # a few records: they go through many stages in one process
MAX_SOURCE_BLOCKS = 1000  # the driver keeps a reference per block
POLL_SECONDS = 0.25
STUCK_SECONDS = 600.0  # without a word; a long film may take that in one stage
LOOK_SECONDS = 30.0


@dataclass(frozen=True)
class Link:
    """One stage of the stream with its place in the plan."""

    position: int
    stage: Stage
    table: Table


def stream(
    links: Sequence[Link],
    waiting: Backlog,
    cluster: Cluster,
    notes: Folder,
    on_events: Callable[[list[Event]], None],
    leash: Leash,
) -> None:
    """Run ``waiting`` records through ``links`` until all that can be answered is durable.

    Args:
        notes: folder of this run, for attempt marks and faults.
        on_events: gets the workers' events now and then, from another thread.
        leash: ends the workers with the run.

    Raises:
        UserError, RunError: as a worker raised it.
    """
    monitor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Monitor).remote()
    try:
        reporter = _Reporter(monitor)
        told = _until_stuck(links, on_events) if cluster.sizes else on_events
        with _polling(monitor, told) as broken:
            if is_client():  # Ray Data runs in drivers only: have one made in the cluster
                driver: Any = ray.remote(num_cpus=0, max_retries=0)(_run)
                pending = [driver.remote(links, waiting, cluster, notes, reporter, leash)]
                while pending and not broken:
                    done, pending = ray.wait(pending, timeout=POLL_SECONDS)
                    ray.get(done)
            else:
                _run(links, waiting, cluster, notes, reporter, leash, broken)
    except Exception as error:
        known = read_fatal(notes)
        raise known or RunError(f"the stream broke: {type(error).__name__}: {error}") from error
    finally:
        ray.kill(monitor)


def _run(
    links: Sequence[Link],
    waiting: Backlog,
    cluster: Cluster,
    notes: Folder,
    reporter: "_Reporter",
    leash: Leash,
    broken: Sequence[Exception] = (),
) -> None:
    """Drive the stream until it ends or something is ``broken``."""
    _quiet()
    data = _dataset(links, waiting, cluster, notes, reporter, leash)
    for _ in data.iter_batches(batch_size=None, batch_format="pyarrow"):
        if broken:
            break


class _Monitor:
    """Collects events of all workers.

    When it dies it is started again: what it had not passed on is missing from the log then, and
    from nothing else.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []

    def report(self, event: Event) -> None:
        self._events.append(event)

    def drain(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class _Reporter:
    """Sends events to the monitor and waits until it has them: what a worker passes on after that
    reaches the driver later, so that the last look finds all events."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def __call__(self, event: Event) -> None:
        ray.get(self._monitor.report.remote(event))


def _dataset(
    links: Sequence[Link],
    waiting: Backlog,
    cluster: Cluster,
    notes: Folder,
    report: _Reporter,
    leash: Leash,
) -> ray.data.Dataset:
    """Ray Data restarts actors that died, and repeats their tasks, without limit by default; what
    kills a worker twice is quarantined (`pipeline.streaming.worker`), so this comes to an end."""
    store = store_at(notes)
    crew, place = (SeeingCrew, (store,)) if cluster.sizes else (Crew, ())
    if cluster.sizes:
        leave_sign(store)
    orders = waiting.orders(math.ceil(len(waiting) / MAX_SOURCE_BLOCKS))
    data: ray.data.Dataset = ray.data.from_arrow(orders)
    # Records come out of their files as fast as they are worked on: the store holds no backlog.
    read: Any = taken
    data = data.map_batches(
        read, batch_size=None, batch_format="pyarrow", num_cpus=0, fn_args=(waiting.store,)
    )
    for part in crews([link.stage for link in links]):
        together = [links[at] for at in part]
        jobs = [
            Job(one.stage, one.position, one.table, store.at(one.stage.name), report)
            for one in together
        ]
        wanted = need([one.stage for one in together])
        data = data.map_batches(
            crew,
            fn_constructor_args=(jobs, leash, *place),
            batch_size=wanted.batch if wanted.gpus or wanted.patient else None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=1, max_size=max(1, min(wanted.max_workers, cluster.workers))
            ),
            num_cpus=wanted.cpus,
            num_gpus=wanted.gpus,
            memory=wanted.memory or None,
        )
    return data


def _quiet() -> None:
    """Ray Data without its own bars and logs, small blocks, and no limit on the longest film.

    `Stage.process` has its own wall-clock limits; Ray's guard would stop a run in which one long
    film is all that is left.
    """
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _until_stuck(
    links: Sequence[Link], on_events: Callable[[list[Event]], None]
) -> Callable[[list[Event]], None]:
    """``on_events`` that raises a RunError when nothing was told for long, and the machines that
    are left have no room for all stages: Ray would wait for ever, and print nothing."""
    wanted = needs([link.stage for link in links])
    heard = looked = time.monotonic()

    def told(events: list[Event]) -> None:
        nonlocal heard, looked
        now = time.monotonic()
        on_events(events)
        if events:
            heard = now
        if now - heard < STUCK_SECONDS or now - looked < LOOK_SECONDS:
            return
        looked, left = now, measured(foreign=True)
        if not all_fit(wanted, left.sizes):
            raise RunError(
                f"nothing happened for {STUCK_SECONDS:.0f} s: machines were lost, and the "
                f"{left.cpus:g} CPUs and {left.gpus:g} GPUs that are left have no room for all "
                "stages at once. What is done stays: run again, and stages take turns on what is "
                "left"
            )

    return told


@contextmanager
def _polling(monitor: Any, on_events: Callable[[list[Event]], None]) -> Iterator[list[Exception]]:
    """Pass events on from a thread; what that raises is in the list at once, and raised at the
    end."""
    done = threading.Event()
    broken: list[Exception] = []

    def poll() -> None:
        try:
            while not done.wait(POLL_SECONDS):
                on_events(ray.get(monitor.drain.remote()))
        except Exception as error:
            broken.append(error)

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield broken
    finally:
        done.set()
        thread.join()
        if not broken:
            on_events(ray.get(monitor.drain.remote()))
    if broken:
        raise broken[0]

"""Does memory stay flat from N to 10 N inputs? And what does a run with nothing to do cost?

Two halves. *Tables*: clips that the tests' small stages answer, in parts as workers write them; a
process of its own compacts them and walks the corpus as a run with nothing to do does, and tells
its peak memory and seconds. *Ray* (``python -m benchmarks.scale ray``): whole runs of the same
stages over N and 10 N films, with the driver's peak memory and the object store's.
"""

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "pipeline"))

CLIPS_PER_FILM, WORDS = 20, ["a", "b", "c", "bad"]
BATCH = 8  # clips in a part
SIZES = (2_000, 20_000)  # clips
FILMS = (30, 300)  # of the runs on Ray
MIB = 2**20


def main(arguments: list[str]) -> None:
    """Print what was measured."""
    task, *rest = arguments or ["tables"]
    {"tables": _tables, "ray": _ray, "walk": _walk, "run": _run}[task](*rest)


def _plan(corpus: Path) -> Any:
    from conftest import FakeRecipe, ListConfig, ListStage
    from pipeline_fakes import STAGES, FakeConfig

    from corpus import layout
    from corpus.clock import Clock
    from pipeline.plan import Plan
    from stages.stage import Context

    place = layout.create(corpus, Clock())
    context = Context(place.media, Clock())
    stages = [kind(FakeConfig(batch=BATCH), context) for kind in STAGES]
    return Plan(FakeRecipe(name="scale"), place, stages, [ListStage(ListConfig(), context)])


def _films(folder: Path, count: int, clips: int) -> None:
    folder.mkdir()
    for number in range(count):
        script = {"name": number, "shots": [[WORDS] * clips]}
        (folder / f"{number:06d}.mp4").write_text(json.dumps(script))


def _listing(films: Path, corpus: Path) -> Any:
    from pipeline.inputs.listing import list_sources
    from pipeline.inputs.naming import identify
    from pipeline.inputs.sources import SourceConfig

    config = SourceConfig()
    return identify(list_sources(films, config), config, corpus / "sources", rehash=False)


def _fill(plan: Any, listing: Any) -> None:
    """What a run would store, in parts of one batch."""
    for source in listing.sources:
        records = [source.record()]
        for stage, table in zip(plan.stages, plan.tables, strict=True):
            onward = []
            for start in range(0, len(records), BATCH):
                batch = records[start : start + BATCH]
                answers = stage.process(batch)
                pairs = list(zip(batch, answers, strict=True))
                table.write([(stage.key(r), r["video_id"], rows) for r, rows in pairs])
                onward += [item for record, rows in pairs for item in stage.advance(record, rows)]
            records = onward


def _tables(*sizes: str) -> None:
    measured = []
    for clips in map(int, sizes or SIZES):
        with tempfile.TemporaryDirectory() as room:
            films, corpus = Path(room, "films"), Path(room, "corpus")
            _films(films, clips // CLIPS_PER_FILM, CLIPS_PER_FILM)
            plan = _plan(corpus)
            _fill(plan, _listing(films, corpus))
            for turn in ("compacting", "walking"):
                found = _child("walk", str(films), str(corpus))
                measured.append((clips, found))
                sys.stdout.write(
                    f"{clips:>8} clips, {turn:10}: {found['parts']:>6} parts, "
                    f"peak {found['peak'] / MIB:6.1f} MiB ({found['grown'] / MIB:5.1f} over an "
                    f"empty process), {found['seconds']:6.2f} s, "
                    f"{1000 * found['seconds'] / clips:.2f} ms per clip\n"
                )
    (few, small), (many, large) = measured[1], measured[-1]
    growth = (large["peak"] - small["peak"]) / (many - few)
    sys.stdout.write(f"{growth:.0f} bytes of peak memory per further clip\n")


def _walk(films: str, corpus: str) -> None:
    """Compact, walk, count, spool: what a run does before it knows that nothing is left."""
    from corpus.store import LocalStore
    from pipeline.ledger.compaction import compact
    from pipeline.ledger.walk import Finished, Tally, slices
    from pipeline.streaming.queue import Queue

    plan, empty, begun = _plan(Path(corpus)), _peak(), time.monotonic()
    listing = _listing(Path(films), Path(corpus))
    for table in plan.tables:
        compact(table)
    sums, finished = Tally(plan), Finished()
    with tempfile.TemporaryDirectory() as room:
        queue = Queue(LocalStore(Path(room)))
        for part in slices(plan, listing):
            sums.add(part)
            queue.add(part.found.waiting)
            finished.add(part.found.finished)
    seconds = time.monotonic() - begun
    assert sums.counts["clips"].ok == len(finished) and not len(queue)  # noqa: S101
    parts = sum(len(table.parts()) for table in plan.tables)
    _tell({"peak": _peak(), "grown": _peak() - empty, "seconds": seconds, "parts": parts})


def _ray(*sizes: str) -> None:
    for count in map(int, sizes or FILMS):
        with tempfile.TemporaryDirectory() as room:
            films = Path(room, "films")
            _films(films, count, CLIPS_PER_FILM)
            found = _child("run", str(films), str(Path(room, "corpus")))
            sys.stdout.write(
                f"{count:>6} films, {count * CLIPS_PER_FILM:>6} clips: driver's peak "
                f"{found['peak'] / MIB:6.1f} MiB, object store's {found['store'] / MIB:6.2f} MiB, "
                f"{found['seconds']:.1f} s\n"
            )


def _run(films: str, corpus: str) -> None:
    """A whole run on a local Ray."""
    import logging

    import ray
    from rich.console import Console

    from pipeline.runner import run
    from pipeline.telemetry.progress import PlainView

    paths = {"PYTHONPATH": str(Path(__file__).parents[1] / "tests" / "pipeline")}
    ray.init(
        address="local",
        num_cpus=10,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": paths},
    )
    begun = time.monotonic()
    with _watched_store() as highest:
        run(_plan(Path(corpus)), films, PlainView(Console(quiet=True)))
    _tell({"peak": _peak(), "store": max(highest), "seconds": time.monotonic() - begun})


@contextmanager
def _watched_store() -> Iterator[list[float]]:
    """Bytes used in the object store, looked at often."""
    import ray

    done, seen = threading.Event(), [0.0]

    def look() -> None:
        while not done.wait(0.1):
            have = ray.cluster_resources().get("object_store_memory", 0.0)
            seen.append(have - ray.available_resources().get("object_store_memory", have))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _child(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("{")]  # Ray speaks, too
    return dict(json.loads(told[-1]))


def _tell(found: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")


def _peak() -> int:
    """Bytes of this process's memory at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1:])

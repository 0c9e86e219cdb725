"""Trials: films taken through all row stages here and now, each piece of work timed.

`tv2tv plan` measures with them. They run the real stages on a corpus of their own, in as many
processes as a run would have workers, so that what is measured is what a run will meet: cores that
are all busy. What they compute is stored as any run stores it; the runner then finds nothing left
to do but to count, and to write shards.
"""

import multiprocessing
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from corpus.rows import Row
from pipeline.faults import RunError, passing, systemic
from pipeline.ledger.tables import Table
from pipeline.plan import make_plan
from pipeline.recipe import parse_recipe
from pipeline.telemetry.events import cpu_seconds
from stages.stage import GateStage, Record, Stage

TOKEN = re.compile(r"\w+|[^\w\s]")  # a word or a mark


@dataclass(frozen=True)
class Trial:
    """What one film gave, and what it took.

    Attributes:
        seconds: by stage, wall-clock seconds while all cores were busy.
        cpu: by stage, processor seconds, those of children too.
        made: sums by name: ``shots``; ``clips``, ``segments`` and ``clip_seconds`` that came
            through; ``tokens`` of all answers of the caption backend (words and marks where it does
            not count its own); ``bytes.<stage>`` of media files.
        probed: the record after the first stage; None if the film ended there.
        whole: whether every piece of work was done; what was put off was not.
    """

    video_id: str
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    made: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    probed: Record | None = None
    whole: bool = True


def run_trials(
    recipe: str,
    corpus: Path,
    records: Sequence[Record],
    *,
    stages: int | None = None,
    workers: int = 1,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[Trial]:
    """Trials of ``records``, as they end, in ``workers`` processes.

    Args:
        recipe: resolved, as YAML.
        stages: only the first so many.
        until: asked before each film is begun; True stops with those that are in work.

    Raises:
        UserError, RunError: as a stage raised it, or a process died.
    """
    if not records:
        return
    context = multiprocessing.get_context("spawn")
    left = iter(records)
    with ProcessPoolExecutor(
        min(workers, len(records)), context, _open, (recipe, corpus, stages)
    ) as pool:
        going: set[Future[Trial]] = {pool.submit(_film, record) for record in islice(left, workers)}
        try:
            while going:
                done = next(as_completed(going))
                going.remove(done)
                yield done.result()
                if not until() and (record := next(left, None)) is not None:
                    going.add(pool.submit(_film, record))
        except BrokenProcessPool as error:
            raise RunError("a process died while it tried a film: is memory short?") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_opened: list[tuple[Stage, Table]] = []  # of this process


def _open(recipe: str, corpus: Path, count: int | None) -> None:
    """Open the stages, with as many threads as Ray gives a worker."""
    import yaml

    os.environ["OMP_NUM_THREADS"] = "1"
    plan = make_plan(parse_recipe(yaml.safe_load(recipe), [], "of the plan"), corpus)
    chosen = list(zip(plan.stages, plan.tables, strict=True))[:count]
    for stage, _ in chosen:
        stage.open()
    _opened[:] = chosen


def _film(record: Record) -> Trial:
    return walk(_opened, record, record["video_id"])


def walk(stages: Sequence[tuple[Stage, Table]], record: Record, video: str) -> Trial:
    """Take one film through the stages, a stage at a time, in batches as a run would."""
    found = Trial(video)
    records, probed, whole = [record], None, True
    for number, (stage, table) in enumerate(stages):
        if isinstance(stage, GateStage):
            continue  # decides over all clips of a corpus
        onward: list[Record] = []
        size = stage.resources.batch
        for start in range(0, len(records), size):
            batch = records[start : start + size]
            begun, spent = time.perf_counter(), cpu_seconds()
            answers = _answers(stage, table, batch)
            items = [
                item
                for one, rows in zip(batch, answers, strict=True)
                if rows
                for item in stage.advance(one, rows)
            ]
            found.seconds[stage.name] += time.perf_counter() - begun
            found.cpu[stage.name] += cpu_seconds() - spent
            whole &= all(answers)
            _count_rows(found, stage, [row for rows in answers for row in rows])
            _count_files(found, stage, items)
            onward += items
        records = onward
        if number == 0 and records:
            probed = records[0]
    for one in records:
        _count_clip(found, one, stages[0][0].context.clock.chunk_seconds)
    return Trial(video, dict(found.seconds), dict(found.cpu), dict(found.made), probed, whole)


def _answers(stage: Stage, table: Table, batch: Sequence[Record]) -> list[list[Row]]:
    """Rows of each record, stored; none for one that was put off."""
    keys = [stage.key(record) for record in batch]
    try:
        answers = stage.process([stage.seen(record) for record in batch])
    except Exception as error:
        if systemic(error):
            raise
        answers = [_alone(stage, record) for record in batch]
    found = {
        key: (key, str(record["video_id"]), rows)
        for key, record, rows in zip(keys, batch, answers, strict=True)
        if rows
    }
    if found:
        table.write(list(found.values()))
    return answers


def _alone(stage: Stage, record: Record) -> list[Row]:
    try:
        return stage.process([stage.seen(record)])[0]
    except Exception as error:
        if systemic(error):
            raise
        if passing(error):
            return []
        return stage.end(record, "quarantined", "exception", f"{type(error).__name__}: {error}")


def _count_rows(found: Trial, stage: Stage, rows: Sequence[Row]) -> None:
    if stage.level == "shot":
        found.made["shots"] += len({row.id for row in rows if row.id and row.outcome == "ok"})
    if stage.name == "captions":
        said = [row.columns for row in rows]
        said += [step for row in rows for step in row.columns.get("ladders") or ()]
        found.made["tokens"] += sum(map(_tokens, said))


def _tokens(said: Mapping[str, Any]) -> int:
    """Of one caption: as the backend counted, or else words and marks."""
    return said.get("tokens_out") or len(TOKEN.findall(said.get("text") or ""))


def _count_files(found: Trial, stage: Stage, items: Sequence[Record]) -> None:
    """Bytes of the media that a stage made."""
    if stage.makes is not None:
        names = {item[stage.makes] for item in items}
        sizes = [stage.context.media.path(name).stat().st_size for name in names]
        found.made[f"bytes.{stage.name}"] += sum(sizes)


def _count_clip(found: Trial, record: Record, chunk_seconds: float) -> None:
    """A record that came out at the end."""
    if "clip_id" not in record:
        return
    found.made["clips"] += 1
    found.made["clip_seconds"] += record["chunks"] * chunk_seconds
    found.made["segments"] += len(record.get("segments", ()))

"""The loader: shards in, steps out; its whole state is (epoch, step).

The trainer's process holds the texts and the plan, and says what each step is made of (`Task`);
`assemble` turns a task into tensors, in the same process or in worker processes, with draws keyed
by (seed, sample key, epoch, use). So rows do not depend on workers, ranks or resumes.
"""

import dataclasses
import multiprocessing
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from corpus.errors import UserError
from corpus.shards import ShardSet
from training.config import RowsConfig
from training.plan import LengthIndex, Plan, plan_epoch, rank_rows
from training.rows import Batch, Budget, pack
from training.samples import Item, Samples
from training.sequence import Draws, Sample, SequenceConfig, Specials, build

# A worker that is silent for so long is taken for dead: an error is better than a run that hangs.
SILENCE = 600.0
AHEAD = 4  # steps that each worker keeps ready


@dataclass(frozen=True, order=True)
class Position:
    """Where a run stands: the next step to do, counted within its epoch."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Recipe:
    """What is the same for all steps of a run."""

    shards: ShardSet
    sequence: SequenceConfig
    specials: Specials
    budget: Budget
    factor: int
    seed: int


@dataclass(frozen=True)
class Task:
    """One step of one rank, before anything is read.

    Attributes:
        passes: micro-steps of rows of items.
        latent_shape: (C, h, w) of every item.
        fill: share of each part of the rows in use, over the epoch.
    """

    position: Position
    following: Position
    passes: tuple[tuple[tuple[Item, ...], ...], ...]
    latent_shape: tuple[int, int, int]
    fill: dict[str, float]


@dataclass(frozen=True)
class Step:
    """One step of one rank, ready for the model.

    Attributes:
        position: which step this is.
        following: what to store: where a resumed run goes on.
        batches: micro-steps.
        fill: share of each part of the rows in use, over the epoch.
        waited: seconds that the trainer waited for this step.
    """

    position: Position
    following: Position
    batches: tuple[Batch, ...]
    fill: dict[str, float]
    waited: float = 0.0

    @property
    def keys(self) -> list[str]:
        """Samples in this step, for messages."""
        return [key for batch in self.batches for row in batch.keys for key in row]


class Loader:
    """Endless steps of one rank from any position on.

    Args:
        workers: processes that read and build rows; 0 = this one. The rows are the same.
    """

    def __init__(
        self,
        samples: Samples,
        recipe: Recipe,
        rows: RowsConfig,
        *,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._samples, self._rows = samples, rows
        self._recipe = recipe
        self._workers, self._rank, self._world = workers, rank, world
        self._plans: dict[int, Plan] = {}

    @property
    def index(self) -> LengthIndex:
        return self._samples.index

    def plan(self, epoch: int) -> Plan:
        """The pack plan of an epoch; the last one asked for is kept."""
        if epoch not in self._plans:
            self._plans = {
                epoch: plan_epoch(
                    self.index,
                    self._rows.slots,
                    rows_per_step=self._rows.per_step,
                    shuffle_shards=self._rows.shuffle_shards,
                    seed=self._recipe.seed,
                    epoch=epoch,
                )
            }
        return self._plans[epoch]

    def tasks(self, start: Position) -> Iterator[Task]:
        """What this rank does from a position on, without end; nothing is read yet."""
        position = start
        while True:
            plan = self.plan(position.epoch)
            last = position.step + 1 >= len(plan)
            following = (
                Position(position.epoch + 1)
                if last
                else Position(position.epoch, position.step + 1)
            )
            yield self._task(plan, position, following)
            position = following

    def steps(self, start: Position) -> Generator[Step, None, None]:
        """Ready steps from a position on, without end.

        Raises:
            UserError: a shard that cannot be read or whose bytes are wrong, naming shard and key.
        """
        # Workers get no index: each task carries what it needs.
        light = dataclasses.replace(
            self._recipe, shards=dataclasses.replace(self._recipe.shards, entries=())
        )
        feed = DataLoader(
            _Assembly(light),
            batch_size=None,
            sampler=_Tasks(self, start),
            collate_fn=_as_it_is,
            num_workers=self._workers,
            prefetch_factor=AHEAD if self._workers else None,
            multiprocessing_context=_clean_processes() if self._workers else None,
            timeout=SILENCE if self._workers else 0,
        )
        ready = iter(feed)
        while True:
            asked = time.perf_counter()
            outcome = next(ready)
            if isinstance(outcome, UserError):
                raise outcome
            yield dataclasses.replace(outcome, waited=time.perf_counter() - asked)

    def _task(self, plan: Plan, position: Position, following: Position) -> Task:
        rows = rank_rows(plan.step(position.step), self._rank, self._world)
        items = [tuple(self._samples.item(window) for window in row) for row in rows]
        first = plan.step(position.step)[0][0].sample
        size = self._rows.per_pass
        return Task(
            position=position,
            following=following,
            passes=tuple(tuple(items[i : i + size]) for i in range(0, len(items), size)),
            latent_shape=self.index.shapes[first],
            fill=plan.fill,
        )


def assemble(task: Task, recipe: Recipe) -> Step:
    """Read the latents of a task and pack its rows."""
    return Step(
        position=task.position,
        following=task.following,
        batches=tuple(_batch(rows, task, recipe) for rows in task.passes),
        fill=task.fill,
    )


def _batch(rows: Sequence[Sequence[Item]], task: Task, recipe: Recipe) -> Batch:
    documents = [
        [
            build(
                _sample(item, recipe.shards),
                Draws(recipe.seed, item.entry.key, task.position.epoch),
                recipe.sequence,
                recipe.specials,
            )
            for item in row
        ]
        for row in rows
    ]
    return pack(documents, recipe.budget, task.latent_shape, recipe.factor, recipe.specials)


def _sample(item: Item, shards: ShardSet) -> Sample:
    return Sample(
        key=item.entry.key,
        meta=item.text.meta,
        spans=tuple(span for span in item.text.spans if span.a < item.chunks),
        latent=shards.latent(item.entry)[:, : 1 + item.chunks],
        complete=item.whole,
    )


class _Tasks(Sampler[Task]):
    """Tasks as torch's loader wants them: something that can be iterated."""

    def __init__(self, loader: Loader, start: Position) -> None:
        self._loader, self._start = loader, start

    def __iter__(self) -> Iterator[Task]:
        return self._loader.tasks(self._start)


class _Assembly(Dataset[Step | UserError]):
    """`assemble` as torch's loader wants it: a look-up by task."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __getitem__(self, task: Task) -> Step | UserError:
        """A user's error is handed over: raised here, torch would wrap it in a traceback."""
        try:
            return assemble(task, self._recipe)
        except UserError as error:
            return error


def _as_it_is(step: Any) -> Any:
    return step


def _clean_processes() -> multiprocessing.context.BaseContext:
    """Workers are forked from a server without threads: a fork of a trainer with some can hang."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    torch.multiprocessing.set_sharing_strategy("file_descriptor")
    return context

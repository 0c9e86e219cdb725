"""The plan: a recipe on a corpus, and which of its stages can run at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import UserError
from corpus.layout import Layout
from corpus.store import store_at
from pipeline.recipe import Recipe, make_corpus_stages, make_stages
from pipeline.tables import Table
from stages.stage import Context, CorpusStage, GateStage, Stage


@dataclass(frozen=True)
class Plan:
    """A recipe on a corpus: everything a run needs but the inputs."""

    recipe: Recipe
    layout: Layout
    stages: Sequence[Stage]
    corpus_stages: Sequence[CorpusStage]

    @property
    def tables(self) -> list[Table]:
        return [Table.of(self.layout, stage) for stage in self.stages]


@dataclass(frozen=True)
class Cluster:
    """What Ray may schedule on, in logical units.

    Attributes:
        workers: upper bound of any one pool.
    """

    cpus: float
    gpus: float
    workers: int


def make_plan(recipe: Recipe, corpus: Path | str) -> Plan:
    """Build a recipe's stages on a corpus, which need not be there yet (`pipeline.runner.run`)."""
    place = Layout(store_at(corpus))
    context = Context(place.media, recipe.clock.clock(), recipe.seed)
    return Plan(recipe, place, make_stages(recipe, context), make_corpus_stages(recipe, context))


def phases(stages: Sequence[Stage], cluster: Cluster) -> list[range]:
    """Positions of the stages that can run at once, in order: one phase, if all minima fit.

    A gate is in none: what is ahead of it ends first, then the replay opens it.

    Raises:
        UserError: one stage alone needs more than there is.
    """
    found: list[range] = []
    start, cpus, gpus = 0, 0.0, 0.0
    for position, stage in enumerate(stages):
        if isinstance(stage, GateStage):
            found.append(range(start, position))
            start, cpus, gpus = position + 1, 0.0, 0.0
            continue
        need = stage.resources
        if need.cpus > cluster.cpus or need.gpus > cluster.gpus:
            raise UserError(
                f"stage {stage.name} needs {need.cpus:g} CPUs and {need.gpus:g} GPUs per worker, "
                f"there are {cluster.cpus:g} and {cluster.gpus:g}: "
                "run on a larger machine or ask for less in the recipe"
            )
        if cpus + need.cpus > cluster.cpus or gpus + need.gpus > cluster.gpus:
            found.append(range(start, position))
            start, cpus, gpus = position, 0.0, 0.0
        cpus, gpus = cpus + need.cpus, gpus + need.gpus
    return [*found, range(start, len(stages))]

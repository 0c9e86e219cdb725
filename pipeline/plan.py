"""The plan: a recipe on a corpus, and which of its stages can run at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.layout import Layout
from corpus.store import store_at
from pipeline.cluster.room import all_fit
from pipeline.crews import needs
from pipeline.inputs.fetching import Fetcher
from pipeline.ledger.tables import Table
from pipeline.recipe import Recipe, make_corpus_stages, make_stages
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

    def header(self) -> dict[str, Any]:
        """What a shard manifest says of its making: only what can change a byte, and no paths."""
        identities = {stage.name: stage.identity() for stage in self.stages}
        return {
            "clock": self.recipe.clock.clock().to_json(),
            "codec": identities["latents"]["codec"],
            "recipe": {
                "name": self.recipe.name,
                "seed": self.recipe.seed,
                "order": list(identities),
                "stages": identities,
            },
            "fingerprints": {stage.name: stage.fingerprint for stage in self.stages},
        }


@dataclass(frozen=True)
class Cluster:
    """What Ray may schedule on, in logical units.

    Attributes:
        workers: upper bound of any one pool.
        sizes: CPUs and GPUs of every machine; () where it is one, and this one.
    """

    cpus: float
    gpus: float
    workers: int
    sizes: tuple[tuple[float, float], ...] = ()


def make_plan(recipe: Recipe, corpus: Path | str) -> Plan:
    """Build a recipe's stages on a corpus, which need not be there yet (`pipeline.runner.run`)."""
    place = Layout(store_at(corpus))
    fetch = Fetcher(recipe.source.remote)
    context = Context(place.media, recipe.clock.clock(), recipe.seed, fetch)
    return Plan(recipe, place, make_stages(recipe, context), make_corpus_stages(recipe, context))


def phases(stages: Sequence[Stage], cluster: Cluster) -> list[range]:
    """Positions of the stages that can run at once, in order: one phase, if all minima fit.

    A gate is in none: what is ahead of it ends first, then the replay opens it.

    Raises:
        UserError: one stage alone needs more than there is on any machine.
    """
    sizes = cluster.sizes or ((cluster.cpus, cluster.gpus),)
    found: list[range] = []
    start = 0
    for position, stage in enumerate(stages):
        if isinstance(stage, GateStage):
            found.append(range(start, position))
            start = position + 1
            continue
        need = stage.resources
        if not any(need.cpus <= cpus and need.gpus <= gpus for cpus, gpus in sizes):
            raise UserError(
                f"stage {stage.name} needs {need.cpus:g} CPUs and {need.gpus:g} GPUs per worker, "
                f"there are {cluster.cpus:g} and {cluster.gpus:g}"
                f"{_largest(sizes)}: run on a larger machine or ask for less in the recipe"
            )
        together = needs(stages[start : position + 1])
        if len(together) > 1 and not all_fit(together, sizes):
            found.append(range(start, position))
            start = position
    return [*found, range(start, len(stages))]


def _largest(sizes: Sequence[tuple[float, float]]) -> str:
    if len(sizes) == 1:
        return ""
    cpus, gpus = max(size[0] for size in sizes), max(size[1] for size in sizes)
    return f" on {len(sizes)} machines (at most {cpus:g} and {gpus:g} on one)"

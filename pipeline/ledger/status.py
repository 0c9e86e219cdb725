"""`status`: where the inputs of the latest run stand, counted from the tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from corpus.errors import UserError
from corpus.layout import open_corpus
from corpus.settings import read_settings
from corpus.store import Store
from pipeline.inputs.sources import LISTING, Listing, read_listing
from pipeline.ledger.conservation import NOT_OK, Counts
from pipeline.ledger.endings import Ending
from pipeline.ledger.walk import Slice, Tally, slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import Recipe, parse_recipe


@dataclass(frozen=True)
class Latest:
    """The latest run that got as far as listing its inputs."""

    run: str
    plan: Plan
    listing: Listing

    def slices(self) -> Iterator[Slice]:
        """What the tables say of its inputs now, a slice at a time."""
        return slices(self.plan, self.listing)

    def count(self, *watchers: Callable[[Slice], None]) -> "Status":
        """Sum up.

        Args:
            watchers: get every slice, too: a large corpus takes its time to be walked.

        Raises:
            ConservationError: the tables contradict each other.
        """
        sums = Tally(self.plan)
        for part in self.slices():
            sums.add(part)
            for watch in watchers:
                watch(part)
        return Status(self.run, self.plan, self.listing, sums)


@dataclass(frozen=True)
class Status:
    """The latest run and what the tables say of its inputs now, in sums."""

    run: str
    plan: Plan
    listing: Listing
    sums: Tally

    @property
    def counts(self) -> Counts:
        return self.sums.counts

    @property
    def waiting(self) -> dict[str, int]:
        """Records that wait, by stage."""
        return {s.name: n for s in self.plan.stages if (n := self.sums.waiting[s.name])}

    @property
    def endings(self) -> list[Ending]:
        """Why things ended."""
        return self.sums.endings

    def to_json(self) -> dict[str, Any]:
        return {
            "levels": {name: level.to_json() for name, level in self.counts.items()},
            "run": self.run,
            "recipe": self.plan.recipe.name,
            "ignored": self.listing.ignored,
            "waiting": self.waiting,
            "decoding": self.sums.decoding.to_json(),
        }


def read_status(corpus: Path | str) -> Status:
    """Count; needs no Ray and takes no lock.

    Raises:
        UserError, ConservationError: as `latest` and `Latest.count`.
    """
    return latest(corpus).count()


def latest(corpus: Path | str) -> Latest:
    """UserError: no corpus, or no run in it yet."""
    store, name = latest_run(corpus)
    plan = make_plan(recipe_of(store), corpus)
    return Latest(name, plan, read_listing(store))


def levels(corpus: Path | str) -> dict[str, Any]:
    """What ``tv2tv status --json`` prints under ``levels``."""
    return dict(read_status(corpus).to_json()["levels"])


def latest_run(corpus: Path | str) -> tuple[Store, str]:
    """Files and name of the latest run that got as far as listing its inputs."""
    _, layout = open_corpus(corpus)
    runs = [name for name in layout.runs.names() if name.endswith(f"/{LISTING}")]
    if not runs:
        raise UserError(f"{corpus} has seen no run yet: `tv2tv run RECIPE --corpus {corpus}`")
    name = runs[-1].split("/")[0]
    return layout.runs.at(name), name


def recipe_of(run: Store) -> Recipe:
    """The recipe of a run, as it was resolved."""
    return parse_recipe(read_settings(run.local("recipe.yaml")), [], run.place("recipe.yaml"))


def counts_table(counts: Counts) -> RichTable:
    """The conservation table for people."""
    shown = RichTable(box=None, pad_edge=False)
    for name in ("level", "inputs", "ok", *NOT_OK, "pending"):
        shown.add_column(name, justify="left" if name == "level" else "right")
    for name, level in counts.items():
        sums = [str(getattr(level, kind).total()) for kind in NOT_OK]
        shown.add_row(name, str(level.inputs), str(level.ok), *sums, str(level.pending))
    return shown

"""Accepted captions of a corpus with their clips, and the stages that score and judge them."""

import heapq
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from corpus.captions import KEEP
from corpus.errors import UserError
from corpus.ids import unit_hash
from pipeline.inputs.sources import Listing, read_listing
from pipeline.ledger.status import latest_run, recipe_of
from pipeline.ledger.walk import slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import Recipe, parse_recipe
from stages.comparisons import ComparisonsStage
from stages.scores import ScoresStage
from stages.stage import Record
from stages.verdicts import VerdictsStage

SECTIONS = ("scores", "comparisons", "verdicts")
NOTE = "scorer.json"  # in a folder of weights: what `tv2tv scorer fit` trained on


@dataclass(frozen=True)
class Corpus:
    """The latest run of a corpus.

    Attributes:
        run: its name.
    """

    place: str
    run: str
    plan: Plan
    listing: Listing

    def finished(self) -> Iterator[Record]:
        """Clips that went all the way, in no order that means anything."""
        for part in slices(self.plan, self.listing):
            yield from part.found.finished

    def accepted(
        self, count: int, seed: int, without: Collection[str] = (), only: Collection[str] = ()
    ) -> list[Record]:
        """Clips with an accepted caption, at most so many, drawn by their ids; in that order.

        Args:
            without: videos that are left out.
            only: videos that are taken; () for all.
        """
        wanted = (
            record
            for record in self.finished()
            if record["video_id"] not in without
            and (not only or record["video_id"] in only)
            and any(texts(record))
        )
        return heapq.nsmallest(
            count, wanted, key=lambda one: unit_hash(seed, "calibration", one["clip_id"])
        )


def texts(record: Record) -> tuple[str, ...]:
    """Accepted captions of a clip, by segment; empty where there is none."""
    return tuple(
        segment["text"] if segment["verdict"] == KEEP else "" for segment in record["segments"]
    )


def open_run(place: Path | str) -> Corpus:
    """The latest run of a corpus; UserError where there is none."""
    store, name = latest_run(place)
    plan = make_plan(recipe_of(store), place)
    return Corpus(str(place), name, plan, read_listing(store))


@dataclass(frozen=True)
class Judges:
    """The stages that captions go through behind the captions stage, opened.

    Attributes:
        comparisons: None where the recipe does not ask for any.
    """

    recipe: Recipe
    scores: ScoresStage
    comparisons: ComparisonsStage | None
    verdicts: VerdictsStage


def judges(corpus: Corpus, overrides: Sequence[str]) -> Judges:
    """As the run's recipe has them, but for overrides of `SECTIONS`.

    Raises:
        UserError: an override of anything else, or settings that cannot work.
    """
    for text in overrides:
        section = text.partition(".")[0]
        if section not in SECTIONS:
            raise UserError(
                f"--set {text}: only {', '.join(SECTIONS)} can be set here; the rest is the "
                "corpus' own"
            )
    held = yaml.safe_load(corpus.plan.recipe.to_yaml())
    recipe = parse_recipe(held, overrides, f"of run {corpus.run}")
    stages = {stage.name: stage for stage in make_plan(recipe, corpus.place).stages}
    scores, verdicts = stages[ScoresStage.name], stages[VerdictsStage.name]
    comparisons = stages.get(ComparisonsStage.name)
    if not isinstance(scores, ScoresStage) or not isinstance(verdicts, VerdictsStage):
        raise TypeError("the plan has other stages than those of its names")
    scores.open()
    return Judges(
        recipe,
        scores,
        comparisons if isinstance(comparisons, ComparisonsStage) else None,
        verdicts,
    )


def trained_on(weights: str | None) -> frozenset[str]:
    """Videos that a scorer of our own learned from; none for any other."""
    if weights is None or not (Path(weights).expanduser() / NOTE).is_file():
        return frozenset()
    path = Path(weights).expanduser() / NOTE
    try:
        return frozenset(map(str, json.loads(path.read_text(encoding="utf-8"))["videos"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}), and without it nobody knows which videos the scorer "
            "was trained on: train it again"
        ) from error

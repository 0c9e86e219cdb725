"""The clip that a prompt is tried on: one of a corpus, or one made of any film as a run would."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corpus.errors import UserError
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import read_listing
from pipeline.ledger.status import latest_run, recipe_of
from pipeline.ledger.walk import slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import Recipe, load_recipe, parse_recipe
from stages.stage import Context, GateStage, Record

CAPTIONS = "captions"
JUDGES = {"quality", "filters"}  # a clip that is asked for by name is not judged
RECIPE = "real"
NAMED = 5  # clips, where the one that is asked for is not clear


@dataclass(frozen=True)
class Chosen:
    """A clip as the captions stage meets it, and what it is asked with.

    Attributes:
        notes: what a person should know of how it was chosen.
    """

    record: Record
    recipe: Recipe
    context: Context
    notes: tuple[str, ...] = ()


def of_corpus(corpus: str, clip: str, recipe: str | None, overrides: Sequence[str]) -> Chosen:
    """A clip of the latest run by its id, or the beginning of it.

    Args:
        recipe: whose captions section counts, by default the run's own.

    Raises:
        UserError: no such clip, or several.
    """
    run, _ = latest_run(corpus)
    plan = make_plan(recipe_of(run), corpus)
    found: list[Record] = []
    fitting: list[Record] = []
    for part in slices(_until_captions(plan), read_listing(run)):
        finished = part.found.finished
        found = [*found, *finished][:NAMED]
        fitting += [record for record in finished if record["clip_id"].startswith(clip)]
    if len(fitting) != 1:
        some = ", ".join(record["clip_id"][:12] for record in (fitting or found)[:NAMED])
        there = f"{len(fitting)} clips begin with {clip!r}" if fitting else f"no clip {clip!r}"
        raise UserError(
            f"{corpus}: {there} among those that get captions, such as {some or 'none'}"
        )
    own = plan.recipe.model_dump(mode="json")
    if recipe is not None:
        own[CAPTIONS] = load_recipe(recipe).model_dump(mode="json")[CAPTIONS]
    resolved = parse_recipe(own, overrides, f"of {corpus}")
    return Chosen(fitting[0], resolved, plan.stages[0].context)


def of_film(
    film: str, folder: Path, recipe: str | None, overrides: Sequence[str], number: int = 1
) -> Chosen:
    """A clip of any film: probed, cut and normalised in ``folder`` as a run with this recipe would.

    Args:
        number: of the clip in the film, from 1.

    Raises:
        UserError: the film gives no such clip; says why and what would help.
    """
    resolved = load_recipe(recipe or RECIPE, overrides)
    plan = make_plan(resolved, folder)
    listing = identify(
        list_sources(film, resolved.source),
        resolved.source,
        plan.layout.store.at("sources"),
        rehash=False,
    )
    records: list[Record] = list(listing.records())
    if len(records) != 1:
        why = next((one.message for one in listing.sources if one.message), "")
        raise UserError(f"--clip {film}: one film is needed, this is {len(records)}. {why}".strip())
    for stage in _until_captions(plan).stages:
        if stage.name in JUDGES or isinstance(stage, GateStage):
            continue
        stage.open()
        onward = []
        for record in records:
            (rows,) = stage.process([stage.seen(record)])
            onward += stage.advance(record, rows)
        if not onward:
            raise UserError(_ended(film, stage.name, rows[0].reason, rows[0].message))
        records = onward
    if not 1 <= number <= len(records):
        raise UserError(
            f"{film} gives {len(records)} clips with this recipe: --number 1 is the first"
        )
    note = f"clip {number} of the {len(records)} that this recipe cuts from {film}"
    return Chosen(records[number - 1], resolved, plan.stages[0].context, (note,))


def _until_captions(plan: Plan) -> Plan:
    at = [stage.name for stage in plan.stages].index(CAPTIONS)
    return replace(plan, stages=plan.stages[:at])


def _ended(film: str, stage: str, reason: str | None, message: str | None) -> str:
    said = f": {message}" if message else ""
    return (
        f"{film} gives no clip: {stage} says {reason}{said}. Take another film, change the recipe "
        f"(--set {stage}...), or name a clip of a corpus: --corpus CORPUS --clip ID"
    )

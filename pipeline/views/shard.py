"""`shard`: one more shard set from stored rows, as a caption policy shows it.

Nothing is decoded, encoded or captioned, and no Ray is started: the stored latents are joined with
other text. What waits in the tables is left out, as it would be by the run itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corpus.errors import UserError
from corpus.shards.manifest import read_manifest
from corpus.shards.reading import spans_with_text
from corpus.store import Store
from pipeline.inputs.sources import read_listing
from pipeline.ledger import conservation
from pipeline.ledger.lock import Lock
from pipeline.ledger.status import latest_run, recipe_of
from pipeline.ledger.walk import Finished, Tally, slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import Recipe, parse_recipe

SECTIONS = ("policy", "shards")


@dataclass(frozen=True)
class Made:
    """A view.

    Attributes:
        rewritten: False when it stood there already.
        samples: clips in it.
        spans: of these, and ``captions`` of them show text.
        waiting: records that wait for some stage, so that their clips are not in it.
    """

    shards: Store
    rewritten: bool
    samples: int
    spans: int
    captions: int
    waiting: int


def shard(
    corpus: str,
    overrides: Sequence[str] = (),
    name: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Made:
    """Write ``CORPUS/shards/NAME`` from the rows of the latest run's inputs.

    Args:
        overrides: ``policy.key=value`` (`corpus.policy`) or ``shards.key=value``; all else is as
            in the latest run.
        name: of the view; the same as ``shards.name``.

    Raises:
        UserError: settings that cannot work, stored captions in the way, or a run holds the corpus.
        ConservationError: the tables contradict each other.
    """
    run, _ = latest_run(corpus)
    base = recipe_of(run)
    plan = make_plan(view_recipe(base, overrides, name), corpus)
    folder = shards_folder(plan)
    _check_free(folder)
    with Lock(plan.layout.store, say) as lock:
        plan.layout.store.at("shards").sweep()
        sums, finished = Tally(plan), Finished()
        for part in slices(plan, read_listing(run)):
            sums.add(part)
            finished.add(part.found.finished)
        (stage,) = plan.corpus_stages
        header = {**plan.header(), "counts": conservation.told(sums.counts)}
        rewritten = stage.run(finished, folder, header, lock.check)
    captions, spans = spans_with_text(folder)
    return Made(folder, rewritten, len(finished), spans, captions, sums.waiting.total())


def view_recipe(base: Recipe, overrides: Sequence[str], name: str | None) -> Recipe:
    """The recipe of a run with a policy in its shards; UserError names what does not fit."""
    data = base.model_dump(mode="json")
    data["shards"]["policy"] = {}
    changes = [_placed(text) for text in overrides]
    if name is not None:
        changes.append(f"shards.name={name}")
    made = parse_recipe(data, changes, "of the view")
    if _name(made) == _name(base):
        raise UserError(
            f"shards/{_name(base)} holds the stored captions, which a view leaves alone: "
            "give it a name of its own, as in --name coarse"
        )
    return made


def shards_folder(plan: Plan) -> Store:
    """Where the shards of a plan lie."""
    return plan.layout.shards(_name(plan.recipe))


def _name(recipe: Recipe) -> str:
    return str(recipe.model_dump()["shards"]["name"])


def _placed(text: str) -> str:
    """An override as the recipe has it: the policy is a part of the section ``shards``."""
    section = text.partition("=")[0].strip().partition(".")[0]
    if section not in SECTIONS:
        raise UserError(
            f"--set {text!r}: a view has sections {' and '.join(SECTIONS)}, as in policy.every=4s; "
            "what else a recipe says makes other captions or latents, by `tv2tv run`"
        )
    return f"shards.{text.strip()}" if section == "policy" else text


def _check_free(folder: Store) -> None:
    """UserError where stored captions lie that no other set would have."""
    try:
        manifest = read_manifest(folder)
    except UserError:
        return  # nothing that anybody could read
    if not isinstance(manifest.get("policy"), dict):
        raise UserError(
            f"{folder.place()} holds stored captions and is no view: give the view another name"
        )

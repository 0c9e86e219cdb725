"""`review`: choose clips, serve the page, tell how far reviewers agree, export what they said."""

import asyncio
import getpass
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from corpus.errors import UserError
from corpus.files import write_text
from corpus.layout import open_corpus
from pipeline.inputs.sources import read_listing
from pipeline.ledger.status import latest_run, recipe_of
from pipeline.ledger.walk import slices
from pipeline.plan import make_plan
from pipeline.review.agreement import Agreement, agreement
from pipeline.review.current import current, to_csv
from pipeline.review.desk import Desk
from pipeline.review.films import Films
from pipeline.review.labels import Labels
from pipeline.review.sample import draw
from pipeline.review.server import Review

NAME = re.compile(r"[\w.@ -]{1,64}")


def prepare(corpus: str, sample: int, seed: int, reviewer: str | None, copies: Path) -> Review:
    """The page's server, ready to listen.

    Args:
        sample: at most so many clips, drawn by ``seed``.
        reviewer: by default who is logged in.
        copies: a folder for copies of clips.

    Raises:
        UserError: no corpus, nothing to review, or a name that is none.
    """
    name = (getpass.getuser() if reviewer is None else reviewer).strip()
    if not NAME.fullmatch(name):
        raise UserError(f"--reviewer {name!r}: letters, digits, spaces and . _ @ -, at most 64")
    run, _ = latest_run(corpus)
    plan = make_plan(recipe_of(run), corpus)
    clock = plan.recipe.clock.clock()
    clips = draw(slices(plan, read_listing(run)), sample, seed, clock)
    if not clips:
        raise UserError(f"{corpus} has no finished clip with captions yet: tv2tv status {corpus}")
    labels = Labels(plan.layout)
    labels.tidy()
    encoding = plan.recipe.model_dump()["clips"]["encoding"]
    films = Films(plan.layout.media, clock, encoding, copies)
    return Review(Desk(name, clips, labels), films)


def serve(
    corpus: str,
    sample: int,
    seed: int,
    reviewer: str | None,
    port: int,
    say: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C; raises as `prepare` and `Review.listening`."""
    with tempfile.TemporaryDirectory(prefix="tv2tv-review-") as copies:
        review = prepare(corpus, sample, seed, reviewer, Path(copies))
        desk = review.desk
        say(f"{len(desk.clips)} clips with {desk.captions} captions, {desk.judged} judged so far")

        async def run() -> None:
            async with review.listening(port) as url:
                say(f"reviewing as {desk.reviewer}: {url}")
                say("every label is stored at once; Ctrl-C ends, the same command goes on")
                await asyncio.Event().wait()

        try:
            asyncio.run(run())
        except KeyboardInterrupt:
            say(f"{desk.judged} of {desk.captions} captions judged")


def agreed(corpus: str) -> Agreement:
    """How far the reviewers of a corpus agree."""
    return agreement(_labels(corpus).standing())


def export(corpus: str, path: Path) -> tuple[int, int]:
    """Write the judgements on captions that stand as CSV; returns how many, and how many more there
    are on captions that were made anew or ended since."""
    labels = _labels(corpus).standing()
    run, _ = latest_run(corpus)
    plan = make_plan(recipe_of(run), corpus)
    judged = current(labels, slices(plan, read_listing(run)))
    write_text(path, to_csv(judged))
    return len(judged), len(labels) - len(judged)


def _labels(corpus: str) -> Labels:
    _, layout = open_corpus(corpus)
    return Labels(layout)

"""`review`: choose clips, serve the page or write a sheet, tell how far reviewers agree, export."""

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
from pipeline.plan import Plan, make_plan
from pipeline.review.agreement import Agreement, agreement
from pipeline.review.current import current, to_csv
from pipeline.review.desk import Desk
from pipeline.review.films import Films
from pipeline.review.labels import Labels
from pipeline.review.sample import Clip, clip_of, draw
from pipeline.review.server import Review
from pipeline.review.sheet import read_sheet, to_sheet

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
    name = _name(reviewer)
    plan, clips = _drawn(corpus, sample, seed)
    labels = Labels(plan.layout)
    labels.tidy()
    encoding = plan.recipe.model_dump()["clips"]["encoding"]
    films = Films(plan.layout.media, plan.recipe.clock.clock(), encoding, copies)
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


def write_sheet(corpus: str, path: Path, sample: int, seed: int) -> tuple[int, int]:
    """Write the sample as a sheet to be filled; returns how many clips and captions it has."""
    plan, clips = _drawn(corpus, sample, seed)
    write_text(path, to_sheet(clips, plan.layout.media))
    return len(clips), sum(len(clip.captions()) for clip in clips)


def take_sheet(corpus: str, path: Path, reviewer: str | None) -> int:
    """Store the labels of a filled sheet as those of a reviewer, all or none of them; returns how
    many.

    Raises:
        UserError: what `read_sheet` raises, or a caption that is not there any more.
    """
    name, given = _name(reviewer), read_sheet(path)
    run, _ = latest_run(corpus)
    plan = make_plan(recipe_of(run), corpus)
    clock, wanted = plan.recipe.clock.clock(), {one.segment for one in given}
    clips = [
        clip_of(record, clock)
        for part in slices(plan, read_listing(run))
        for record in part.found.finished
        if any(segment["segment_id"] in wanted for segment in record["segments"])
    ]
    Desk(name, clips, Labels(plan.layout)).state(given)
    return len(given)


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


def _name(reviewer: str | None) -> str:
    """By default who is logged in."""
    name = (getpass.getuser() if reviewer is None else reviewer).strip()
    if not NAME.fullmatch(name):
        raise UserError(f"--reviewer {name!r}: letters, digits, spaces and . _ @ -, at most 64")
    return name


def _drawn(corpus: str, sample: int, seed: int) -> tuple[Plan, list[Clip]]:
    """The latest run's plan, and clips that have captions."""
    run, _ = latest_run(corpus)
    plan = make_plan(recipe_of(run), corpus)
    clips = draw(slices(plan, read_listing(run)), sample, seed, plan.recipe.clock.clock())
    if not clips:
        raise UserError(f"{corpus} has no finished clip with captions yet: tv2tv status {corpus}")
    return plan, clips


def _labels(corpus: str) -> Labels:
    _, layout = open_corpus(corpus)
    return Labels(layout)

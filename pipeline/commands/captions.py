"""Commands about the captions of a corpus: views of them, and people's judgement."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.terminal import Corpus, Set, say


def shard(
    corpus: Corpus,
    name: Annotated[
        str | None, typer.Option(help="Of the new set; the same as --set shards.name=NAME.")
    ] = None,
    overrides: Set = None,
) -> None:
    """Write stored captions as one more shard set: a view by density, quality or damage.

    Nothing is decoded, encoded or captioned; the main shards stay as they are.

    Examples:

    * `tv2tv shard corpus/ --name coarse --set policy.every=4s`

    * `tv2tv shard corpus/ --name strict --set policy.keep.at_least.own=0.25`
    """
    from pipeline.views.shard import shard as make_view

    console = Console()
    made = make_view(corpus, overrides or (), name, lambda text: say(console, text))
    unchanged = "" if made.rewritten else " (unchanged)"
    say(
        console,
        f"{made.samples} clips, {made.captions} of {made.spans} spans show text: "
        f"{made.shards.place()}{unchanged}",
    )
    if made.waiting:
        say(console, f"{made.waiting} records wait, and are not in it: `tv2tv run` goes on")


def review(
    corpus: Corpus,
    sample: Annotated[
        int, typer.Option(min=1, help="How many clips, drawn by the hash of their ids.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of the sample; the same for all reviewers.")] = 0,
    reviewer: Annotated[
        str | None, typer.Option(help="Your name, under which labels are stored.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Tell how far reviewers agree, and end.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write all labels as CSV for a classifier, and end.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write the sample as CSV to be filled, and end.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Store the labels of a filled --sheet, and end.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="--agreement for machines.")] = False,
) -> None:
    """Judge captions in a browser: clips play with their captions, keys accept and reject.

    The page is served to this machine only. Labels are stored in the corpus at once; the same
    command goes on where it was stopped.

    Examples:

    * `tv2tv review corpus/ --sample 200 --reviewer ada`

    * `tv2tv review corpus/ --agreement`

    * `tv2tv review corpus/ --export labels.csv`

    * `tv2tv review corpus/ --sample 50 --sheet sheet.csv`

    * `tv2tv review corpus/ --labels sheet.csv --reviewer ada`
    """
    from pipeline.review import agreement as agreeing
    from pipeline.review import command

    console = Console()
    if sheet is not None:
        clips, captions = command.write_sheet(corpus, sheet, sample, seed)
        say(console, f"{captions} captions of {clips} clips, to be labelled: {sheet}")
    if labels is not None:
        say(console, f"{command.take_sheet(corpus, labels, reviewer)} labels stored")
    if export is not None:
        number, gone = command.export(corpus, export)
        say(console, f"{number} labels: {export}")
        if gone:
            say(console, f"{gone} more are of captions that were made anew since: left out")
    if agreement:
        found = command.agreed(corpus)
        told = [json.dumps(found.to_json(), indent=2)] if as_json else agreeing.lines(found)
        for text in told:
            typer.echo(text)
    if not agreement and (sheet, labels, export) == (None, None, None):
        command.serve(corpus, sample, seed, reviewer, port, lambda text: say(console, text))

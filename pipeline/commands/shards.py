"""Commands about finished shards: whether they are whole, and what is in one sample."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.commands.terminal import say

Shards = Annotated[
    str,
    typer.Argument(
        help="A folder or URI such as CORPUS/shards/main.", metavar="SHARDS", show_default=False
    ),
]


def verify(
    shards: Shards,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Check every byte of a shard set, and that all its parts say the same.

    Tells everything that is wrong, each in a line, and ends with 1 if anything is.

    Examples:

    * `tv2tv verify corpus/shards/main`

    * `tv2tv verify s3://corpora/first/shards/main --json`
    """
    from corpus.shards.verifying import verify as check

    bar = Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("shards", total=None)
        found = check(
            shards,
            workers=workers,
            seen=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        data = {**vars(found), "faults": [fault.to_json() for fault in found.faults]}
        typer.echo(json.dumps(data, indent=2))
    else:
        console = Console()
        for fault in found.faults:
            say(console, str(fault))
        about = f"{found.samples} samples in {found.shards} shards, {found.bytes:,} bytes"
        wrong = len(found.faults)
        result = f"{wrong} fault{'' if wrong == 1 else 's'}" if wrong else "whole"
        say(console, f"{result}: {about}")
    if found.faults:
        raise typer.Exit(1)


def inspect(
    shards: Shards,
    key: Annotated[
        str | None,
        typer.Argument(help="Of a sample, or how it begins; without one, keys are listed."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the page goes; by default KEY.html, here.")
    ] = None,
) -> None:
    """Show one sample: its captions, and its latents decoded back beside the clip they are of.

    Writes one self-contained HTML page. The clip is there if SHARDS lies in its corpus.

    Examples:

    * `tv2tv inspect corpus/shards/main`

    * `tv2tv inspect corpus/shards/main 0a1b2c --out sample.html`
    """
    from pipeline.pages.sample import inspect as write_page
    from pipeline.pages.sample import summary

    console = Console()
    told = summary(shards) if key is None else write_page(shards, key, out)
    for text in told:
        say(console, text)

"""Commands that make a corpus and tell of it. Heavy modules are imported inside of them."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.terminal import Corpus, Set, say, tell


def run(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="A YAML file, or the name of one in configs/.", show_default=False)
    ],
    inputs: Annotated[
        str,
        typer.Option(
            "--input",
            help="A folder (searched through), a glob in quotes, a video, or a manifest (.jsonl, "
            ".csv, .parquet with a column `uri`); here, or on s3://, gs:// or https://.",
            show_default=False,
        ),
    ],
    corpus: Annotated[
        str,
        typer.Option(
            help="Folder or URI (s3://bucket/name) of the corpus; made if it is missing.",
            show_default=False,
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only the first so many files.")
    ] = None,
    overrides: Set = None,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every input again, even if it looks unchanged.")
    ] = False,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry", help="Do again what was quarantined: it timed out, crashed or raised."
        ),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to work on: HOST:PORT, ray://HOST:PORT, auto (the one of this "
            "machine) or local (one of its own). Without it RAY_ADDRESS counts, then local.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Bring videos through all stages into shards.

    What is done already is never done again: call it again after a crash, with more inputs, or
    with another recipe.

    Examples:

    * `tv2tv run real --input videos/ --corpus corpus/`

    * `tv2tv run real --input "s3://films/**/*.mp4" --corpus s3://corpora/first`

    * `tv2tv run arena --input footage/manifest.jsonl --corpus c --set shards.target_mb=64`
    """
    from pipeline.plan import make_plan
    from pipeline.recipe import load_recipe
    from pipeline.runner import run as run_plan
    from pipeline.telemetry.progress import view_for

    plan = make_plan(load_recipe(recipe, overrides or ()), corpus)
    console = Console()
    result = run_plan(
        plan,
        inputs,
        view_for(console),
        limit=limit,
        rehash=rehash,
        retry=retry,
        verbose=bool(context.obj),
        address=address,
    )
    tell(console, result.counts, result.endings, result.decoding, corpus)
    done = ", ".join(f"{name} {n}" for name, n in result.computed.items() if n)
    say(console, f"computed: {done or 'nothing, all of it was there'}")
    where = None if result.shards is None else result.shards.place()
    if result.counts["clips"].ok:
        say(console, f"shards: {where}{'' if result.rewritten else ' (unchanged)'}")
        say(console, f"next: tv2tv report {corpus}")
        return
    empty = "no shard was written" if where is None else f"{where} is empty now"
    say(console, f"{empty}: no clip came through, for the reasons above")
    say(console, f"next: tv2tv status {corpus}")


def plan(
    recipe: Annotated[
        str, typer.Argument(help="A YAML file, or the name of one in configs/.", show_default=False)
    ],
    inputs: Annotated[
        str, typer.Option("--input", help="What `tv2tv run` would get.", show_default=False)
    ],
    corpus: Annotated[
        str | None,
        typer.Option(help="Where the work would go: what is done there is not counted."),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="How many films are tried.")] = 12,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Begin no further film after so many seconds.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cores to tell the time for; else this machine's.")
    ] = None,
    overrides: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Try a few films, and say what all of them will give and take.

    Clips, tokens, bytes, CPU hours and time, each with the interval that should hold it. The
    sample runs in a temporary folder; no corpus is touched.

    Examples:

    * `tv2tv plan real --input videos/`

    * `tv2tv plan real --input videos/ --corpus corpus/ --sample 30 --workers 64 --json`
    """
    from pipeline.forecast.forecast import forecast
    from pipeline.forecast.words import notes, table
    from pipeline.recipe import load_recipe

    console = Console(stderr=as_json)
    found = forecast(
        load_recipe(recipe, overrides or ()),
        inputs,
        corpus=corpus,
        sample=sample,
        seconds=seconds,
        workers=workers,
        say=lambda text: say(console, text),
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    console.print(table(found))
    for text in notes(found):
        say(console, text)


def status(
    corpus: Corpus,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show where every input of the latest run stands.

    At each level, inputs = ok + filtered + failed + quarantined + pending.

    Examples:

    * `tv2tv status corpus/`

    * `tv2tv status corpus/ --json | jq .levels.clips`
    """
    from pipeline.ledger.status import read_status

    found = read_status(corpus)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    console = Console()
    say(console, f"run {found.run}, recipe {found.plan.recipe.name}")
    tell(console, found.counts, found.endings, found.sums.decoding, corpus)
    for name, number in found.waiting.items():
        say(console, f"  {number} waiting for {name}: run the same command again")
    if number := found.listing.ignored:
        files = "1 file in the input is" if number == 1 else f"{number} files in the input are"
        say(console, f"  {files} no media: ignored")


def sweep(
    corpus: Corpus,
    level: Annotated[
        str, typer.Argument(help="clips or segments: whose scores are looked at.")
    ] = "clips",
    score: Annotated[
        str | None, typer.Option(help="One score, with what each threshold would keep.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines, all scores.")] = False,
) -> None:
    """Show what thresholds on stored scores would keep; nothing is computed anew.

    Beside every threshold: what it keeps alone, and with all others of the latest run's recipe.

    Examples:

    * `tv2tv sweep corpus/ clips`

    * `tv2tv sweep corpus/ clips --score motion`
    """
    from pipeline.ledger.status import latest
    from pipeline.sweep.tables import tell

    told = tell(latest(corpus), level, score)
    if as_json:
        typer.echo(json.dumps(told.to_json(), indent=2))
        return
    console = Console()
    for part in told.shown():
        console.print(part)


def report(
    corpus: Corpus,
    clips: Annotated[int, typer.Option(min=0, help="How many clips to show in pictures.")] = 24,
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; by default beside the latest run.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about the latest run.

    Example:

    * `tv2tv report corpus/ --clips 50`
    """
    from pipeline.pages.report import write_report

    typer.echo(write_report(corpus, clips=clips, out=out))

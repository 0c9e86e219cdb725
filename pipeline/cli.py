"""The `tv2tv` command line.

Heavy modules are imported inside the commands, so that ``tv2tv --help`` answers at once. A user's
mistake ends with one message and exit status 2, a broken run with 1; ``--debug`` adds a traceback.
"""

import errno
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console

from corpus.errors import UserError
from corpus.layout import TOOL_VERSION
from pipeline.faults import RunError
from pipeline.ledger.conservation import ConservationError, Counts
from pipeline.ledger.decoding import Decoding
from pipeline.ledger.endings import Ending, lines

app = typer.Typer(
    name="tv2tv",
    help="A video model that thinks in words, then acts in pixels: from raw video to an "
    "interleaved corpus (run, status, report), a trained model (train) and films (generate).",
    epilog="Errors show a traceback with --debug, which may stand anywhere on the line. "
    "Films are decoded by the ffmpeg that comes along; TV2TV_FFMPEG=/path/to/ffmpeg names another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
DEBUG = "--debug"
INTERRUPTED = 130  # what typer makes of Ctrl-C
# What is wrong with a path, and not with the disk or with us: all paths come from the user.
PATH_ERRORS = {
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
    *(errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
}

Corpus = Annotated[
    str, typer.Argument(help="Folder or URI that `tv2tv run` made.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value; may be repeated."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tv2tv {TOOL_VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """See `app`."""


@app.command()
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
    _tell(console, result.counts, result.endings, result.decoding, corpus)
    done = ", ".join(f"{name} {n}" for name, n in result.computed.items() if n)
    _say(console, f"computed: {done or 'nothing, all of it was there'}")
    where = None if result.shards is None else result.shards.place()
    if result.counts["clips"].ok:
        _say(console, f"shards: {where}{'' if result.rewritten else ' (unchanged)'}")
        _say(console, f"next: tv2tv report {corpus}")
        return
    empty = "no shard was written" if where is None else f"{where} is empty now"
    _say(console, f"{empty}: no clip came through, for the reasons above")
    _say(console, f"next: tv2tv status {corpus}")


@app.command()
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
        say=lambda text: _say(console, text),
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    console.print(table(found))
    for text in notes(found):
        _say(console, text)


@app.command()
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
    _say(console, f"run {found.run}, recipe {found.plan.recipe.name}")
    _tell(console, found.counts, found.endings, found.sums.decoding, corpus)
    for name, number in found.waiting.items():
        _say(console, f"  {number} waiting for {name}: run the same command again")
    if number := found.listing.ignored:
        files = "1 file in the input is" if number == 1 else f"{number} files in the input are"
        _say(console, f"  {files} no media: ignored")


@app.command()
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


@app.command()
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


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(help="A YAML file, or the name of one in configs/.", show_default=False)
    ],
    shards: Annotated[
        Path, typer.Option(help="Folder of shards: CORPUS/shards/NAME.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    overrides: Set = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in --out stopped.")
    ] = False,
) -> None:
    """Train a model on shards.

    Examples:

    * `tv2tv train train-tiny --shards corpus/shards/main --out runs/first`

    * `tv2tv train train-tiny --shards corpus/shards/main --out runs/first --resume`
    """
    from pipeline.recipe import find_config

    shards = _here(shards)
    path = find_config(config, "training config")  # before what takes seconds to import
    from training.api import train as train_model
    from training.config import load_config

    resolved = load_config(path, overrides or ())
    typer.echo(train_model(resolved, shards, out, resume=resume))


@app.command()
def generate(
    run: Annotated[
        Path, typer.Argument(help="Folder that `tv2tv train` made.", show_default=False)
    ],
    seconds: Annotated[float, typer.Option(help="How long the film is.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(help="The film (.mp4); its .json, .vtt and .png lie beside it."),
    ] = Path("film.mp4"),
    prompt: Annotated[str, typer.Option(help="What the whole film is about.")] = "",
    image: Annotated[
        Path | None, typer.Option(help="Start frame; by default one that the run brought along.")
    ] = None,
    say: Annotated[
        list[str] | None,
        typer.Option(metavar="SECONDS:TEXT", help="Words put in at a moment; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of text sampling and noise.")] = 0,
    guidance: Annotated[
        float | None, typer.Option(help="Weight of the text; by default the run's own.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Solver steps; by default the run's own.")
    ] = None,
) -> None:
    """Generate a film: the model writes what happens next, then draws it. Runs on the CPU.

    Examples:

    * `tv2tv generate runs/first --prompt "a red square" --seconds 4 --out film.mp4`

    * `tv2tv generate runs/first --seconds 4 --say 1.5:"jump" --say 3:"left" --out film.mp4`
    """
    told = [parse_say(text) for text in say or ()]
    from training.api import generate as make_film

    files = make_film(
        run, prompt, image, told, seconds, out, seed=seed, guidance=guidance, steps=steps
    )
    for name, path in files.items():
        typer.echo(f"{name}: {path}")


@app.command()
def evaluate(
    run: Annotated[
        Path, typer.Argument(help="Folder that `tv2tv train` made.", show_default=False)
    ],
    shards: Annotated[
        Path, typer.Option(help="The arena shards it was trained on.", show_default=False)
    ],
    instructions: Annotated[
        int | None,
        typer.Option(min=1, help="How many are judged; by default as many as in the demo."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the instructions and all sampling.")] = 0,
    guidance: Annotated[
        float | None, typer.Option(help="Weight of the text; by default the run's own.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Solver steps; by default the run's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Count how often a word put in the middle of a film is obeyed.

    For models of the arena, whose films an oracle reads: in real film up to the instruction, and
    in films of the model's own.

    Example:

    * `tv2tv evaluate runs/first --shards corpus/shards/main`
    """
    shards = _here(shards)
    from training.api import INSTRUCTIONS
    from training.api import evaluate as measure

    found = measure(
        run,
        shards,
        instructions=instructions or INSTRUCTIONS,
        seed=seed,
        guidance=guidance,
        steps=steps,
        out=out,
    )
    typer.echo(json.dumps(found.to_json(), indent=2) if as_json else str(found))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("demo"),
    videos: Annotated[
        Path | None,
        typer.Option("--input", help="A folder of your own videos instead of game footage."),
    ] = None,
) -> None:
    """Go the whole way once: footage, corpora, training, films, and a page that shows them.

    Takes some minutes on two cores, without GPU, weights or network. Call it again to go on where
    it was stopped.

    Example:

    * `tv2tv demo --out demo --input my-videos/`
    """
    from pipeline.demo import Sizes, closing_words
    from pipeline.demo import demo as go
    from pipeline.telemetry.progress import view_for

    console = Console()
    page = go(out, videos, Sizes(), view_for(console))
    for text in closing_words(out, page, videos):
        _say(console, text)


def _here(shards: Path) -> Path:
    """Shards in a folder; of a URI a path has lost one of its slashes."""
    scheme, colon, rest = str(shards).partition(":/")
    if not colon or shards.exists():
        return shards
    uri = f"{scheme}://{rest.lstrip('/')}"
    raise UserError(f"--shards {uri} is no local folder: copy the set here, and name the copy")


def parse_say(text: str) -> tuple[float, str]:
    """``1.5:jump`` to a moment in seconds and words; quotes around the words may stay."""
    moment, colon, words = text.partition(":")
    words = words.strip()
    if len(words) > 1 and words[0] == words[-1] and words[0] in "\"'":
        words = words[1:-1]
    try:
        seconds = float(moment)
    except ValueError:
        seconds = -1.0
    if not colon or not words or not 0 <= seconds < float("inf"):
        raise UserError(f'--say {text!r}: write SECONDS:TEXT, as in --say 1.5:"jump"')
    return seconds, words


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point: runs a command and turns what it raises into a message and an exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given
    try:
        app([text for text in given if text != DEBUG], prog_name="tv2tv", obj=debug)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _fail("stopped; what is done stays: call again to go on (train with --resume)", 130)
        raise
    except Exception as error:
        if debug:
            raise
        if isinstance(error, UserError | ValidationError | yaml.YAMLError):
            _fail(str(error), 2)
        if isinstance(error, OSError) and error.filename and error.errno in PATH_ERRORS:
            _fail(f"{error.filename}: {error.strerror}", 2)
        if isinstance(error, RunError | ConservationError):
            _fail(str(error), 1)
        _fail(f"{type(error).__name__}: {error} (a traceback comes with {DEBUG})", 1)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    """Names in a message come from elsewhere: they command no terminal."""
    shown = (c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in message)
    typer.echo(f"tv2tv: {''.join(shown)}", err=True)
    sys.exit(status)


def _tell(
    console: Console, counts: Counts, endings: Sequence[Ending], decoding: Decoding, corpus: str
) -> None:
    """The conservation table, why things ended, and pictures against packets."""
    from pipeline.ledger.status import counts_table

    console.print(counts_table(counts))
    for text in [*lines(endings, str(corpus)), *decoding.lines()]:
        _say(console, f"  {text}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()

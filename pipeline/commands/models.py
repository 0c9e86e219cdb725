"""Commands that train models and make films. Heavy modules are imported inside of them."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from corpus.errors import UserError
from pipeline.commands.terminal import Set, say

Guidance = Annotated[
    float | None, typer.Option(help="Weight of the text; by default the run's own.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Solver steps; by default the run's own.")]


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
    guidance: Guidance = None,
    steps: Steps = None,
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
    guidance: Guidance = None,
    steps: Steps = None,
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
        say(console, text)


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

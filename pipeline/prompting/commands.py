"""`tv2tv prompt`: see prompts, and what a run would ask with them."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from corpus.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Show caption prompts, and try them on a clip.\n\n"
    "Examples:\n\n* `tv2tv prompt list`\n\n* `tv2tv prompt try sport --clip match.mp4 --dry`",
)
Name = Annotated[
    str,
    typer.Argument(help="A prompt that comes along, or a .md file.", show_default=False),
]


@app.command("list")
def list_prompts() -> None:
    """List the prompts that come along."""
    import vlm_prompts

    for name in vlm_prompts.available():
        prompt = vlm_prompts.load(name)
        typer.echo(f"{prompt.name:<18}{prompt.purpose}")


@app.command()
def show(prompt: Name) -> None:
    """Print all that a prompt says, rendered for a made-up clip.

    Example:

    * `tv2tv prompt show my-prompt.md`
    """
    import vlm_prompts

    typer.echo(vlm_prompts.example(vlm_prompts.load(prompt)), nl=False)


@app.command("try")
def try_it(
    prompt: Name,
    clip: Annotated[
        str,
        typer.Option(
            help="A film; with --corpus the id of a clip, or its beginning.", show_default=False
        ),
    ],
    corpus: Annotated[str | None, typer.Option(help="Corpus that the clip is in.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Whose backend is asked: by default the corpus' own, for a film `real`."),
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="Which clip of a film.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one value; may be repeated."),
    ] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Show the questions, ask nobody.")] = False,
    frames: Annotated[
        Path | None, typer.Option(help="Folder for the frames of every question as PNG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Ask about one clip what a run would ask: shows each exact question, and its answer.

    A film is probed, cut and normalised first, as the recipe says, in a temporary folder.

    Examples:

    * `tv2tv prompt try sport --clip match.mp4 --dry --frames frames/`

    * `tv2tv prompt try my.md --corpus corpus/ --clip 3f2a --set captions.backend=vllm`
    """
    from pipeline.prompting.clip import of_corpus, of_film
    from pipeline.prompting.sheets import write_sheets
    from pipeline.prompting.trying import to_json, told, try_prompt
    from vlm_prompts import load

    load(prompt)  # before what takes long
    if corpus is not None and number != 1:
        raise UserError("--number chooses a clip of a film; with --corpus --clip names it")
    with tempfile.TemporaryDirectory(prefix="tv2tv-prompt-") as folder:
        if corpus is None:
            chosen = of_film(clip, Path(folder), recipe, overrides or (), number)
        else:
            chosen = of_corpus(corpus, clip, recipe, overrides or ())
        trial = try_prompt(prompt, chosen, dry=dry)
    sheets = write_sheets(trial, frames) if frames is not None else []
    if as_json:
        typer.echo(json.dumps(to_json(trial), indent=2, ensure_ascii=False))
        return
    for line in (*chosen.notes, *told(trial), *(f"frames: {path}" for path in sheets)):
        typer.echo(line)

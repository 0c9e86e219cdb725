"""`tv2tv codec`: what a codec learns from a corpus."""

from collections.abc import Iterator, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.terminal import Corpus

codec = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Fit the codec `pca` to a corpus.\n\n"
    "Example:\n\n* `tv2tv codec fit corpus/ --out basis/ --channels 48`",
)


@codec.callback()
def _group() -> None:
    """A group, though it has one command."""


@codec.command()
def fit(
    corpus: Corpus,
    out: Annotated[Path, typer.Option(help="Folder of the basis.", show_default=False)],
    channels: Annotated[int, typer.Option(min=1, max=192, help="Of a latent.")] = 48,
    clips: Annotated[
        int, typer.Option(min=1, help="To learn from, at most; drawn by their ids.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of clips and blocks that are drawn.")] = 0,
) -> None:
    """Find the directions in which blocks of a corpus' clips differ most.

    A corpus made with `dct` will do: its clips are what is learned from. Equal clips and seed give
    equal bytes.

    Example:

    * `tv2tv codec fit corpus/ --out basis/ --channels 48`, then
      `tv2tv run ... --set latents.codec=pca --set latents.weights=basis/`
    """
    from corpus.codecs.pca import BASIS
    from corpus.codecs.pca_fit import fit_basis
    from corpus.errors import UserError
    from corpus.files import write_bytes
    from corpus.ids import unit_hash
    from corpus.video import Frames, read_video
    from pipeline.calibration.gather import open_run
    from stages.stage import Record

    run = open_run(corpus)
    drawn = nsmallest(clips, run.finished(), key=lambda one: unit_hash(seed, "pca", one["clip_id"]))

    def films(records: Sequence[Record]) -> Iterator[Frames]:
        for record in records:
            yield read_video(run.plan.layout.media.path(record["clip"]))

    try:
        data = fit_basis(films(drawn), channels, seed)
    except ValueError as error:
        raise UserError(
            f"{corpus}: {error}; finish a run first, whose clips this can learn from"
        ) from error
    write_bytes(out / BASIS, data)
    typer.echo(f"{out / BASIS}: {channels} channels, learned from {len(drawn)} clips")
    typer.echo(f"next: --set latents.codec=pca --set latents.weights={out}")

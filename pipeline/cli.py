"""The `tv2tv` command line.

Heavy modules are imported inside the commands, so that ``tv2tv --help`` answers at once. A user's
mistake ends with one message and exit status 2, a broken run with 1; ``--debug`` adds a traceback.
"""

import errno
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
import yaml
from pydantic import ValidationError

from corpus.errors import UserError
from corpus.layout import TOOL_VERSION
from pipeline.calibration.commands import calibrate, classifier, scorer
from pipeline.commands import captions, corpora, models, shards
from pipeline.commands.codecs import codec
from pipeline.faults import RunError
from pipeline.ledger.conservation import ConservationError
from pipeline.prompting.commands import app as prompts

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


for command in (
    *(corpora.run, corpora.plan, corpora.status, corpora.sweep, corpora.report),
    *(captions.shard, shards.verify, shards.inspect, captions.review, calibrate),
    *(models.train, models.generate, models.evaluate, models.demo),
):
    app.command()(command)
for name, group in (
    *(("prompt", prompts), ("scorer", scorer)),
    *(("classifier", classifier), ("codec", codec)),
):
    app.add_typer(group, name=name)


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


if __name__ == "__main__":
    main()

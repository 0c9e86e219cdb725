"""What commands share: arguments of one meaning, and ways to speak."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from pipeline.ledger.conservation import Counts
from pipeline.ledger.decoding import Decoding
from pipeline.ledger.endings import Ending, lines

Corpus = Annotated[
    str, typer.Argument(help="Folder or URI that `tv2tv run` made.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value; may be repeated."),
]


def tell(
    console: Console, counts: Counts, endings: Sequence[Ending], decoding: Decoding, corpus: str
) -> None:
    """The conservation table, why things ended, and pictures against packets."""
    from pipeline.ledger.status import counts_table

    console.print(counts_table(counts))
    for text in [*lines(endings, str(corpus)), *decoding.lines()]:
        say(console, f"  {text}")


def say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

"""`tv2tv calibrate`, `tv2tv scorer` and `tv2tv classifier`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.terminal import Corpus, say

scorer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Train a scorer of captions on the corpus itself.\n\n"
    "Example:\n\n* `tv2tv scorer fit corpus/ --out scorer/`",
)
classifier = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Fit a quality classifier to people's labels.\n\n"
    "Example:\n\n* `tv2tv classifier fit corpus/ --labels labels.csv --out quality.json`",
)


@scorer.callback()
@classifier.callback()
def _group() -> None:
    """A group, though it has one command."""


def calibrate(
    corpus: Corpus,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="A kind of damage; may be repeated. All by default.", show_default=False),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the captions that a kind can change.")
    ] = 0.5,
    clips: Annotated[int, typer.Option(min=1, help="At most so many, drawn by their ids.")] = 500,
    keep: Annotated[
        float, typer.Option(min=0, max=1, help="Of true captions, by proposed thresholds.")
    ] = 0.95,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override one value of scores, comparisons or verdicts; may be repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and of the damage.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default beside the latest run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Damage accepted captions on purpose, and tell which scores notice.

    Writes one self-contained page and a JSON file; no row of the corpus is changed. Films that a
    scorer of the corpus' own was trained on are left out.

    Examples:

    * `tv2tv calibrate corpus/`

    * `tv2tv calibrate corpus/ --kind verb_swap --set "scores.use=[rules, grounding]"
      --set scores.weights=scorer/ --set scores.grounding.input=montage`
    """
    from pipeline.calibration import page
    from pipeline.calibration.calibrate import calibrate as measure

    found = measure(
        corpus,
        overrides=overrides or (),
        kinds=kind or (),
        rate=rate,
        clips=clips,
        keep=keep,
        seed=seed,
    )
    places = page.write(found, out)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    console = Console()
    console.print("AUROC, with half of the wider side of its 95 % interval:", markup=False)
    console.print(page.table(found))
    console.print()
    console.print(page.filter_table(found))
    console.print()
    for text in (*page.notes(found), *places):
        say(console, text)


@scorer.command("fit")
def fit_scorer(
    corpus: Corpus,
    out: Annotated[Path, typer.Option(help="Folder of the scorer.", show_default=False)],
    clips: Annotated[
        int, typer.Option(min=1, help="To learn from, at most; drawn by their ids.")
    ] = 2000,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="steps, side, width, seed and the like."),
    ] = None,
) -> None:
    """Train a small contrastive model on accepted captions, without the films held out.

    Examples:

    * `tv2tv scorer fit corpus/ --out scorer/`

    * `tv2tv scorer fit corpus/ --out scorer/ --set steps=3000 --set side=96 --set patch=16`
    """
    from corpus.settings import check, override
    from pipeline.calibration.contrastive import FitConfig
    from pipeline.calibration.scorer import fit_scorer as fit

    settings: dict[str, object] = {}
    for text in overrides or ():
        override(settings, text)
    config = check(FitConfig, settings, "--set")
    console = Console()
    made = fit(corpus, out, config=config, clips=clips, say=lambda text: say(console, text))
    say(
        console,
        f"{made.folder}: learned from {made.pairs:,} captions of {made.videos:,} videos; "
        f"{made.held_out:,} videos are held out",
    )
    say(
        console,
        f'next: tv2tv calibrate {corpus} --set "scores.use=[rules, grounding]" '
        f"--set scores.weights={made.folder} --set scores.grounding.input=montage",
    )


@classifier.command("fit")
def fit_classifier(
    corpus: Corpus,
    labels: Annotated[
        Path,
        typer.Option(
            help="CSV with segment_id and label (accept, reject), as `tv2tv review --export` "
            "writes it.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("quality.json"),
    feature: Annotated[
        list[str] | None, typer.Option(help="A score to use; may be repeated. All by default.")
    ] = None,
    penalty: Annotated[float, typer.Option(min=0, help="On large weights.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
) -> None:
    """Fit a logistic regression on stored scores to labels, and tell how well it does.

    The AUROC is that of captions of videos that were not learned from.

    Example:

    * `tv2tv classifier fit corpus/ --labels labels.csv --out quality.json`
    """
    from pipeline.calibration.classifier import fit_classifier as fit

    made = fit(corpus, labels, out, features=feature or (), penalty=penalty, seed=seed)
    typer.echo(
        f"{made.labels} labels ({made.accepted} accepted) of {made.videos} videos; "
        f"AUROC on other videos {made.auroc}"
    )
    for why, number in sorted(made.left_out.items()):
        typer.echo(f"{number} not used: {why}")
    parts = zip(made.classifier.features, made.classifier.weights, strict=True)
    for name, weight in sorted(parts, key=lambda part: -abs(part[1])):
        typer.echo(f"  {name:<20} {weight:+.3f}")
    typer.echo(f"{out}: --set verdicts.classifier={out} --set verdicts.at_least.quality=0.5")

"""The demo's page: films that obey, the count of it, the corpora, the curves, what to try next."""

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from corpus.files import write_text
from pipeline.pages.html import data_uri, environment

matplotlib.use("Agg")
MIME = {".mp4": "video/mp4", ".png": "image/png"}
SMOOTH = 25  # steps that a curve's running mean looks back on


@dataclass(frozen=True)
class Film:
    """A generated film.

    Attributes:
        command: what made it, for the reader to repeat.
        film, strip: mp4 and the picture of its frames with their words.
    """

    title: str
    command: str
    film: Path
    strip: Path


@dataclass(frozen=True)
class Leg:
    """One of the demo's two ways from footage to film.

    Attributes:
        levels: the conservation table, as `tv2tv status --json` prints it.
        report: the corpus report.
        run: the training run.
        shards: the manifest's totals.
        obedience: what the oracle counted, or None where there is no oracle.
        next: commands to try from here.
    """

    title: str
    text: str
    levels: dict[str, Any]
    report: Path
    run: Path
    shards: dict[str, Any]
    films: tuple[Film, ...]
    obedience: dict[str, Any] | None
    next: tuple[str, ...]


def write_page(path: Path, legs: list[Leg], seconds: dict[str, float]) -> Path:
    """Write one self-contained page (reports of the corpora are linked beside it)."""
    templates = environment()
    templates.filters["inline"] = inline
    templates.filters["curves"] = curves
    templates.filters["beside"] = lambda other: beside(path, other)
    page = templates.get_template("demo.html").render(legs=legs, seconds=seconds)
    write_text(path, page)
    return path


def beside(page: Path, other: Path) -> str:
    """Link from the page to a file near it, so that the folder can be moved as a whole."""
    return Path(os.path.relpath(other.absolute(), page.parent.absolute())).as_posix()


def inline(path: Path) -> str:
    """A film or picture as a data URI."""
    return data_uri(path.read_bytes(), MIME[path.suffix])


def curves(run: Path) -> str:
    """Loss curves of a run as a picture: text in nats per token, video as mean square error."""
    from matplotlib.figure import Figure

    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    names = (("text", "cross-entropy of words and control tokens, nats"), ("video", "video loss"))
    for axes, (name, label) in zip(figure.subplots(1, 2), names, strict=True):
        points = [(row["step"], row["loss"][name]) for row in rows]
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color="#b9c4d6", linewidth=0.8)
        axes.plot(steps, running_mean(values), color="#1f4e9c", linewidth=1.6)
        axes.set_xlabel("step")
        axes.set_title(label, fontsize=9)
        axes.set_ylim(bottom=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return data_uri(buffer.getvalue(), "image/png")


def running_mean(values: tuple[float, ...]) -> list[float]:
    """Mean of each value and up to SMOOTH - 1 before it."""
    windows = (values[max(0, i + 1 - SMOOTH) : i + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]

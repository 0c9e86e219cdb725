"""When the stages of a run worked: read from its events, drawn as one small picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from corpus.errors import UserError

BINS = 240  # columns of the picture
LANE, GAP, LEFT, WIDTH = 18, 6, 80, 1000


@dataclass(frozen=True)
class StageActivity:
    """One stage of one run.

    Attributes:
        records, computed: how many passed, and how many of them were not read from tables.
        seconds: of work, summed over its workers.
        spans: (begin, end) of every batch, seconds since the first.
    """

    name: str
    records: int
    computed: int
    seconds: float
    workers: int
    spans: tuple[tuple[float, float], ...]


def read_activity(events: Path) -> list[StageActivity]:
    """Activity per stage in the order in which they first worked; none for a run without work.

    What stands behind the last line feed is still being written, or its writer was killed.
    """
    try:
        lines = events.read_text(encoding="utf-8").split("\n")[:-1]
        batches = [e for e in map(json.loads, lines) if e["event"] == "batch"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{events} cannot be read ({error}): run again to write a new one"
        ) from error
    if not batches:
        return []
    zero = min(e["begun"] for e in batches)
    names = list(dict.fromkeys(e["stage"] for e in sorted(batches, key=lambda e: e["begun"])))
    found = []
    for name in names:
        own = [e for e in batches if e["stage"] == name]
        found.append(
            StageActivity(
                name,
                sum(e["records"] for e in own),
                sum(e["computed"] for e in own),
                sum(e["seconds"] for e in own),
                len({e["worker"] for e in own}),
                tuple((e["begun"] - zero, e["begun"] - zero + e["seconds"]) for e in own),
            )
        )
    return found


def draw(stages: Sequence[StageActivity]) -> Markup:
    """An SVG with a lane per stage: the darker, the more of its workers were busy."""
    total = max((end for stage in stages for _, end in stage.spans), default=0.0) or 1.0
    height = len(stages) * (LANE + GAP) + 16
    parts = [f'<svg class="activity" viewBox="0 0 {LEFT + WIDTH} {height}" role="img">']
    for number, stage in enumerate(stages):
        top = number * (LANE + GAP)
        parts.append(f'<text x="0" y="{top + 13}">{escape(stage.name)}</text>')
        parts.append(_rect(LEFT, top, WIDTH, 'class="lane"'))
        for column, share in enumerate(busy(stage, total)):
            if share:
                x, width = LEFT + column * WIDTH / BINS, WIDTH / BINS
                parts.append(_rect(x, top, width, f'fill-opacity="{max(share, 0.15):.2f}"'))
    parts.append(f'<text x="{LEFT}" y="{height - 2}">0 s</text>')
    end = f'x="{LEFT + WIDTH}" y="{height - 2}" text-anchor="end"'
    parts.append(f"<text {end}>{total:.0f} s</text></svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and names escaped above


def busy(stage: StageActivity, total: float) -> list[float]:
    """Share of a stage's workers that were busy, per column of the picture."""
    width = total / BINS
    columns = [0.0] * BINS
    for begin, end in stage.spans:
        for column in range(int(begin / width), min(BINS, int(end / width) + 1)):
            overlap = min(end, (column + 1) * width) - max(begin, column * width)
            columns[column] += max(0.0, overlap) / width / stage.workers
    return [min(1.0, share) for share in columns]


def _rect(x: float, y: float, width: float, rest: str) -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{LANE}" {rest}/>'

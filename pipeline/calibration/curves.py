"""Yield curves as inline SVG: what a threshold keeps of true captions, and of damaged ones."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from pipeline.calibration.calibrate import Told
from pipeline.calibration.filters import ALL
from pipeline.calibration.statistics import Step

SIDE, LEFT, FOOT = 200, 30, 30
COLOURS = ("#3d7ab8", "#c4544a", "#3d8f6a", "#d9a441", "#7d5ba6", "#4a9c9c", "#a0607c", "#7a7a52")


def colours(kinds: Sequence[str]) -> dict[str, str]:
    """One for each kind of damage; all of them together are drawn in ink."""
    return {kind: COLOURS[n % len(COLOURS)] for n, kind in enumerate(kinds)}


def draw(told: Told, kinds: Sequence[str], threshold: float | None) -> Markup:
    """Share kept of true captions to the right, of damaged ones upwards: the lower, the better.

    Args:
        kinds: in the order of their colours.
        threshold: one that is marked with a ring on each line.
    """
    width, height = LEFT + SIDE + 6, SIDE + FOOT + 6
    label = escape(f"{told.score}: share of damaged captions kept by share of true ones kept")
    parts = [f'<svg class="yield" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">']
    for share in (0.0, 0.5, 1.0):
        x, y = _point(share, share)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{SIDE + 6}"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{SIDE + 20}" text-anchor="middle">{share:g}</text>')
    (x1, y1), (x2, y2) = _point(0, 0), _point(1, 1)
    parts.append(f'<line class="chance" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    paint = colours(kinds)
    for kind in (*kinds, ALL):
        stroke = f' style="stroke:{paint[kind]}"' if kind in paint else ' class="together"'
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _line(told.steps, kind))
        parts.append(
            f'<polyline{stroke} points="{points}"><title>{escape(kind)}</title></polyline>'
        )
    at = _nearest(told.steps, threshold)
    if at is not None:
        x, y = _point(at.true, at.damaged[ALL])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    middle = LEFT + SIDE / 2
    parts.append(f'<text x="{middle}" y="{height - 2}" text-anchor="middle">true kept</text></svg>')
    return Markup("".join(parts))  # noqa: S704 - numbers, colours of ours, names escaped above


def _line(steps: Sequence[Step], kind: str) -> list[tuple[float, float]]:
    """From nothing kept to all that has the score kept."""
    shares = sorted({(step.true, step.damaged[kind]) for step in steps})
    return [_point(0.0, 0.0), *(_point(*share) for share in shares)]


def _point(true: float, damaged: float) -> tuple[float, float]:
    return LEFT + SIDE * true, 6 + SIDE * (1 - damaged)


def _nearest(steps: Sequence[Step], threshold: float | None) -> Step | None:
    if threshold is None or not steps:
        return None
    return min(steps, key=lambda step: abs(step.threshold - threshold))

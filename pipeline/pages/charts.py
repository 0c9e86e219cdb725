"""Histograms as inline SVG, with the thresholds that hold."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from pipeline.sweep.spread import Spread

WIDTH, HEIGHT, FOOT = 280, 72, 16
BINS = 24
LEAST_WIDTH = 2.0  # of a bar: what lies just beyond a threshold must be seen
# What scores mean, by level; scores of prompts have names of the user's.
SEGMENTS = {
    "words": "words of the caption",
    "plain": "1 without hedging or talk about the picture, less with every such phrase",
    "variety": "share of distinct word triples: near 0 for a loop",
    "once": "0 where a caption says the same twice running",
    "new": "0 where a caption repeats the one before",
    "change": "0 where a caption says that nothing changes",
    "script": "share of letters of the wanted writing",
    "language": "share of telling words of the wanted language",
    "own_words": "share of words that are no quote from the screen",
    "uncopied": "share of word triples that no subtitle has",
    "claims_per_second": "statements per second of the segment",
    "own": "likeness of the caption to the frames of its segment",
    "contrast": "that likeness, minus the likeness to the frames beside them",
    "random": "that likeness, minus the likeness to other clips",
    "rare": "1 where no other clip has this text, 1/n where n clips have it",
    "yes": "how sure the model is that it is so, asked both ways",
    "agree": "how well its answers to both questions agree",
    "quality": "chance that a person accepts it, says the classifier",
}
CLIPS = {
    "motion": "mean optical flow, short sides of the picture per second",
    "shake": "trembling of the camera around its path, share of the short side",
    "frozen": "share of the time that stands still",
    "black": "share of black frames",
    "letterbox": "share of the height under black bars",
    "pillarbox": "share of the width under black bars",
    "blur": "0 is sharp, 1 nothing but blur",
    "brightness": "mean luma, 0 to 1",
    "contrast": "standard deviation of luma within a frame",
    "text": "share of the picture inside lines of text",
    "aesthetics": "what the aesthetics layer says",
}
LEGEND = {"segments": SEGMENTS, "clips": CLIPS}


@dataclass(frozen=True)
class Chart:
    """A histogram to draw.

    Attributes:
        edges: one more than ``counts``; thresholds that lie among the numbers are edges.
        at_least, at_most: what lies outside is rejected; None where nothing is.
        floor: what lies under it is flagged, and rejected is none of it.
    """

    title: str
    meaning: str
    edges: Sequence[float]
    counts: Sequence[int]
    at_least: float | None = None
    at_most: float | None = None
    floor: float | None = None


def of_spread(title: str, meaning: str, values: Spread) -> Chart:
    """A chart of numbers, which may be none."""
    return Chart(title, meaning, *values.bars(BINS))


def draw(chart: Chart) -> Markup:
    """Bars, of which those outside the thresholds are shaded as rejected, and the ends' numbers."""
    low, high = chart.edges[0], chart.edges[-1]
    span, most = (high - low) or 1.0, max(chart.counts, default=0) or 1
    label = escape(f"{chart.title}: {sum(chart.counts)} from {low:.3g} to {high:.3g}")
    box = f"0 0 {WIDTH} {HEIGHT + FOOT}"
    parts = [f'<svg class="chart" viewBox="{box}" role="img" aria-label="{label}">']
    for count, left, right in zip(chart.counts, chart.edges, chart.edges[1:], strict=False):
        tall = HEIGHT * count / most
        kind = "in" if _kept(chart, (left + right) / 2) else "out"
        x, width = WIDTH * (left - low) / span, WIDTH * (right - left) / span
        parts.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{HEIGHT - tall:.2f}" '
            f'width="{max(LEAST_WIDTH, width - 1):.2f}" height="{tall:.2f}">'
            f"<title>{left:.4g} to {right:.4g}: {count}</title></rect>"
        )
    for bound in (chart.at_least, chart.at_most, chart.floor):
        if bound is not None and low <= bound <= high:
            x = WIDTH * (bound - low) / span
            parts.append(f'<line x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="{HEIGHT}"/>')
    foot = HEIGHT + FOOT - 4
    axis = [f"{0.0 if abs(end) < span / 1000 else end:.3g}" for end in (low, high)]
    parts.append(f'<text x="0" y="{foot}">{axis[0]}</text>')
    parts.append(f'<text x="{WIDTH}" y="{foot}" text-anchor="end">{axis[1]}</text></svg>')
    return Markup("".join(parts))  # noqa: S704 - numbers, and the title escaped above


def _kept(chart: Chart, value: float) -> bool:
    under = chart.at_least is not None and value < chart.at_least
    over = chart.at_most is not None and value > chart.at_most
    return not under and not over

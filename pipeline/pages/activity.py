"""When the stages of a run worked: read from its events, drawn as one small picture.

The log is read twice, line by line, and kept as a few hundred columns per stage: a run of months
takes no more memory than one of minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from markupsafe import Markup, escape

from pipeline.telemetry.events import Event, read_events

BINS = 240  # columns of the picture
LANE, GAP, LEFT, WIDTH = 18, 6, 80, 1000
MOSTLY = 0.8  # a share that counts as nearly all


@dataclass
class StageActivity:
    """One stage of one run.

    Attributes:
        records, computed: how many passed, and how many of them were not read from tables.
        seconds: of work, summed over its workers; ``cpu`` seconds of processors.
        workers: names of those that worked.
        begin, end: of its first and last batch, seconds since the run's first.
        columns: share of its workers that were busy, per column of the picture.
    """

    name: str
    records: int = 0
    computed: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    workers: set[str] = field(default_factory=set)
    begin: float = float("inf")
    end: float = 0.0
    columns: list[float] = field(default_factory=lambda: [0.0] * BINS)

    @property
    def rate(self) -> float:
        """Records per second from its first batch to its last."""
        return self.records / (self.end - self.begin) if self.end > self.begin else 0.0

    @property
    def busy(self) -> float:
        """Share of its workers' time, from its first batch to its last, that was work."""
        span = (self.end - self.begin) * len(self.workers)
        return min(1.0, self.seconds / span) if span > 0 else 0.0


@dataclass(frozen=True)
class Activity:
    """A run's work.

    Attributes:
        stages: in the order in which they first worked; none for a run without work.
        total: seconds from the first batch to the end of the last.
        workers: how many have a core each; 0 where the log does not say.
    """

    stages: list[StageActivity]
    total: float = 0.0
    workers: int = 0

    @property
    def at_once(self) -> float:
        """Workers that were busy at once, on average."""
        return sum(stage.seconds for stage in self.stages) / self.total if self.total else 0.0


def read_activity(path: Path) -> Activity:
    """Sum up a log; UserError where it is damaged."""
    zero, stages, workers = float("inf"), dict[str, StageActivity](), 0
    for one in read_events(path):
        if one["event"] == "cluster":
            workers = one["workers"]
        if one["event"] == "batch":
            zero = min(zero, one["begun"])
            _sum(stages.setdefault(one["stage"], StageActivity(one["stage"])), one)
    for stage in stages.values():
        stage.begin, stage.end = stage.begin - zero, stage.end - zero
    total = max((stage.end for stage in stages.values()), default=0.0)
    if total > 0:
        for one in read_events(path):
            if one["event"] == "batch":
                _shade(stages[one["stage"]], one["begun"] - zero, one["seconds"], total)
    return Activity(sorted(stages.values(), key=lambda stage: stage.begin), total, workers)


def _sum(stage: StageActivity, batch: Event) -> None:
    stage.records += batch["records"]
    stage.computed += batch["computed"]
    stage.seconds += batch["seconds"]
    stage.cpu += batch.get("cpu", 0.0)
    stage.workers.add(batch["worker"])
    stage.begin = min(stage.begin, batch["begun"])
    stage.end = max(stage.end, batch["begun"] + batch["seconds"])


def _shade(stage: StageActivity, begin: float, seconds: float, total: float) -> None:
    width, end = total / BINS, begin + seconds
    for column in range(min(BINS - 1, int(begin / width)), min(BINS, int(end / width) + 1)):
        overlap = min(end, (column + 1) * width) - max(begin, column * width)
        stage.columns[column] += max(0.0, overlap) / width / len(stage.workers)


def verdict(found: Activity) -> str:
    """A sentence: what bounded the run."""
    if not found.stages or not found.total:
        return ""
    work = sum(stage.seconds for stage in found.stages)
    most = max(found.stages, key=lambda stage: stage.seconds)
    busiest = max(_pools(found.stages), key=lambda pool: pool.busy * (pool.end - pool.begin))
    share = f"{most.name} took {most.seconds / work:.0%} of all work"
    average = f"On average {found.at_once:.1f} workers were busy at once"
    if found.workers and found.at_once >= MOSTLY * found.workers:
        cores = f"{found.workers} core{'' if found.workers == 1 else 's'}"
        return f"{average}, on {cores}: the run was bound by processors. {share}."
    span = busiest.end - busiest.begin
    if busiest.busy >= MOSTLY and span >= MOSTLY * found.total:
        return (
            f"{average}. The workers of {busiest.name} were busy {busiest.busy:.0%} of the time "
            f"while others waited: {busiest.name} bound the run. {share}."
        )
    return f"{average}: too little work to keep the machine busy. {share}."


def _pools(stages: Sequence[StageActivity]) -> list[StageActivity]:
    """Stages that shared workers (`pipeline.crews`) as one."""
    found: list[StageActivity] = []
    for stage in stages:
        same = next((pool for pool in found if not pool.workers.isdisjoint(stage.workers)), None)
        if same is None:
            found.append(replace(stage))
            continue
        same.name += f", {stage.name}"
        same.workers = same.workers | stage.workers
        same.seconds += stage.seconds
        same.begin, same.end = min(same.begin, stage.begin), max(same.end, stage.end)
    return found


def draw(found: Activity) -> Markup:
    """An SVG with a lane per stage: the darker, the more of its workers were busy."""
    height = len(found.stages) * (LANE + GAP) + 16
    parts = [f'<svg class="activity" viewBox="0 0 {LEFT + WIDTH} {height}" role="img">']
    for number, stage in enumerate(found.stages):
        top = number * (LANE + GAP)
        parts.append(f'<text x="0" y="{top + 13}">{escape(stage.name)}</text>')
        parts.append(_rect(LEFT, top, WIDTH, 'class="lane"'))
        for column, share in enumerate(stage.columns):
            if share:
                x, width = LEFT + column * WIDTH / BINS, WIDTH / BINS
                shade = min(1.0, max(share, 0.15))
                parts.append(_rect(x, top, width, f'fill-opacity="{shade:.2f}"'))
    parts.append(f'<text x="{LEFT}" y="{height - 2}">0 s</text>')
    end = f'x="{LEFT + WIDTH}" y="{height - 2}" text-anchor="end"'
    parts.append(f"<text {end}>{found.total:.0f} s</text></svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and names escaped above


def _rect(x: float, y: float, width: float, rest: str) -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{LANE}" {rest}/>'

"""What bounded captioning: read from the events of the captions stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.telemetry.events import Event, read_events

CAPTIONS, CHECKS = "captions", "scores"
MOSTLY = 0.8  # a share that counts as nearly all
SUMS = (
    *("asks", "questions", "open", "full", "starved", "ending", "seconds"),
    *("answers", "again", "tokens_in", "tokens_out", "cost"),
)


@dataclass
class CaptionLoad:
    """One run's captioning, all workers together.

    Attributes:
        sums: of `stages.captioning.chains.Load` and of what answers took, by name.
        limit: questions that the backend works on at once.
        span: seconds of each worker from its first batch to the end of its last, summed.
        between: seconds of these that no batch was there.
        canaries: how many were asked and right.
        sight: what canaries were told of the model, by worker.
        alone: what a blind model called the colours.
    """

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    limit: int = 0
    span: float = 0.0
    between: float = 0.0
    canaries: dict[str, int] = field(default_factory=lambda: {"asked": 0, "right": 0})
    sight: dict[str, str] = field(default_factory=dict)
    alone: dict[str, str] = field(default_factory=dict)

    @property
    def filled(self) -> float:
        """Share of the limit that was open when questions were handed over, on average."""
        return self.sums["open"] / self.sums["asks"] if self.sums["asks"] else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Where the workers' time went; adds up to 1."""
        if self.span <= 0:
            return {}
        found = {name: self.sums[name] / self.span for name in ("full", "starved", "ending")}
        found["starved"] += self.between / self.span
        return {**found, "own": max(0.0, 1 - sum(found.values()))}

    @property
    def tokens_per_second(self) -> float:
        """Tokens written per second of all workers' time together, batches alone."""
        worked = self.span - self.between
        return self.sums["tokens_out"] / worked if worked > 0 else 0.0


def read_load(path: Path, stage: str = CAPTIONS) -> CaptionLoad:
    """Sum up a log; UserError where it is damaged.

    Args:
        stage: that asked; `CHECKS` are asked by another.
    """
    found, batches = CaptionLoad(), dict[str, list[tuple[float, float]]]()
    for one in read_events(path):
        if one["event"] != "batch" or one["stage"] != stage or not one.get("told"):
            continue
        _add(found, one, one["told"])
        begun, seconds = one["begun"], one["seconds"]
        batches.setdefault(one["worker"], []).append((begun, begun + seconds))
    for times in batches.values():
        span = max(end for _, end in times) - min(begun for begun, _ in times)
        found.span += span
        found.between += max(0.0, span - sum(end - begun for begun, end in times))
    return found


def _add(found: CaptionLoad, batch: Event, told: dict[str, Any]) -> None:
    for name in SUMS:
        found.sums[name] += told.get(name, 0)
    found.limit = max(found.limit, told["limit"])
    canaries = told.get("canaries")
    if canaries is not None:
        for name in found.canaries:
            found.canaries[name] += canaries[name]
        found.sight[batch["worker"]] = canaries["sight"]
        found.alone |= canaries.get("alone") or {}


def bound(load: CaptionLoad) -> str:
    """A sentence: whether captions or decoding bounded the stage."""
    shares = load.shares
    if not shares:
        return ""
    full, starved = shares["full"], shares["starved"]
    told = f"The backend was at work {full:.0%} of the workers' time"
    if full >= MOSTLY:
        return f"{told}: caption-bound. Only a faster backend, or more of them, makes this quicker."
    waits = {
        f"it waited {starved:.0%} for clips to be cut, read and decoded: decode-starved. More "
        "workers for the stages ahead, or fewer and smaller frames, make this quicker.": starved,
        f"{shares['ending']:.0%} went by at the ends of batches, when few clips were left: "
        "too few clips to fill it. Longer runs have fewer ends.": shares["ending"],
        f"{shares['own']:.0%} was the stage's own work beside it.": shares["own"],
    }
    return f"{told}; {max(waits, key=lambda text: waits[text])}"


def check_words(load: CaptionLoad) -> str:
    """A sentence on what yes/no checks took; "" where there were none."""
    if not load.sums["answers"]:
        return ""
    sums = load.sums
    cost = f", cost {sums['cost']:,.4g}" if sums["cost"] else ""
    return (
        f"Checks asked {sums['answers']:,.0f} questions besides: {sums['tokens_in']:,.0f} tokens "
        f"read, {sums['tokens_out']:,.0f} written{cost}; {load.filled:.0%} of the {load.limit} "
        "that their backend works on at once were open, on average."
    )


def canary_words(load: CaptionLoad) -> str:
    """A sentence on canaries; "" where none can be asked."""
    seen = set(load.sight.values())
    if not seen:
        return ""
    if seen == {"off"}:
        return "Canaries were switched off."
    asked, right = load.canaries["asked"], load.canaries["right"]
    told = f"{right} of {asked} canaries were told their colour; no answer had moved."
    if "blind" in seen:
        names = ", ".join(f"{colour}: {word or 'nothing'}" for colour, word in load.alone.items())
        blind = f"The model does not tell plain colours ({names})"
        return f"{blind}: canaries were blind and guarded nothing. {told if asked else ''}".strip()
    if "unanswered" in seen:
        return f"Some workers got no answer to their canaries. {told}"
    return told

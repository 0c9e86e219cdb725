"""Stage verdicts: which captions are good enough, by thresholds on stored scores.

Scores and verdicts are two stages on purpose. A table row carries the outcome that conservation
counts, so the outcome must be part of what a fingerprint names: thresholds belong into a
fingerprint. Scores are dear and thresholds are moved often: they must not share one. Here nothing
is decoded and no model is asked, so judging all captions anew takes moments.

A rejected caption counts as filtered; its text and scores stay stored with its verdict, so that a
caption policy (`corpus.policy`) can judge otherwise. Clips go on whatever their verdicts are.

Reasons:
    ``low_<score>``, ``high_<score>``: the first threshold, the defaults before the recipe's, that
    a caption does not meet; ``no_score``: there is none at all, or none that a threshold of the
    recipe asks for (fail closed).
    A segment that the captions stage rejected keeps that reason.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from corpus.captions import KEEP
from corpus.rows import Row
from stages.captions import UNJUDGED
from stages.stage import ClipStage, Record, Resources, StageConfig, by_id

Bounds = dict[str, float | None]

AT_LEAST: Bounds = {"words": 1.0, "plain": 1.0, "variety": 0.3, "script": 0.9}
AT_MOST: Bounds = {"words": 120.0, "claims_per_second": 8.0}


class VerdictsConfig(StageConfig):
    """Thresholds, by score (`measures.text_rules`, `measures.grounding`).

    What a recipe says is joined with the defaults, which judge the scores of ``rules`` where those
    are in use; ``null`` takes a threshold away. Not used by default, since they are wrong for
    action labels and for still pictures: ``new: 1`` rejects a text equal to the one before,
    ``change: 1`` one that says nothing changes.

    Attributes:
        at_least: lowest score that is kept.
        at_most: highest score that is kept.
    """

    at_least: Bounds = Field(default_factory=dict)
    at_most: Bounds = Field(default_factory=dict)


class VerdictsStage(ClipStage[VerdictsConfig]):
    """Verdicts on all captions of one clip."""

    name = "verdicts"
    version = "1"
    level = "segment"
    reads = ("clip_id", "segments")
    Config = VerdictsConfig
    writes: ClassVar[pa.Schema] = pa.schema([pa.field("verdict", pa.string())])

    @property
    def resources(self) -> Resources:
        return Resources(cpus=0.25, batch=64)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "defaults": [AT_LEAST, AT_MOST]}

    def content(self, record: Record) -> Record:
        """Scores are judged, and what the captions stage said; of words, only if there are any."""
        read = ("segment_id", "scores", "verdict")
        segments = [
            {**{name: segment[name] for name in read}, "text": bool(segment["text"])}
            for segment in record["segments"]
        ]
        return {**super().content(record), "segments": segments}

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [
            [self._row(record["clip_id"], segment) for segment in record["segments"]]
            for record in records
        ]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        found = by_id(rows)
        if not found:
            return []
        segments = [
            {**segment, "verdict": found[segment["segment_id"]].columns["verdict"]}
            for segment in record["segments"]
        ]
        return [{**record, "segments": segments}]

    def _row(self, clip: str, segment: dict[str, Any]) -> Row:
        name, told = segment["segment_id"], segment["verdict"]
        if told != UNJUDGED:
            columns = {"verdict": told}
            return Row("segment", clip, name, "filtered", told, columns=columns)
        if not segment["text"]:  # the data says that there is nothing to say: legal, and no claim
            return Row("segment", clip, name, columns={"verdict": KEEP})
        verdict, why, score = judge(segment["scores"], self.config)
        columns = {"verdict": verdict}
        if verdict == KEEP:
            return Row("segment", clip, name, columns=columns)
        return Row("segment", clip, name, "filtered", verdict, why, score, columns)


def judge(
    scores: Mapping[str, float], config: VerdictsConfig
) -> tuple[str, str | None, float | None]:
    """Verdict on one caption, with a sentence and the score that decided where it is rejected."""
    if not scores:
        return "no_score", "there is no score to judge", None
    low = _joined(AT_LEAST, config.at_least, scores)
    high = _joined(AT_MOST, config.at_most, scores)
    bounds = [(*one, True) for one in low.items()] + [(*one, False) for one in high.items()]
    for name, bound, least in bounds:
        if bound is None:
            continue
        score = scores.get(name)
        if score is None:
            return "no_score", f"there is no score {name} to judge", None
        if least and score < bound:
            return f"low_{name}", f"{name} is {score:.4g}, at least {bound:g} is kept", score
        if not least and score > bound:
            return f"high_{name}", f"{name} is {score:.4g}, at most {bound:g} is kept", score
    return KEEP, None, None


def _joined(defaults: Bounds, given: Bounds, scores: Mapping[str, float]) -> Bounds:
    """The recipe's thresholds, after the defaults for such scores as there are."""
    return {**{name: bound for name, bound in defaults.items() if name in scores}, **given}

"""Stage verdicts: which captions are good enough, by thresholds on stored scores.

Scores and verdicts are two stages on purpose. A table row carries the outcome that conservation
counts, so the outcome must be part of what a fingerprint names: thresholds belong into a
fingerprint. Scores are dear and thresholds are moved often: they must not share one. Here nothing
is decoded and no model is asked, so judging all captions anew takes moments.

A rejected caption counts as filtered; its text and scores stay stored with its verdict, so that a
caption policy (`corpus.policy`) can judge otherwise. Clips go on whatever their verdicts are.

A *quality classifier* (`measures.classifier`) is applied here, too: it reads stored scores and adds
``quality`` to them, so a new one costs no more than a new threshold.

Reasons:
    ``low_<score>``, ``high_<score>``: the first threshold, the defaults before the recipe's, that
    a caption does not meet; ``no_score``: there is none at all, or none that a threshold of the
    recipe asks for, or one that is no number (fail closed).
    A segment that the captions stage rejected keeps that reason.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from corpus.captions import KEEP
from corpus.rows import Row
from stages.captions import UNJUDGED
from stages.measures.classifier import QUALITY, Classifier, read_classifier
from stages.scores import VECTORS
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, by_id

Bounds = dict[str, float | None]

AT_LEAST: Bounds = {
    **{"words": 1.0, "plain": 1.0, "variety": 0.3, "script": 0.9, "language": 0.5},
    **{"own_words": 0.5, "uncopied": 0.5, "once": 0.2},
}
AT_MOST: Bounds = {"words": 120.0, "claims_per_second": 8.0}


class VerdictsConfig(StageConfig):
    """Thresholds, by score (`measures.text_rules`, `measures.grounding`, `measures.checks`).

    What a recipe says is joined with the defaults, which judge the scores of ``rules`` where those
    are in use; ``null`` takes a threshold away. Not used by default, since they are wrong for
    action labels and for still pictures: ``new: 1`` rejects a text equal to the one before,
    ``change: 1`` one that says nothing changes.

    Attributes:
        at_least: lowest score that is kept.
        at_most: highest score that is kept.
        classifier: JSON file that ``tv2tv classifier fit`` wrote; gives the score ``quality``.
    """

    classifier: str | None = None
    at_least: Bounds = Field(default_factory=dict)
    at_most: Bounds = Field(default_factory=dict)


class VerdictsStage(ClipStage[VerdictsConfig]):
    """Verdicts on all captions of one clip."""

    name = "verdicts"
    version = "2"
    level = "segment"
    reads = ("clip_id", "segments")
    Config = VerdictsConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("verdict", pa.string()),
            pa.field("scores", pa.map_(pa.string(), pa.float64())),  # those that are new here
        ]
    )

    def __init__(self, config: VerdictsConfig, context: Context) -> None:
        super().__init__(config, context)
        given = config.classifier
        self.classifier: Classifier | None = read_classifier(Path(given)) if given else None

    @property
    def resources(self) -> Resources:
        return Resources(cpus=0.25, batch=64)

    def identity(self) -> dict[str, Any]:
        classifier = self.classifier and self.classifier.revision
        return {
            **super().identity(),
            "classifier": classifier,  # by content, never by where it lies
            "defaults": [AT_LEAST, AT_MOST],
        }

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
        segments = []
        for segment in record["segments"]:
            columns = found[segment["segment_id"]].columns
            kept = {name: value for name, value in segment.items() if name not in VECTORS}
            scores = {**segment["scores"], **dict(columns["scores"])}
            segments.append({**kept, "scores": scores, "verdict": columns["verdict"]})
        return [{**record, "segments": segments}]

    def _row(self, clip: str, segment: dict[str, Any]) -> Row:
        name, told = segment["segment_id"], segment["verdict"]
        if told != UNJUDGED:
            columns = {"verdict": told, "scores": {}}
            return Row("segment", clip, name, "filtered", told, columns=columns)
        if not segment["text"]:  # the data says that there is nothing to say: legal, and no claim
            return Row("segment", clip, name, columns={"verdict": KEEP, "scores": {}})
        new = self.added(segment["scores"])
        verdict, why, score = judge({**segment["scores"], **new}, self.config)
        columns = {"verdict": verdict, "scores": new}
        if verdict == KEEP:
            return Row("segment", clip, name, columns=columns)
        return Row("segment", clip, name, "filtered", verdict, why, score, columns)

    def added(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Scores that follow from those of a caption."""
        quality = self.classifier.score(scores) if self.classifier else None
        return {} if quality is None else {QUALITY: quality}


def judge(
    scores: Mapping[str, float], config: VerdictsConfig
) -> tuple[str, str | None, float | None]:
    """Verdict on one caption, with a sentence and the score that decided where it is rejected."""
    if not scores:
        return "no_score", "there is no score to judge", None
    for bound in bounds(config, scores):
        score = scores.get(bound.score)
        if score is None or not math.isfinite(score):
            return "no_score", f"there is no score {bound.score} to judge", None
        if not bound.keeps(score):
            why = f"{bound.score} is {score:.4g}, {bound.side} {bound.value:g} is kept"
            return bound.reason, why, score
    return KEEP, None, None


@dataclass(frozen=True)
class Bound:
    """A threshold; ``least`` is the lowest score that is kept, else it is the highest."""

    score: str
    value: float
    least: bool

    def keeps(self, score: float) -> bool:
        """Never what is no number."""
        return score >= self.value if self.least else score <= self.value

    @property
    def side(self) -> str:
        return "at least" if self.least else "at most"

    @property
    def reason(self) -> str:
        return f"{'low' if self.least else 'high'}_{self.score}"


def bounds(config: VerdictsConfig, scores: Collection[str]) -> list[Bound]:
    """The thresholds that judge a caption, in order: the recipe's, after the defaults for such
    scores as there are."""
    found = []
    for least, defaults, given in (
        (True, AT_LEAST, config.at_least),
        (False, AT_MOST, config.at_most),
    ):
        usual = {name: value for name, value in defaults.items() if name in scores}
        joined = {**usual, **given}
        found += [Bound(name, v, least) for name, v in joined.items() if v is not None]
    return found

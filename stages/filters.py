"""Stage filters: which clips are worth going on with, by thresholds on stored scores.

As with `stages.scores` and `stages.verdicts`: scores are dear and stored, thresholds are moved
often, so here nothing is decoded. A filtered clip gets no captions and no latents. It loses none
either: what later stages made of a clip is named by the clip, so a clip that passes again finds it.

Reasons:
    the name of the first score, ``at_least`` before ``at_most``, that is out of its bounds;
    ``no_score``: a threshold asks for a score that the clip does not have (fail closed).
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pydantic import Field, model_validator

from corpus.errors import UserError
from corpus.rows import Row
from stages.quality import QualityStage
from stages.stage import ClipStage, Record, Resources, Stage, StageConfig, merged

Bounds = dict[str, float]


class FiltersConfig(StageConfig):
    """Thresholds by score of the stage quality; none by default.

    Attributes:
        at_least: lowest score that is kept.
        at_most: highest score that is kept.
    """

    at_least: Bounds = Field(default_factory=dict)
    at_most: Bounds = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something_passes(self) -> "FiltersConfig":
        for name in self.at_least.keys() & self.at_most.keys():
            if self.at_least[name] > self.at_most[name]:
                raise ValueError(
                    f"no {name} is at least {self.at_least[name]:g} and at most "
                    f"{self.at_most[name]:g}"
                )
        return self


class FiltersStage(ClipStage[FiltersConfig]):
    """Verdict on one clip."""

    name = "filters"
    version = "1"
    level = "clip"
    reads = ("clip_id", "quality")
    Config = FiltersConfig
    writes = pa.schema([])

    @property
    def wanted(self) -> bool:
        return bool(self.config.at_least or self.config.at_most)

    @property
    def resources(self) -> Resources:
        return Resources(cpus=0.25, batch=64)

    def agree(self, earlier: Mapping[str, Stage]) -> None:
        """Every threshold judges a score that is computed."""
        quality = earlier.get(QualityStage.name)
        known = quality.config.names if quality else ()
        for name in (*self.config.at_least, *self.config.at_most):
            if name not in known:
                there = ", ".join(known) or "none, as quality.use is empty"
                raise UserError(f"filters: there is no score {name}; quality computes: {there}")

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [[self._row(record)] for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return merged(record, rows)

    def _row(self, record: Record) -> Row:
        found = judge(record["quality"], self.config.at_least, self.config.at_most)
        if found is None:
            return Row("clip", None, record["clip_id"])
        reason, why, score = found
        return Row("clip", None, record["clip_id"], "filtered", reason, why, score)


def judge(
    scores: Mapping[str, float], at_least: Bounds, at_most: Bounds
) -> tuple[str, str, float | None] | None:
    """Reason, sentence and score that end a clip; None if it is kept."""
    for bounds, least in ((at_least, True), (at_most, False)):
        for name, bound in bounds.items():
            score = scores.get(name)
            if score is None:
                return "no_score", f"there is no score {name} to judge", None
            if not (score >= bound if least else score <= bound):  # nor does NaN pass
                words = "at least" if least else "at most"
                return name, f"{name} is {score:.4g}, {words} {bound:g} is kept", score
    return None

"""Stage scores: numbers about every caption, stored whatever they are.

Judging them is the next stage's (`stages.verdicts`), which costs nothing: thresholds can be moved
as often as one likes, and no score is computed again.

* ``rules`` - from the words alone, see `measures.text_rules`;
* ``grounding`` - an image-text model on the segment's own and its neighbours' frames, see
  `measures.grounding`.

A segment without a caption has no scores.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from corpus.errors import UserError
from corpus.rows import Row
from stages.measures import text_rules
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, by_id

if TYPE_CHECKING:
    from stages.measures.grounding import Grounding


class GroundingConfig(BaseModel):
    """How `measures.grounding.Grounding` looks at clips.

    Attributes:
        frames: of each segment, evenly spread.
        batch: frames or texts that go through the model at once.
        device: ``cpu``, or ``cuda`` for a GPU per worker.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    frames: int = Field(default=4, ge=1)
    batch: int = Field(default=64, ge=1)
    device: str = "cpu"


class ScoresConfig(StageConfig):
    """Which scores are computed.

    Attributes:
        use: ``rules``, ``grounding`` or both.
        script: the writing that captions should be in, as Unicode calls it.
        weights: folder of an open_clip model (``open_clip_config.json`` and
            ``open_clip_model.safetensors``), for ``grounding`` and not without it.
        grounding: how frames are looked at.
    """

    use: tuple[Literal["rules", "grounding"], ...] = Field(default=("rules",), min_length=1)
    script: str = Field(default="latin", pattern=r"^[A-Za-z]+$")
    weights: str | None = None
    grounding: GroundingConfig = GroundingConfig()

    @model_validator(mode="after")
    def _weights_are_used(self) -> "ScoresConfig":
        if self.weights is not None and "grounding" not in self.use:
            raise ValueError(
                f"weights are given, but use is {list(self.use)}: set use to [rules, grounding], "
                "or take the weights away"
            )
        return self


class ScoresStage(ClipStage[ScoresConfig]):
    """Scores of all captions of one clip."""

    name = "scores"
    version = "1"
    level = "segment"
    reads = ("clip_id", "clip_sha256", "segments")
    Config = ScoresConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [pa.field("scores", pa.map_(pa.string(), pa.float64()))]
    )

    def __init__(self, config: ScoresConfig, context: Context) -> None:
        super().__init__(config, context)
        self.grounding: Grounding | None = None
        if "grounding" in config.use:
            self.grounding = _grounding(config, context)

    @property
    def resources(self) -> Resources:
        if not self.grounding:
            return Resources(cpus=0.25, batch=64)
        return Resources(cpus=1.0, gpus=float(self.config.grounding.device != "cpu"), batch=8)

    def identity(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "rules" in self.config.use:
            found["rules"] = [text_rules.VERSION, self.config.script]
        if self.grounding:
            found["grounding"] = self.grounding.identity()
        return found

    def content(self, record: Record) -> Record:
        """Of a caption its words are read, never where they came from."""
        read = ("segment_id", "a", "b", "text")
        segments = [{name: segment[name] for name in read} for segment in record["segments"]]
        return {**super().content(record), "segments": segments}

    def open(self) -> None:
        if self.grounding:
            self.grounding.open()

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._rows(record) for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        found = by_id(rows)
        if not found:
            return []
        segments = [
            {**segment, "scores": dict(found[segment["segment_id"]].columns["scores"])}
            for segment in record["segments"]
        ]
        return [{**record, "segments": segments}]

    def _rows(self, record: Record) -> list[Row]:
        found = [self._rules(record["segments"], index) for index in range(len(record["segments"]))]
        if self.grounding:
            looked = self.grounding.scores(self.clip_path(record), record["segments"])
            found = [{**rules, **seen} for rules, seen in zip(found, looked, strict=True)]
        return [
            Row("segment", record["clip_id"], segment["segment_id"], columns={"scores": scores})
            for segment, scores in zip(record["segments"], found, strict=True)
        ]

    def _rules(self, segments: Sequence[dict[str, Any]], index: int) -> dict[str, float]:
        segment = segments[index]
        if "rules" not in self.config.use or not segment["text"]:
            return {}
        before = segments[index - 1]["text"] or None if index else None
        seconds = (segment["b"] - segment["a"]) * self.context.clock.chunk_seconds
        return text_rules.scores(segment["text"], before, seconds, self.config.script)


def _grounding(config: ScoresConfig, context: Context) -> "Grounding":
    if config.weights is None:
        raise UserError(
            "scores: grounding needs the weights of an image-text model: set scores.weights to a "
            "folder of open_clip weights, or scores.use to [rules]"
        )
    from stages.measures.grounding import Grounding  # takes seconds, and rules alone do not need it

    return Grounding(config.weights, context.clock, **config.grounding.model_dump())

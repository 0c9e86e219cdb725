"""Stage scores: numbers about every caption, stored whatever they are.

Judging them is the next stage's (`stages.verdicts`), which costs nothing: thresholds can be moved
as often as one likes, and no score is computed again.

* ``rules`` - from the words alone, see `measures.text_rules`;
* ``grounding`` - an image-text model on the segment's own and its neighbours' frames, see
  `measures.grounding`;
* ``checks`` - a model that sees is asked whether the caption is so, see `measures.checks`.

A segment without a caption has no scores, and a score that is no number is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from corpus.errors import UserError
from corpus.rows import Row
from stages.captioning.settings import BACKENDS, CaptionsConfig
from stages.captioning.sight import Known
from stages.measures import text_rules
from stages.measures.checks import Checks
from stages.measures.vectors import packed
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, by_id

if TYPE_CHECKING:
    from stages.measures.grounding import Grounding
    from stages.measures.openclip import Embedded

Segments = Sequence[dict[str, Any]]
MUTE = ("motion", "given")  # backends that cannot be asked anything
VECTORS = ("said", "seen")  # columns for `stages.comparisons`


class GroundingConfig(BaseModel):
    """How `measures.grounding.Grounding` looks at clips.

    Attributes:
        input: ``frames``, or ``montage`` for weights that were trained on such: one picture of a
            segment with its changes (`measures.montage`).
        frames: of each segment, evenly spread; a montage has a number of its own.
        batch: pictures or texts that go through the model at once.
        device: ``cpu``, or ``cuda`` for a GPU per worker.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    input: Literal["frames", "montage"] = "frames"
    frames: int = Field(default=4, ge=1)
    batch: int = Field(default=64, ge=1)
    device: str = "cpu"


class ScoresConfig(StageConfig):
    """Which scores are computed.

    Attributes:
        use: one or more of ``rules``, ``grounding`` and ``checks``.
        script: the writing that captions should be in, as Unicode calls it.
        language: of captions; gives the score ``language``.
        subtitles: whether the captions of a film's timeline are what is said in it, and captions
            that repeat them are copies; gives the score ``uncopied``.
        weights: folder of an open_clip model (``open_clip_config.json`` and
            ``open_clip_model.safetensors``), for ``grounding`` and not without it.
        grounding: how frames are looked at.
        checks: who is asked: ``backend`` and its section, as in ``captions``.
    """

    use: tuple[Literal["rules", "grounding", "checks"], ...] = Field(
        default=("rules",), min_length=1
    )
    script: str = Field(default="latin", pattern=r"^[A-Za-z]+$")
    language: text_rules.Language | None = None
    subtitles: bool = False
    weights: str | None = None
    grounding: GroundingConfig = GroundingConfig()
    checks: CaptionsConfig = CaptionsConfig()

    @model_validator(mode="after")
    def _goes_together(self) -> "ScoresConfig":
        if self.weights is not None and "grounding" not in self.use:
            raise ValueError(
                f"weights are given, but use is {list(self.use)}: set use to [rules, grounding], "
                "or take the weights away"
            )
        if "checks" in self.use and self.checks.backend in MUTE:
            raise ValueError(
                f"checks: backend {self.checks.backend} cannot be asked anything: name one that "
                f"can ({', '.join(sorted(set(BACKENDS) - set(MUTE)))}), or take checks from use"
            )
        # A run's recipe.yaml holds every value: what is as by default was not asked for.
        usual, own = CaptionsConfig(), {"backend", self.checks.backend}
        told = self.checks.model_fields_set - own
        strange = {name for name in told if getattr(self.checks, name) != getattr(usual, name)}
        if strange:
            raise ValueError(
                f"checks: {', '.join(sorted(strange))} mean nothing here: checks have a backend, "
                "and the section of its name"
            )
        return self


@dataclass(frozen=True)
class Looked:
    """What does not depend on the words of a clip's captions.

    Attributes:
        seen: (N, D) unit vectors of what its segments show; None without ``grounding``.
        spoken: subtitles of each segment.
    """

    seen: "Embedded | None"
    spoken: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Measured:
    """Of one caption.

    Attributes:
        said, seen: directions of its words and of its frames (`measures.vectors.packed`).
    """

    scores: dict[str, float]
    said: str | None = None
    seen: str | None = None

    def finite(self) -> "Measured":
        """Without scores that are no numbers: they must not be stored, and count as missing."""
        kept = {name: value for name, value in self.scores.items() if math.isfinite(value)}
        return replace(self, scores=kept)


class ScoresStage(ClipStage[ScoresConfig]):
    """Scores of all captions of one clip."""

    name = "scores"
    version = "2"
    level = "segment"
    reads = ("clip_id", "clip_sha256", "segments")
    aids = (*ClipStage.aids, "timeline")
    Config = ScoresConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("scores", pa.map_(pa.string(), pa.float64())),
            *(pa.field(name, pa.string()) for name in VECTORS),
        ]
    )

    def __init__(self, config: ScoresConfig, context: Context) -> None:
        super().__init__(config, context)
        self.grounding: Grounding | None = None
        self.checks: Checks | None = None
        if "grounding" in config.use:
            self.grounding = _grounding(config, context)
        if "checks" in config.use:
            self.backend = BACKENDS[config.checks.backend](config.checks)
            self.checks = Checks(self.backend, context.clock)

    @property
    def resources(self) -> Resources:
        if not self.grounding and not self.checks:
            return Resources(cpus=0.25, batch=64)
        gpus = float(self.grounding is not None and self.config.grounding.device != "cpu")
        if not self.checks:
            return Resources(cpus=1.0, gpus=gpus, batch=8)
        needs = self.backend.needs
        return Resources(
            max(1.0, needs.cpus), gpus + needs.gpus, batch=8, max_workers=needs.workers
        )

    def identity(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "rules" in self.config.use:
            found["rules"] = [text_rules.SCORES_VERSION, self.config.script, self.config.language]
            found["subtitles"] = self.config.subtitles
        if self.grounding:
            found["grounding"] = self.grounding.identity()
        if self.checks:
            found["checks"] = self.checks.identity()
        return found

    def content(self, record: Record) -> Record:
        """Of a caption its words are read, never where they came from; a timeline only where it
        holds subtitles."""
        read = ("segment_id", "a", "b", "text")
        segments = [{name: segment[name] for name in read} for segment in record["segments"]]
        found = {**super().content(record), "segments": segments}
        if self._reads_timeline():
            found |= {name: record[name] for name in ("timeline_sha256", "start", "chunks")}
        return found

    def open(self) -> None:
        if self.grounding:
            self.grounding.open()
        if self.checks:
            self.checks.open()

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        looked = [self.look(record) for record in records]
        told = self.measure(
            [(*both, both[0]["segments"]) for both in zip(records, looked, strict=True)]
        )
        return [_rows(*both) for both in zip(records, told, strict=True)]

    def told(self) -> dict[str, Any]:
        return self.checks.told() if self.checks else {}

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        found = by_id(rows)
        if not found:
            return []
        segments = []
        for segment in record["segments"]:
            columns = found[segment["segment_id"]].columns
            vectors = {name: columns[name] for name in VECTORS if columns[name]}
            segments.append({**segment, "scores": dict(columns["scores"]), **vectors})
        return [{**record, "segments": segments}]

    # -- measuring ------------------------------------------------------------------------------

    def look(self, record: Record) -> Looked:
        """What can be found out about a clip whatever its captions say."""
        segments = record["segments"]
        spoken = self._spoken(record)
        silent = not any(segment["text"] for segment in segments)
        if self.grounding is None or silent:
            return Looked(None, spoken)
        return Looked(self.grounding.look(self.clip_path(record), segments), spoken)

    def measure(self, clips: Sequence[tuple[Record, Looked, Segments]]) -> list[list[Measured]]:
        """Scores of captions.

        Args:
            clips: records, what was seen of them, and their segments with ``text``, which need not
                be the record's own: calibration damages them.
        """
        found = [self._measured(looked, segments) for _, looked, segments in clips]
        if self.checks:
            asked = [(self.clip_path(record), segments) for record, _, segments in clips]
            for measured, answers in zip(found, self.checks.scores(asked), strict=True):
                for one, more in zip(measured, answers, strict=True):
                    one.scores.update(more)
        return [[one.finite() for one in measured] for measured in found]

    def _measured(self, looked: Looked, segments: Segments) -> list[Measured]:
        """Of one clip's captions, all but what is asked."""
        found = [Measured(self._rules(looked, segments, i)) for i in range(len(segments))]
        spoken = [i for i, segment in enumerate(segments) if segment["text"]]
        if self.grounding is None or looked.seen is None or not spoken:
            return found
        from stages.measures.grounding import scores

        for i, said in zip(
            spoken, self.grounding.read([segments[i]["text"] for i in spoken]), strict=True
        ):
            grounded = {**found[i].scores, **scores(looked.seen, said, i)}
            vectors = said, looked.seen[i]
            known = np.isfinite(vectors).all()
            found[i] = Measured(grounded, *(packed(one) if known else None for one in vectors))
        return found

    def _rules(self, looked: Looked, segments: Segments, index: int) -> dict[str, float]:
        segment = segments[index]
        text = segment["text"]
        if "rules" not in self.config.use or not text:
            return {}
        before = segments[index - 1]["text"] or None if index else None
        seconds = (segment["b"] - segment["a"]) * self.context.clock.chunk_seconds
        found = text_rules.scores(text, before, seconds, self.config.script, self.config.language)
        if self._reads_timeline():
            found["uncopied"] = text_rules.uncopied(text, looked.spoken[index])
        return found

    def _reads_timeline(self) -> bool:
        return self.config.subtitles and "rules" in self.config.use

    def _spoken(self, record: Record) -> tuple[tuple[str, ...], ...]:
        """Subtitles of each segment."""
        if not self._reads_timeline():
            return ()
        second = self.context.clock.chunk_seconds
        known = Known.of(record, record["chunks"] * second)
        return tuple(
            tuple(
                span.text for span in known.captions(one["a"] * second, one["b"] * second, second)
            )
            for one in record["segments"]
        )


def _rows(record: Record, measured: Sequence[Measured]) -> list[Row]:
    return [
        Row(
            "segment",
            record["clip_id"],
            segment["segment_id"],
            columns={"scores": one.scores, "said": one.said, "seen": one.seen},
        )
        for segment, one in zip(record["segments"], measured, strict=True)
    ]


def _grounding(config: ScoresConfig, context: Context) -> "Grounding":
    if config.weights is None:
        raise UserError(
            "scores: grounding needs the weights of an image-text model: set scores.weights to a "
            "folder of open_clip weights, or scores.use to [rules]"
        )
    from stages.measures.grounding import Grounding  # takes seconds, and rules alone do not need it

    return Grounding(config.weights, context.clock, **config.grounding.model_dump())

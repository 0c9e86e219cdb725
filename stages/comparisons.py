"""Stage comparisons: scores that need all captions of a corpus.

* ``rare``: 1 where no other clip has this text, 1/n where n clips have it. One invented sentence
  can come back thousands of times; action labels may, and are none the worse for it.
* ``random``: likeness to the caption's own frames, minus the mean likeness to segments of other
  clips, drawn at random: what fits any film fits none. The scorer's vectors come from the stage
  scores, so that no picture is looked at here.

It is a gate: nothing is stored, and each replay asks anew, so that a score is always that of the
clips which are there. Which clips are drawn follows from the seed and their ids alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from corpus.errors import UserError
from corpus.ids import unit_hash
from corpus.rows import Row
from stages.measures import text_rules
from stages.measures.vectors import Vectors, unpacked
from stages.scores import VECTORS, ScoresStage
from stages.stage import GateStage, Record, Stage, StageConfig, by_id


class ComparisonsConfig(StageConfig):
    """
    Attributes:
        use: ``rare``, ``random`` or both; captions are then judged once all of them are there.
        references: segments of other clips that ``random`` compares with, at most one of a clip.
    """

    use: tuple[Literal["rare", "random"], ...] = ()
    references: int = Field(default=64, ge=1)


class ComparisonsStage(GateStage[ComparisonsConfig]):
    """Decides nothing, and lets every clip pass."""

    name = "comparisons"
    version = "1"
    level = "segment"
    reads = ("clip_id", "segments")
    Config = ComparisonsConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [pa.field("scores", pa.map_(pa.string(), pa.float64()))]
    )

    @property
    def wanted(self) -> bool:
        return bool(self.config.use)

    def agree(self, earlier: Mapping[str, Stage[Any]]) -> None:
        """There are vectors to compare."""
        scores = earlier.get(ScoresStage.name)
        if "random" in self.config.use and (scores is None or "grounding" not in scores.config.use):
            raise UserError(
                "comparisons: random compares what grounding saw: add grounding to scores.use, or "
                "take random from comparisons.use"
            )

    def content(self, record: Record) -> Record:
        read = ("segment_id", "text", *(VECTORS if "random" in self.config.use else ()))
        segments = [{name: one.get(name) for name in read} for one in record["segments"]]
        return {"clip_id": record["clip_id"], "segments": segments}

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        crowd = Crowd(records, self.config, self.context.seed)
        return [
            [
                Row(
                    "segment",
                    record["clip_id"],
                    segment["segment_id"],
                    columns={"scores": crowd.scores(record["clip_id"], segment)},
                )
                for segment in record["segments"]
            ]
            for record in records
        ]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        found = by_id(rows)
        segments = [
            {
                **segment,
                "scores": {
                    **segment["scores"],
                    **dict(found[segment["segment_id"]].columns["scores"]),
                },
            }
            for segment in record["segments"]
        ]
        return [{**record, "segments": segments}]


class Crowd:
    """All captions that others are compared with.

    Args:
        records: clips with ``segments`` (``text``, and for ``random`` ``said`` and ``seen``).
    """

    def __init__(self, records: Sequence[Record], config: ComparisonsConfig, seed: int) -> None:
        self._config = config
        self._clips = Counter(
            spelling
            for record in records
            for spelling in {_spelling(one["text"]) for one in record["segments"] if one["text"]}
        )
        self._texts = {
            record["clip_id"]: {_spelling(one["text"]) for one in record["segments"] if one["text"]}
            for record in records
        }
        self._names: list[str] = []
        self._seen: Vectors | None = None
        if "random" in config.use:
            drawn = _drawn(records, config.references, seed)
            self._names = [name for name, _ in drawn]
            self._seen = unpacked([seen for _, seen in drawn]) if drawn else None

    def scores(self, clip: str, segment: Mapping[str, Any]) -> dict[str, float]:
        """Of one caption, which need not be among them; none where there is no text.

        ``random`` is missing where nothing was seen, or where there are no other clips.
        """
        if not segment["text"]:
            return {}
        found = {}
        if "rare" in self._config.use:
            spelling = _spelling(segment["text"])
            own = spelling in self._texts.get(clip, ())
            found["rare"] = 1 / max(1, self._clips[spelling] + (not own))
        if self._seen is not None and segment.get("said") and segment.get("seen"):
            said, seen = unpacked([segment["said"], segment["seen"]])
            others = self._seen[[name != clip for name in self._names]][: self._config.references]
            if len(others):
                found["random"] = float(said @ seen - (others @ said).mean())
        return found


def _spelling(text: str) -> str:
    return " ".join(text_rules.words(text)) or text


def _drawn(records: Sequence[Record], count: int, seed: int) -> list[tuple[str, str]]:
    """(clip, what a segment of it shows) of clips drawn by their ids; in the order of the draw."""
    shown = [
        (record["clip_id"], [one["seen"] for one in record["segments"] if one.get("seen")])
        for record in records
    ]
    ordered = sorted(
        (unit_hash(seed, "reference", clip), clip, seen) for clip, seen in shown if seen
    )
    return [
        (clip, seen[int(unit_hash(seed, "segment", clip) * len(seen))])
        for _, clip, seen in ordered[: count + 1]
    ]

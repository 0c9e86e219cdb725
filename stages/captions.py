"""Stage captions: one caption per segment and one meta-caption per clip, from a chosen backend.

Segments of a clip are asked in order, each conditioned on the previous *accepted* caption: status
ok and text rules passed (`measures.text_rules.acceptable`). A rejected caption breaks the chain.
Verdicts come later and never change what was asked. Clips of a batch run side by side, so a
backend's batches are filled across clips (`stages.captioning.chains`).

Reasons:
    filtered: ``no_caption`` (the data says nothing about a segment);
    failed: a status other than ok (``truncated``, ``blocked``, ``degenerate``, ``schema``,
    ``timeout``, ``error``), ``timeline`` (the sidecar is unreadable or has changed).

A rejected segment stays in its clip's partition without text. A clip ends here when its
meta-caption failed, or when none of its segments has a caption.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import av
import cv2
import decord
import pyarrow as pa
from pydantic import field_validator

import vlm_prompts
from corpus.errors import UserError
from corpus.rows import Level, Outcome, Row
from stages.captioning.backend import OK, CaptionAnswer, CaptionBackend, CaptionRequest
from stages.captioning.chains import Chain, converse
from stages.captioning.given import NO_CAPTION, GivenBackend, GivenConfig
from stages.captioning.motion import MotionBackend, MotionConfig
from stages.captioning.sight import Known, Sight
from stages.libraries import versions
from stages.measures import text_rules
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, by_id

LATER = ("vllm", "server")
UNJUDGED = "no_verdict"


class CaptionsConfig(StageConfig):
    """Who writes captions, and what is asked.

    Attributes:
        backend: ``motion`` says what is measured; ``given`` takes what a timeline sidecar says.
        prompt: name of a prompt in ``vlm_prompts`` or path of a .md file, for backends that are
            asked in words; ``motion`` and ``given`` are not.
        motion, given: settings of that backend.
    """

    backend: str = "motion"
    prompt: str = "generic"
    motion: MotionConfig = MotionConfig()
    given: GivenConfig = GivenConfig()

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in BACKENDS:
            return name
        what = "is not part of this version" if name in LATER else "is no caption backend"
        raise ValueError(f"{name!r} {what}: choose {' or '.join(BACKENDS)}")


BACKENDS: dict[str, Callable[[CaptionsConfig], CaptionBackend]] = {
    "motion": lambda config: MotionBackend(config.motion),
    "given": lambda config: GivenBackend(config.given),
}


@dataclass(frozen=True)
class Said:
    """One question and its answer, after the rules.

    Attributes:
        reason: why there is no caption; None when there is one.
        accepted: whether the next question builds on it.
    """

    request: CaptionRequest
    answer: CaptionAnswer
    prompt: str
    reason: str | None
    accepted: bool


class CaptionsStage(ClipStage[CaptionsConfig]):
    """Captions of one clip: rows of its segments, and one of its own for the meta-caption."""

    name = "captions"
    version = "1"
    level = "segment"
    reads = ("clip_id", "clip_sha256", "chunks", "segments")
    aids = (*ClipStage.aids, "timeline")
    Config = CaptionsConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("text", pa.string()),
            pa.field("status", pa.string()),
            pa.field("accepted", pa.bool_()),
            pa.field("previous", pa.string()),  # the caption that the question built on
            pa.field("prompt", pa.string()),
            pa.field("model", pa.string()),
            pa.field("binding", pa.string()),
            pa.field("times", pa.list_(pa.float64())),  # of the frames shown, s from frame 0
        ]
    )

    def __init__(self, config: CaptionsConfig, context: Context) -> None:
        super().__init__(config, context)
        self.backend: CaptionBackend = BACKENDS[config.backend](config)
        self.prompt = vlm_prompts.load(config.prompt) if self.backend.prompt is None else None

    @property
    def resources(self) -> Resources:
        looks = self._looks()
        return Resources(cpus=1.0, batch=4) if looks else Resources(cpus=0.25, batch=64)

    def identity(self) -> dict[str, Any]:
        asked = self.prompt and {**self.prompt.sections, "output": self.prompt.output}
        return {
            "backend": {"name": self.config.backend, **self.backend.identity()},
            "prompt": [self._prompt_name(), asked],
            "rules": text_rules.VERSION,
            "pictures": versions(av, cv2, decord) if self._looks() else None,
        }

    def content(self, record: Record) -> Record:
        """A timeline, and where the clip lies in it, are content only for who reads it."""
        read = super().content(record)
        if self._reads_timeline():
            read |= {name: record[name] for name in ("timeline_sha256", "start")}
        return read

    def open(self) -> None:
        self.backend.open()

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        """A film whose timeline cannot be read ends alone; the others of its batch go on.

        All clips are read before the first question is asked: where that raises, none is open, and
        the records can be tried one by one.
        """
        answers: dict[int, list[Row]] = {}
        chains: dict[int, Chain] = {}
        for index, record in enumerate(records):
            try:
                known = self._known(record)
            except UserError as error:
                answers[index] = self.end(record, "failed", "timeline", str(error))
            else:
                chains[index] = self._chain(record, self._sight(record), known)
        for index, said in zip(chains, converse(self.backend, list(chains.values())), strict=True):
            answers[index] = self._rows(records[index], said)
        return [answers[index] for index in range(len(records))]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        found = by_id(rows)
        meta = found.get(record["clip_id"])
        if meta is None or meta.outcome != OK:
            return []
        segments = [
            _joined(segment, found[segment["segment_id"]]) for segment in record["segments"]
        ]
        if all(segment["status"] is None for segment in segments):
            return []
        kept = ("text", "prompt", "model", "binding")
        return [{**record, **{f"meta_{k}": meta.columns[k] for k in kept}, "segments": segments}]

    # -- asking ---------------------------------------------------------------------------------

    def _looks(self) -> bool:
        return self.backend.view.fps > 0

    def _reads_timeline(self) -> bool:
        return isinstance(self.backend, GivenBackend)

    def _known(self, record: Record) -> Known:
        seconds = record["chunks"] * self.context.clock.chunk_seconds
        return Known.of(record, seconds) if self._reads_timeline() else Known()

    def _prompt_name(self) -> str:
        return self.prompt.name if self.prompt else str(self.backend.prompt)

    def _sight(self, record: Record) -> Sight:
        view, chunks = self.backend.view, record["chunks"]
        return Sight(self.clip_path(record), self.context.clock, chunks, view)

    def _chain(self, record: Record, sight: Sight, known: Known) -> Chain:
        """The meta-caption, then the segments in order; returns list[Said], the meta first."""
        everything = [(0, record["chunks"]), *((s["a"], s["b"]) for s in record["segments"])]
        said: list[Said] = []
        for index, (a, b) in enumerate(everything):
            before = everything[index - 1] if index > 1 else None
            previous = said[-1] if before and said[-1].accepted else None
            request = self._request(sight, known, index > 0, (a, b), before, previous)
            if not index:
                request = replace(request, parts=sight.parts(everything[1:]))
            answer = yield request
            said.append(self._judge(request, answer))
        return said

    def _request(
        self,
        sight: Sight,
        known: Known,
        segment: bool,
        chunks: tuple[int, int],
        before: tuple[int, int] | None,
        previous: Said | None,
    ) -> CaptionRequest:
        second = self.context.clock.chunk_seconds
        start, end = chunks[0] * second, chunks[1] * second
        text = previous.answer.text if previous else None
        section = "clip" if not segment else "first" if before is None else "unchained"
        section = "next" if text is not None else section
        return CaptionRequest(
            kind="segment" if segment else "clip",
            start=start,
            end=end,
            shown=sight.shown(*chunks),
            before=sight.before(before),
            previous=text,
            known=known.captions(start, end, second) if segment else known.clip(start, end),
            prompt=self._render(section, start, end, text),
            schema=self.prompt.output if self.prompt else {},
            model=self.backend.model,
            sampling=self.backend.sampling,
        )

    def _render(self, section: str, start: float, end: float, previous: str | None) -> str:
        if self.prompt is None:
            return ""
        values = {"start": start, "end": end, "duration": end - start, "previous": previous}
        return self.prompt.render(section, **values)

    # -- judging --------------------------------------------------------------------------------

    def _judge(self, request: CaptionRequest, answer: CaptionAnswer) -> Said:
        """An empty answer is no caption, unless the data itself may be silent."""
        reason = None if answer.status == OK else answer.status
        if reason is None and not answer.text.strip() and not self._may_be_silent(request):
            reason = NO_CAPTION if self._reads_timeline() else "degenerate"
        accepted = reason is None and text_rules.acceptable(answer.text)
        return Said(request, answer, self._prompt_name(), reason, accepted)

    def _may_be_silent(self, request: CaptionRequest) -> bool:
        """Given captions need no meta-caption."""
        return self._reads_timeline() and (request.kind == "clip" or self.config.given.allow_empty)

    def _rows(self, record: Record, said: Sequence[Said]) -> list[Row]:
        meta = _row("clip", None, record["clip_id"], said[0])
        segments = zip(record["segments"], said[1:], strict=True)
        return [
            meta,
            *(_row("segment", record["clip_id"], s["segment_id"], one) for s, one in segments),
        ]


def _row(level: Level, parent: str | None, name: str, said: Said) -> Row:
    outcome: Outcome = "ok" if said.reason is None else "failed"
    if said.reason == NO_CAPTION:
        outcome = "filtered"
    columns = {
        "text": said.answer.text,
        "status": said.answer.status,
        "accepted": said.accepted,
        "previous": said.request.previous,
        "prompt": said.prompt,
        "model": said.request.model,
        "binding": said.answer.id,
        "times": list(said.request.shown.times),
    }
    return Row(
        level,
        parent,
        name,
        outcome,
        said.reason,
        said.answer.message or None,
        columns=columns,
    )


def _joined(segment: dict[str, Any], row: Row) -> dict[str, Any]:
    """A segment with its caption; one that was rejected says why in place of a verdict."""
    ok = row.outcome == OK
    return {
        **{name: segment[name] for name in ("segment_id", "a", "b")},
        **{name: row.columns[name] for name in ("prompt", "model", "binding")},
        "text": row.columns["text"] if ok else "",
        "status": row.columns["status"] if ok else None,
        "scores": {},
        "verdict": UNJUDGED if ok else row.reason,
    }

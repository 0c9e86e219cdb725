"""Stage captions: one caption per segment and one meta-caption per clip, from a chosen backend.

Segments of a clip are asked in order, each conditioned on the previous *accepted* caption: status
ok and text rules passed (`measures.text_rules.acceptable`). A rejected caption breaks the chain.
Verdicts come later and never change what was asked. Where ``chain`` is off all segments are asked
at once, on their own. Clips of a batch run side by side, so a backend's batches are filled across
clips (`stages.captioning.chains`).

An answer that is no caption is asked for once more with the backend's other decoding, if it has
one. *Ladders* are captions of the same clip at fixed densities, beside those of its segments. They
are part of the row of the clip and count in no level. *Canaries* ride along with backends that are
asked in words (`stages.captioning.canaries`).

Reasons:
    filtered: ``no_caption`` (the data says nothing about a segment);
    failed: a status that the same question would have again (``truncated``, ``blocked``,
    ``degenerate``, ``schema``), ``timeline`` (the sidecar is unreadable or has changed);
    quarantined: ``timeout``, ``error``: `tv2tv run --retry` asks about the clip again.

A rejected segment stays in its clip's partition without text. A clip ends here when its
meta-caption failed, or when none of its segments has a caption.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import av
import cv2
import decord
import pyarrow as pa

import vlm_prompts
from corpus.errors import UserError
from corpus.rows import Level, Outcome, Row
from stages.captioning.account import Account
from stages.captioning.asking import Asker, Said, Spans, over
from stages.captioning.backend import OK, CaptionAnswer, CaptionBackend, CaptionRequest
from stages.captioning.canaries import Canaries, Flight
from stages.captioning.chains import Chain, converse
from stages.captioning.given import NO_CAPTION, GivenBackend
from stages.captioning.settings import BACKENDS, CaptionsConfig, widths
from stages.captioning.sight import Known, Sight
from stages.libraries import versions
from stages.measures import text_rules
from stages.segments import fixed_spans
from stages.stage import ClipStage, Context, Record, Resources, by_id

UNJUDGED = "no_verdict"
BATCHES = 4  # clips of a batch per question that a backend works on at once: a batch's end is idle
OUTCOMES: dict[str, Outcome] = {
    NO_CAPTION: "filtered",
    **{"timeout": "quarantined", "error": "quarantined"},
}
LADDER = ("every", "a", "b", "text", "status", "prompt", "model", "binding")
_CAPTION = [
    pa.field("text", pa.string()),
    pa.field("status", pa.string()),
    pa.field("previous", pa.string()),  # the caption that the question built on
    pa.field("prompt", pa.string()),
    pa.field("model", pa.string()),
    pa.field("binding", pa.string()),
    pa.field("sampling", pa.string()),  # decoding parameters of the last try, as JSON
    pa.field("times", pa.list_(pa.float64())),  # of the frames shown, s from frame 0
    pa.field("before", pa.list_(pa.float64())),  # of those of the segment before
    pa.field("width", pa.int32()),  # pixels of these frames
    pa.field("height", pa.int32()),
    pa.field("tries", pa.int32()),
    pa.field("tokens_in", pa.int64()),  # of all tries; so the next ones
    pa.field("tokens_out", pa.int64()),
    pa.field("seconds", pa.float64()),
    pa.field("cost", pa.float64()),
]
_STEP = [pa.field("every", pa.string()), pa.field("a", pa.int32()), pa.field("b", pa.int32())]


class CaptionsStage(ClipStage[CaptionsConfig]):
    """Captions of one clip: rows of its segments, and one of its own for the meta-caption."""

    name = "captions"
    version = "2"
    level = "segment"
    reads = ("clip_id", "clip_sha256", "chunks", "segments")
    aids = (*ClipStage.aids, "timeline")
    Config = CaptionsConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            *_CAPTION,
            pa.field("accepted", pa.bool_()),
            pa.field("ladders", pa.list_(pa.struct([*_STEP, *_CAPTION]))),  # on rows of clips
        ]
    )

    def __init__(
        self, config: CaptionsConfig, context: Context, backend: CaptionBackend | None = None
    ) -> None:
        """``backend`` takes the place of the one that the config names."""
        super().__init__(config, context)
        self.backend: CaptionBackend = backend or BACKENDS[config.backend](config)
        self.prompt = vlm_prompts.load(config.prompt) if self.backend.prompt is None else None
        self.widths = widths(config.ladders, context.clock)
        self._asker = Asker(
            self.backend, self.prompt, context.clock, config.chain, self._silence, self.heard
        )
        self._canaries = Canaries(self.backend, config.canaries if self.prompt else 0.0)
        self._flight = Flight()
        self._account = Account()
        self._kept: dict[str, list[Row]] = {}

    @property
    def resources(self) -> Resources:
        needs, limit = self.backend.needs, self.backend.limit
        batch = BATCHES * limit if limit > 1 else 4 if self._looks() else 64
        return Resources(
            needs.cpus, needs.gpus, batch=batch, max_workers=needs.workers, patient=limit > 1
        )

    def identity(self) -> dict[str, Any]:
        asked = self.prompt and {**self.prompt.sections, "output": self.prompt.output}
        name = self.prompt.name if self.prompt else self.backend.prompt
        return {
            "backend": {"name": self.config.backend, **self.backend.identity()},
            "prompt": [name, asked],
            "chain": self.config.chain,
            "ladders": list(self.widths.values()),
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

        Where a clip cannot be read that is raised, but only once the others are finished: their
        rows are kept for when the records are tried one by one.
        """
        keys = [self.key(record) for record in records]
        rows = {key: self._kept.pop(key) for key in keys if key in self._kept}
        todo = {key: one for key, one in zip(keys, records, strict=True) if key not in rows}
        self._flight = Flight()
        openings = [lambda one=one: self._opened(one) for one in todo.values()]
        mixed = self._canaries.mixed(self._flight, openings)
        told = converse(self.backend, mixed, self._account.load)
        self._canaries.check(self._flight)
        clips = [one for one in told if one != [None]]  # a canary has nothing to tell
        unread: Exception | None = None
        for (key, record), said in zip(todo.items(), clips, strict=True):
            if isinstance(said[0], Exception):
                unread = said[0]
            else:
                rows[key] = said[0] if self._ended(said) else self._rows(record, said)
        if unread is not None:
            self._kept |= rows
            raise unread
        return [rows[key] for key in keys]

    def told(self) -> dict[str, Any]:
        found = self._account.told(self.backend)
        canaries = {"canaries": self._canaries.told()} if self.prompt else {}
        return {**found, **canaries} if found else {}

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
        metas = {f"meta_{k}": meta.columns[k] for k in ("text", "prompt", "model", "binding")}
        ladders = [{k: step[k] for k in LADDER} for step in meta.columns["ladders"] or ()]
        for step in ladders:
            step["text"] = step["text"] if step["status"] == OK else ""
        return [{**record, **metas, "segments": segments, "ladders": ladders}]

    # -- asking ---------------------------------------------------------------------------------

    def stories(self, record: Record) -> list[Spans]:
        """The partitions of a clip that are captioned: its segments, then the ladders."""
        ladders = [fixed_spans(record["chunks"], width, "merge") for width in self.widths.values()]
        return [[(one["a"], one["b"]) for one in record["segments"]], *ladders]

    def _opened(self, record: Record) -> list[Chain]:
        """A clip's chains, or one that says why there are none."""
        clock, chunks = self.context.clock, record["chunks"]
        stories = self.stories(record)
        try:
            known = Known()
            if self._reads_timeline():
                known = Known.of(record, chunks * clock.chunk_seconds)
        except UserError as error:
            return [over(self.end(record, "failed", "timeline", str(error)))]
        spans = [(0, chunks), *(span for story in stories for span in story)]
        try:
            sight = Sight(self.clip_path(record), clock, spans, self.backend.view)
        except Exception as error:
            return [over(error)]
        return self._asker.chains(sight, known, chunks, stories)

    def _looks(self) -> bool:
        return self.backend.view.fps > 0

    def _reads_timeline(self) -> bool:
        return isinstance(self.backend, GivenBackend)

    def _silence(self, request: CaptionRequest) -> str | None:
        """An empty answer is no caption, unless the data itself may be silent: given captions need
        no meta-caption."""
        if not self._reads_timeline():
            return "degenerate"
        allowed = request.kind == "clip" or self.config.given.allow_empty
        return None if allowed else NO_CAPTION

    def heard(self, request: CaptionRequest, answer: CaptionAnswer, reason: str | None) -> None:
        """Called with every question and its answer, and the reason why that is no caption."""
        self._flight.hear(answer)
        self._account.hear(self.backend, request, answer)

    # -- telling --------------------------------------------------------------------------------

    def _ended(self, said: Sequence[Any]) -> bool:
        return isinstance(said[0][0], Row)

    def _rows(self, record: Record, said: Sequence[list[Said]]) -> list[Row]:
        (meta,), segments, *ladders = self._asker.gather(said, self.stories(record))
        steps = [
            {"every": every, "a": one.a, "b": one.b, **_columns(one), "status": one.reason or OK}
            for every, ladder in zip(self.widths, ladders, strict=True)
            for one in ladder
        ]
        clip = record["clip_id"]
        return [
            _row("clip", None, clip, meta, steps),
            *(
                _row("segment", clip, segment["segment_id"], one, None)
                for segment, one in zip(record["segments"], segments, strict=True)
            ),
        ]


def _columns(said: Said) -> dict[str, Any]:
    return {"text": said.text, "status": said.status, **said.columns}


def _row(
    level: Level, parent: str | None, name: str, said: Said, ladders: list[dict[str, Any]] | None
) -> Row:
    outcome: Outcome = "ok" if said.reason is None else OUTCOMES.get(said.reason, "failed")
    columns = {**_columns(said), "accepted": said.accepted, "ladders": ladders}
    return Row(level, parent, name, outcome, said.reason, said.message or None, columns=columns)


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

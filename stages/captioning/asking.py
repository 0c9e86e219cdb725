"""All questions about one clip, and what its answers become.

The meta-caption, the clip's segments and every ladder are chains of their own. In a *differential*
chain each question builds on the previous accepted caption; *independent* questions are all open at
once, and each is a chain of one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from corpus.clock import Clock
from corpus.ids import canonical_json
from stages.captioning.account import added
from stages.captioning.backend import OK, CaptionAnswer, CaptionBackend, CaptionRequest, Detail
from stages.captioning.chains import Chain
from stages.captioning.sight import Known, Sight
from stages.measures import text_rules
from vlm_prompts import Prompt

Spans = Sequence[tuple[int, int]]
AGAIN = {"truncated", "blocked", "degenerate", "schema"}  # of which another decoding may be free
Hearing = Callable[[CaptionRequest, CaptionAnswer, str | None], None]


@dataclass(frozen=True)
class Said:
    """What was asked and answered about the chunks ``[a, b)``, after the rules; without frames.

    Attributes:
        status, text, message: of the last answer.
        reason: why there is no caption; None when there is one.
        accepted: whether the next question builds on it.
        columns: the rest of what the stage stores of a caption.
    """

    a: int
    b: int
    status: str
    text: str
    message: str
    reason: str | None
    accepted: bool
    columns: dict[str, Any]


@dataclass(frozen=True)
class Asker:
    """Asks a backend about clips.

    Attributes:
        prompt: what it is asked in words; None where the backend is not.
        differential: whether questions build on captions.
        silence: reason of an empty answer, which may be none, by request.
        heard: told every question, its answer, and the reason why that is no caption.
    """

    backend: CaptionBackend
    prompt: Prompt | None
    clock: Clock
    differential: bool
    silence: Callable[[CaptionRequest], str | None]
    heard: Hearing

    def chains(
        self, sight: Sight, known: Known, whole: int, stories: Sequence[Spans]
    ) -> list[Chain]:
        """Chains about a clip of ``whole`` chunks; each returns a list of `Said`.

        Args:
            stories: partitions of the clip, the first its segments.
        """
        ask = partial(self._ask, sight, known)
        found: list[Chain] = [ask([(0, whole)], "clip", parts=stories[0])]
        for spans in stories:
            if self.differential:
                found.append(ask(spans, "segment"))
                continue
            befores = [None, *spans]
            found += [ask([s], "segment", before=b) for s, b in zip(spans, befores, strict=False)]
        return found

    def gather(self, said: Sequence[list[Said]], stories: Sequence[Spans]) -> list[list[Said]]:
        """What the chains of a clip returned as [[meta], segments, ladder, ...]."""
        flat = iter([one for chain in said for one in chain])
        return [[next(flat) for _ in range(n)] for n in (1, *map(len, stories))]

    def _ask(
        self,
        sight: Sight,
        known: Known,
        spans: Spans,
        kind: str,
        *,
        before: tuple[int, int] | None = None,
        parts: Spans = (),
    ) -> Chain:
        said: list[Said] = []
        for a, b in spans:
            request = self._request(sight, known, kind, (a, b), before, said[-1] if said else None)
            if parts:
                request = replace(request, parts=sight.parts(parts))
            answer = yield request
            reason = self._judge(request, answer)
            tries, spent = 1, answer.detail
            if reason in AGAIN and self.backend.again is not None:
                request = replace(request, sampling=self.backend.again)
                answer = yield request
                reason = self._judge(request, answer)
                tries, spent = 2, added(spent, answer.detail)
            said.append(self._said((a, b), request, answer, reason, tries, spent))
            before = (a, b)
        return said

    def _request(
        self,
        sight: Sight,
        known: Known,
        kind: str,
        chunks: tuple[int, int],
        before: tuple[int, int] | None,
        last: Said | None,
    ) -> CaptionRequest:
        second = self.clock.chunk_seconds
        start, end = chunks[0] * second, chunks[1] * second
        previous = last.text if last is not None and last.accepted else None
        section = "clip" if kind == "clip" else "first" if before is None else "unchained"
        section = "next" if previous is not None else section
        clip = kind == "clip"
        return CaptionRequest(
            kind="clip" if clip else "segment",
            start=start,
            end=end,
            shown=sight.shown(*chunks),
            before=sight.before(before),
            previous=previous,
            known=known.clip(start, end) if clip else known.captions(start, end, second),
            prompt=self._render(section, start, end, previous),
            schema=self.prompt.output if self.prompt else {},
            model=self.backend.model,
            sampling=self.backend.sampling,
        )

    def _render(self, section: str, start: float, end: float, previous: str | None) -> str:
        if self.prompt is None:
            return ""
        values = {"start": start, "end": end, "duration": end - start, "previous": previous}
        return self.prompt.render(section, **values)

    def _judge(self, request: CaptionRequest, answer: CaptionAnswer) -> str | None:
        """Why an answer is no caption, if it is none."""
        reason = None if answer.status == OK else answer.status
        if reason is None and not answer.text.strip():
            reason = self.silence(request)
        self.heard(request, answer, reason)
        return reason

    def _said(
        self,
        chunks: tuple[int, int],
        request: CaptionRequest,
        answer: CaptionAnswer,
        reason: str | None,
        tries: int,
        spent: Detail,
    ) -> Said:
        accepted = reason is None and text_rules.acceptable(answer.text)
        height, width = request.shown.frames.shape[1:3]
        columns = {
            "previous": request.previous,
            "prompt": self.prompt.name if self.prompt else str(self.backend.prompt),
            "model": request.model,
            "binding": answer.id,
            "sampling": canonical_json(request.sampling),
            "times": list(request.shown.times),
            "before": list(request.before.times),
            "width": width,
            "height": height,
            "tries": tries,
            "tokens_in": spent.tokens_in,
            "tokens_out": spent.tokens_out,
            "seconds": spent.seconds,
            "cost": spent.cost,
        }
        told = answer.status, answer.text, answer.message
        return Said(*chunks, *told, reason, accepted, columns)


def over(value: Any) -> Chain:
    """A chain that asks nothing."""
    yield from ()
    return value

"""Checks: a model that sees is asked whether what a caption says is so.

Every sentence of a caption is a claim. Each claim is asked about twice, whether it is true and
whether it is false: a model that says yes to everything, as many do, contradicts itself and gains
nothing by it. The questions go through a caption backend, with the probabilities of the answers.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import decord

from corpus.clock import Clock
from stages.captioning.account import Account
from stages.captioning.backend import (
    NOTHING,
    OK,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    Shown,
)
from stages.captioning.chains import Chain, converse
from stages.captioning.sight import Sight
from stages.libraries import versions

VERSION = "1"
YES, NO = CHOICES = ("yes", "no")
QUESTION = (
    "These are frames of a film, from {start:.2f} s to {end:.2f} s. Somebody says about them:\n"
    "“{claim}”\n"
    "Look closely at what the frames show. Is that statement {polarity}? Answer yes or no."
)
TRUE, FALSE = POLARITIES = ("true", "false")
_ENDS = re.compile(r"(?<=[.!?;])\s+")

Segments = Sequence[dict[str, Any]]


class Checks:
    """Scores ``yes`` and ``agree`` of captions, 0 to 1.

    Args:
        backend: one that answers questions with choices.
    """

    def __init__(self, backend: CaptionBackend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._account = Account()

    def identity(self) -> dict[str, Any]:
        pictures = versions(av, cv2, decord)
        return {"version": VERSION, "question": QUESTION, **pictures, **self._backend.identity()}

    def open(self) -> None:
        self._backend.open()

    def scores(self, clips: Sequence[tuple[Path, Segments]]) -> list[list[dict[str, float]]]:
        """Scores of each caption of each clip; none where there is no text.

        ``yes``: the mean of P(yes) to "is it true" and P(no) to "is it false", of the claim where
        that is least. ``agree``: 1 less the difference of the two, where they agree least. A
        caption one of whose questions was not answered has neither.
        """
        openings = [lambda one=one: self._chains(*one) for one in clips]
        told = converse(self._backend, openings, self._account.load)
        return [
            _gathered(segments, answers) for (_, segments), answers in zip(clips, told, strict=True)
        ]

    def told(self) -> dict[str, Any]:
        """What was asked since the last call, and what it took."""
        return self._account.told(self._backend)

    def _chains(self, clip: Path, segments: Segments) -> list[Chain]:
        """A chain per question: all of them are open at once."""
        spoken = [segment for segment in segments if segment["text"]]
        if not spoken:
            return []
        spans = [(segment["a"], segment["b"]) for segment in spoken]
        sight = Sight(clip, self._clock, spans, self._backend.view)
        return [
            self._ask(self._request(sight.shown(*span), span, claim, polarity))
            for segment, span in zip(spoken, spans, strict=True)
            for claim in claims(segment["text"])
            for polarity in POLARITIES
        ]

    def _ask(self, request: CaptionRequest) -> Chain:
        answer: CaptionAnswer = yield request
        self._account.hear(self._backend, request, answer)
        return answer

    def _request(
        self, shown: Shown, span: tuple[int, int], claim: str, polarity: str
    ) -> CaptionRequest:
        start, end = (chunk * self._clock.chunk_seconds for chunk in span)
        return CaptionRequest(
            kind="check",
            start=start,
            end=end,
            shown=shown,
            before=NOTHING,
            previous=None,
            known=(),
            prompt=QUESTION.format(start=start, end=end, claim=claim, polarity=polarity),
            schema={},
            model=self._backend.model,
            sampling=self._backend.sampling,
            choices=CHOICES,
        )


def claims(text: str) -> list[str]:
    """The sentences of a caption."""
    return [part for part in (piece.strip() for piece in _ENDS.split(text)) if part]


def _gathered(segments: Segments, answers: Sequence[CaptionAnswer]) -> list[dict[str, float]]:
    """Answers in the order in which they were asked for, by segment."""
    left = iter(answers)
    found = []
    for segment in segments:
        told = claims(segment["text"] or "")
        found.append(_score([(next(left), next(left)) for _ in told]))
    return found


def _score(pairs: Sequence[tuple[CaptionAnswer, CaptionAnswer]]) -> dict[str, float]:
    """Of one caption, a pair of answers per claim."""
    sides = [(_likely(so, YES), _likely(not_so, NO)) for so, not_so in pairs]
    known = [(so, no) for so, no in sides if so is not None and no is not None]
    if not known or len(known) < len(sides):
        return {}
    return {
        "yes": min((so + no) / 2 for so, no in known),
        "agree": min(1 - abs(so - no) for so, no in known),
    }


def _likely(answer: CaptionAnswer, choice: str) -> float | None:
    """Probability of a choice; None where the question was not answered by all choices."""
    told = [answer.likely.get(each, math.nan) for each in CHOICES]
    whole = answer.status == OK and all(0 <= each <= 1 for each in told)
    return answer.likely[choice] if whole else None

"""What every caption backend is: questions in, answers out, each tied to what was shown.

A `CaptionRequest` holds everything a backend may look at, and its id is the hash of exactly that
(`corpus.ids.binding`). A backend answers with `CaptionRequest.answer`, which computes the id anew
from the request whose frames it really used: frames and id cannot part on the way, however a
backend batches, reorders or retries.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UserError
from corpus.ids import binding, canonical_json
from corpus.timeline import Span

OK = "ok"
STATUSES = (OK, "truncated", "blocked", "degenerate", "schema", "timeout", "error")


class Unusable(UserError):
    """A backend that can answer no question at all: the run must stop, and a person act."""


class Away(OSError):
    """A backend that does not answer now and may do so later: nothing is said of any record."""


class BindingError(RuntimeError):
    """An answer does not belong to any open question: the worker must stop, not go on."""


@dataclass(frozen=True)
class View:
    """Which pictures a backend wants to see.

    Attributes:
        fps: frames per second, at most; 0 for none at all.
        short_side: pixels of the short side, at most; 0 leaves frames as they are.
        before: whether the previous segment's frames come along.
        parts: whether a clip is also shown segment by segment.
        most: frames of one stretch, at most, still evenly spaced; 0 for any number.
    """

    fps: float
    short_side: int = 0
    before: bool = False
    parts: bool = False
    most: int = 0


@dataclass(frozen=True)
class Shown:
    """Frames with their true times.

    Attributes:
        frames: uint8 (T, H, W, 3) RGB.
        times: (T,) seconds from the clip's frame 0.
    """

    frames: NDArray[np.uint8]
    times: tuple[float, ...]

    @cached_property
    def sha256(self) -> str:
        shape = canonical_json([list(self.frames.shape), self.times]).encode()
        found = hashlib.sha256(shape)
        found.update(np.ascontiguousarray(self.frames).data)
        return found.hexdigest()


NOTHING = Shown(np.zeros((0, 0, 0, 3), np.uint8), ())


@dataclass(frozen=True)
class CaptionRequest:
    """One question.

    Attributes:
        kind: ``segment`` asks what changes, ``clip`` what the whole clip shows, ``check`` whether
            something is true.
        start, end: the stretch asked about, seconds from the clip's frame 0.
        shown: its frames; those of a segment begin with the picture on show at its start.
        before: frames of the previous segment, if there is one and the backend wants them.
        previous: the previous accepted caption; None at the start and after a rejection.
        known: what the data itself says of this stretch (timeline rows, clip time).
        prompt: the rendered prompt.
        schema: JSON schema of the answer.
        model: id and revision of what is asked.
        sampling: decoding parameters, those of the backend or, on a second try, its ``again``.
        choices: the answer is one of these, and `CaptionAnswer.likely` tells how likely each was;
            there is no schema then.
        parts: frames of a clip's segments, each as its own question shows them.
    """

    kind: Literal["segment", "clip", "check"]
    start: float
    end: float
    shown: Shown
    before: Shown
    previous: str | None
    known: tuple[Span, ...]
    prompt: str
    schema: dict[str, Any]
    model: str
    sampling: dict[str, Any]
    choices: tuple[str, ...] = ()
    parts: tuple[Shown, ...] = ()

    @property
    def id(self) -> str:
        """The binding: hash of all that is shown and asked."""
        shown = "".join(one.sha256 for one in (self.shown, self.before, *self.parts))
        frames = hashlib.sha256(shown.encode()).hexdigest()
        known = [[span.start, span.end, span.text] for span in self.known]
        asked: list[Any] = [self.kind, self.start, self.end, self.previous, known, self.schema]
        asked += [self.prompt, self.choices] if self.choices else [self.prompt]
        return binding(frames, canonical_json(asked), self.model, self.sampling)

    def answer(
        self,
        status: str,
        text: str = "",
        message: str = "",
        detail: "Detail | None" = None,
        likely: Mapping[str, float] | None = None,
    ) -> "CaptionAnswer":
        """The answer to this very request."""
        return CaptionAnswer(self.id, status, text, message, detail or Detail(), likely or {})


@dataclass(frozen=True)
class Detail:
    """What an answer took. Told, summed and stored, never part of results.

    Attributes:
        tokens_in, tokens_out: tokens read and written; 0 where there are none.
        seconds: from the question to its answer.
        cost: what it cost, in the currency of the recipe's prices.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True)
class CaptionAnswer:
    """
    Attributes:
        id: binding of the request that was really answered.
        status: one of `STATUSES`.
        text: the caption; empty unless ok.
        message: for a person, where the status is not ok.
        detail: what it took.
        likely: probability of each of the request's choices, out of 1 for all of them.
    """

    id: str
    status: str
    text: str
    message: str = ""
    detail: Detail = Detail()
    likely: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"caption status {self.status!r} is none of {', '.join(STATUSES)}")


@dataclass(frozen=True)
class Needs:
    """What one worker with a backend takes.

    Attributes:
        cpus, gpus: fractions are allowed.
        workers: at most so many at once: an engine or a server has a limit of its own.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 1024


class CaptionBackend(ABC):
    """Answers questions, several at a time and in any order.

    Attributes:
        model: id and revision.
        prompt: id of its built-in prompt, or None if the recipe's prompt is rendered for it.
        view: the pictures it wants.
        sampling: decoding parameters; part of every binding.
        again: those of a second try after an answer that is no caption: the same would give the
            same again. None where nothing is drawn, and no second answer could differ.
        limit: questions that it works on at once; with fewer open it has room. The stage reads
            further clips while there is room.
        needs: what one worker with it takes.
    """

    model: str
    prompt: str | None
    view: View
    sampling: dict[str, Any]
    again: dict[str, Any] | None = None
    limit: int = 1
    needs: Needs = Needs()

    def identity(self) -> dict[str, Any]:
        """All that can change an answer; goes into the stage's fingerprint."""
        view = list(astuple(self.view))
        drawn = {"again": self.again} if self.again else {}
        return {"model": self.model, "view": view, "sampling": self.sampling, **drawn}

    def open(self) -> None:  # noqa: B027 - nothing to load is the rule
        """Load models; called once per worker."""

    def close(self) -> None:  # noqa: B027
        """Free what `open` loaded, where the process goes on without it."""

    @abstractmethod
    def submit(self, requests: Sequence[CaptionRequest]) -> None:
        """Take questions; must not block on answers."""

    @abstractmethod
    def collect(self) -> list[CaptionAnswer]:
        """Wait for at least one answer while questions are open; then give all that are ready."""

    @abstractmethod
    def cancel(self) -> None:
        """Drop all open questions: no answer to one of them may be collected later."""


class DirectBackend(CaptionBackend):
    """A backend that answers at once, one by one."""

    def __init__(self) -> None:
        self._open: list[CaptionRequest] = []

    def submit(self, requests: Sequence[CaptionRequest]) -> None:
        self._open.extend(requests)

    def collect(self) -> list[CaptionAnswer]:
        requests, self._open = self._open, []
        return [self.reply(request) for request in requests]

    def cancel(self) -> None:
        self._open.clear()

    @abstractmethod
    def reply(self, request: CaptionRequest) -> CaptionAnswer:
        """Answer one question."""

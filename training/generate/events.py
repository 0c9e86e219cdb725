"""What a session remembers: an append-only log, and the film that follows from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.sequence import Latent

By = Literal["prompt", "model", "user"]


@dataclass(frozen=True)
class Slot:
    """One chunk and the words spoken just before it.

    Attributes:
        words: token ids.
        by: who chose them; "model" also where it chose to say nothing.
        latent: (C, h, w).
    """

    words: tuple[int, ...]
    by: By
    latent: Latent


@dataclass(frozen=True)
class Prompt:
    """Where a film begins.

    Attributes:
        meta: tokens of the meta-caption.
        start: latent of the start frame, (C, h, w).
        history: chunks that are given together with their words, a real film's for example.
        key: random draws hang on (seed, key): films of one seed get the same noise only when
            their keys are equal too.
    """

    meta: tuple[int, ...]
    start: Latent
    history: tuple[tuple[tuple[int, ...], Latent], ...] = ()
    key: str = ""


@dataclass(frozen=True)
class Token:
    """One word token before the next chunk."""

    id: int
    by: By


@dataclass(frozen=True)
class Begun:
    """BOF: the words before the next chunk are complete, its frames come next."""

    by: By


@dataclass(frozen=True)
class Chunk:
    """One finished chunk, (C, h, w); its words are the tokens since the last one."""

    latent: Latent

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chunk) and np.array_equal(self.latent, other.latent)

    def __hash__(self) -> int:
        return hash(self.latent.tobytes())


@dataclass(frozen=True)
class Said:
    """The user's words for chunk ``chunk`` (0-based), now or when the film gets there."""

    chunk: int
    words: tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """The film went back to where it had so many chunks, and no words since."""

    chunks: int


@dataclass(frozen=True)
class Reseeded:
    """Draws from here on hang on another seed."""

    seed: int


@dataclass(frozen=True)
class Ended:
    """The model said EOS."""


Event = Token | Begun | Chunk | Said | Cut | Reseeded | Ended


@dataclass(frozen=True)
class Film:
    """What a log amounts to.

    Attributes:
        slots: finished chunks with their words.
        pending: words since the last chunk.
        ended: whether EOS was reached.
    """

    prompt: Prompt
    slots: tuple[Slot, ...]
    pending: tuple[int, ...] = ()
    ended: bool = False

    @property
    def latent(self) -> Latent:
        """(C, 1 + chunks, h, w): what the codec decodes."""
        return np.stack([self.prompt.start, *(slot.latent for slot in self.slots)], axis=1)


def fold(prompt: Prompt, log: Iterable[Event]) -> Film:
    """The film that a log amounts to."""
    slots = [Slot(words, "prompt", latent) for words, latent in prompt.history]
    pending: list[int] = []
    by: By = "model"
    ended = False
    for event in log:
        match event:
            case Token(id=token):
                pending.append(token)
            case Begun():
                by = event.by
            case Chunk(latent=latent):
                slots.append(Slot(tuple(pending), by, latent))
                pending = []
            case Cut(chunks=chunks):
                slots, pending, ended = slots[:chunks], [], False
            case Ended():
                ended = True
    return Film(prompt, tuple(slots), tuple(pending), ended)

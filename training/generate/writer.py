"""One film while it is written: its place in the sequence, its log, and what is not yet cached."""

import copy

import numpy as np
import torch

from training.flow import CLEAN_TIME
from training.generate.events import (
    Begun,
    By,
    Chunk,
    Cut,
    Ended,
    Event,
    Prompt,
    Reseeded,
    Said,
    Token,
)
from training.sequence import (
    NO_TARGET,
    Block,
    Document,
    Draws,
    Element,
    Latent,
    Specials,
    TextRun,
)


class Writer:
    """Writes the tv2tv document of `training.sequence`, element by element, without noisy copies.

    Attributes:
        prompt, log: the log begins after the prompt.
        waiting: the user's words by chunk, until they are spoken.
        chunk: the chunk that comes next, from 0.
        place: order and position of the next element.
        spoken: words since the last chunk.
        framing: BOF stands, and the chunk itself comes next.
        ended: EOS was said.
        scores: of the token that comes next, (vocab,); the decoder's last answer.
    """

    def __init__(self, prompt: Prompt, seed: int, specials: Specials) -> None:
        self.prompt, self.log = prompt, list[Event]()
        self.waiting: dict[int, tuple[int, ...]] = {}
        self.chunk = self.place = self.spoken = 0
        self.framing = self.ended = False
        self.scores = torch.empty(0)
        self._specials, self._seed = specials, seed
        self._page: list[Element] = []
        self._gaps: list[int] = []  # place after the EOF before each chunk
        self._text("meta", prompt.meta)
        self._frame("start", prompt.start)
        for words, latent in prompt.history:
            self._text("words", words)
            self._frame("clean", latent)

    @property
    def begun(self) -> bool:
        """Whether anything stands after the last chunk's EOF."""
        return self.place > self._gaps[-1]

    def draws(self, use: str) -> np.random.Generator:
        """The generator of one use at one place of this film."""
        return Draws(self._seed, self.prompt.key, 0).generator(use)

    def noise(self) -> Latent:
        """Where the next chunk starts from, (C, h, w)."""
        shape = self.prompt.start.shape
        return self.draws(f"noise {self.chunk}").standard_normal(shape, dtype=np.float32)

    def words(self, tokens: tuple[int, ...], by: By) -> None:
        """Speak before the next chunk."""
        self.log += [Token(token, by) for token in tokens]
        self.spoken += len(tokens)
        self._text("words", tokens)

    def begin_chunk(self, by: By) -> None:
        """Say BOF."""
        self.log.append(Begun(by))
        self.framing = True
        self._text("bof", (self._specials.bof,))

    def end_chunk(self, latent: Latent) -> None:
        """Add the finished chunk and its EOF."""
        self.log.append(Chunk(latent))
        self.framing = False
        self._clean("clean", latent)

    def end(self) -> None:
        """Say EOS."""
        self.log.append(Ended())
        self.ended = True

    def say(self, at: int, words: tuple[int, ...]) -> bool:
        """Note the user's words for a chunk; gives whether the film went back for them."""
        self.log.append(Said(at, words))
        self.waiting[at] = words
        back = at < self.chunk or self.ended or (at == self.chunk and self.begun)
        if back:
            self._cut(min(at, self.chunk))
        return back

    def reseed(self, seed: int) -> None:
        """Let all further draws hang on another seed."""
        self.log.append(Reseeded(seed))
        self._seed = seed

    def take(self) -> Document | None:
        """What was written since the last call, for the decoder; None if nothing."""
        page, self._page = self._page, []
        return Document(self.prompt.key, tuple(page)) if page else None

    def copy(self) -> "Writer":
        """An independent film of equal state."""
        twin = copy.copy(self)
        twin.log, twin.waiting = list(self.log), dict(self.waiting)
        twin._page, twin._gaps = list(self._page), list(self._gaps)
        return twin

    def _cut(self, at: int) -> None:
        """Go back to right after the EOF before chunk ``at``."""
        self.log.append(Cut(at))
        self.place, self._gaps = self._gaps[at], self._gaps[: at + 1]
        self.chunk, self.spoken = at, 0
        self.framing = self.ended = False

    def _text(self, kind: str, tokens: tuple[int, ...]) -> None:
        if not tokens:
            return
        places = tuple(range(self.place, self.place + len(tokens)))
        self._page.append(TextRun(kind, tokens, (NO_TARGET,) * len(tokens), places, places))
        self.place += len(tokens)

    def _frame(self, kind: str, latent: Latent) -> None:
        """A given frame or chunk between its BOF and EOF."""
        self._text("bof", (self._specials.bof,))
        self._clean(kind, latent)

    def _clean(self, kind: str, latent: Latent) -> None:
        """A clean block and its EOF; the film now waits for the words of the next chunk."""
        self._page.append(
            Block(kind, len(self._gaps), 0, latent, None, CLEAN_TIME, False, self.place, self.place)
        )
        self.place += 1
        self._text("eof", (self._specials.eof,))
        self._gaps.append(self.place)
        self.chunk, self.spoken = len(self._gaps) - 1, 0

"""Films that are written word by word and chunk by chunk, and can be talked to.

A session is an append-only log of events, and what the film *is* follows from its log
(`training.generate.events`). All random numbers are keyed by (seed, place), so that a log can be
replayed exactly, and a branch that says other words at the same place starts from the same noise.

`Sessions` runs many films in lock step over one cache: text until every film has begun its chunk,
then all chunks together. `Session` is one film of its own.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.generate.decoder import Decoder
from training.generate.events import Event, Film, Prompt, Reseeded, Said, fold
from training.generate.sampling import draw
from training.generate.solver import euler
from training.generate.writer import Writer
from training.model import TV2TV


class Settings(BaseModel):
    """How to generate.

    Attributes:
        guidance: s in v_uncond + s (v_cond - v_uncond); 1 = off, at half the cost.
        guided_until: level t up to which guidance acts. Noise decides what happens, and there
            guidance makes words count; later it only paints it over, at twice the price
            (Kynkäänniemi et al. 2024; in the arena flawless chunks .93 instead of .88).
        steps: Euler steps per chunk.
        temperature: of the text; 0 takes the likeliest token.
        top_p: only the likeliest tokens that together hold this mass are drawn from.
        max_words: text tokens before a chunk; then BOF is forced.
        min_chunks: EOS is not allowed before so many.
        seed: of all noise and words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    guidance: Annotated[float, Field(ge=0)] = 2.0
    guided_until: Annotated[float, Field(ge=0, le=1)] = 0.5
    steps: Annotated[int, Field(ge=1)] = 6
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_words: Annotated[int, Field(ge=0)] = 64
    min_chunks: Annotated[int, Field(ge=0)] = 0
    seed: int = 0


class Sessions:
    """Many films at once; ``at`` and ``chunks`` count chunks from the start frame, from 0.

    Args:
        prompts: one per film; all latents have one shape.
    """

    def __init__(self, model: TV2TV, prompts: Sequence[Prompt], settings: Settings) -> None:
        if not prompts:
            raise ValueError("there is no prompt to begin a film from")
        self._specials, self._vocab = model.config.specials, model.config.vocab
        self._control = list(self._specials.model_dump().values())
        self._settings = settings
        channels, height, width = prompts[0].start.shape
        self._decoder = Decoder(
            model,
            len(prompts),
            (channels, height, width),
            settings.guidance,
            settings.guided_until,
        )
        self._films = [Writer(prompt, settings.seed, self._specials) for prompt in prompts]
        self._write()

    def __len__(self) -> int:
        return len(self._films)

    def film(self, index: int) -> Film:
        """What film ``index`` is by now."""
        return fold(self._films[index].prompt, self._films[index].log)

    def log(self, index: int) -> tuple[Event, ...]:
        """Everything that happened to film ``index`` since its prompt."""
        return tuple(self._films[index].log)

    def advance(self, chunks: int) -> None:
        """Go on until every film has ``chunks`` chunks in all, or has ended."""
        while self.step(chunks):
            pass

    def step(self, chunks: int) -> bool:
        """One token for every film that is choosing words, or else one chunk for all that wait.

        Returns:
            Whether there was anything left to do.
        """
        live = [each for each in self._films if not each.ended and each.chunk < chunks]
        speaking = [each for each in live if not each.framing]
        if speaking:
            for each in speaking:
                self._speak(each)
        elif live:
            self._act(live)
        self._write()
        return bool(live)

    def say(self, index: int, at: int, words: Sequence[int]) -> None:
        """Put words before chunk ``at`` in place of the model's; BOF follows them.

        If the film has come further it goes back to there and forgets all that came after, words of
        the user's included. If not, the words wait for it, also when it goes back once more; no EOS
        comes before them, and one that was said is taken back. No words at all means silence.

        Raises:
            ValueError: ``at`` is negative, or a word is no id of a word.
        """
        self._check(at, words)
        one = self._films[index]
        if one.say(at, tuple(words)):
            self._decoder.cut(index, one.place)

    def reseed(self, index: int, seed: int) -> None:
        """Let all further draws of a film hang on another seed."""
        self._films[index].reseed(seed)

    def fork(self) -> "Sessions":
        """Independent films that go on from here."""
        twin = copy.copy(self)
        twin._decoder = self._decoder.copy()
        twin._films = [each.copy() for each in self._films]
        return twin

    def _check(self, at: int, words: Sequence[int]) -> None:
        if at < 0:
            raise ValueError(f"chunk {at}: a film's chunks are counted from 0")
        wrong = [id for id in words if not 0 <= id < self._vocab or id in self._control]
        if wrong:
            raise ValueError(f"chunk {at}: {wrong} are no words of a vocabulary of {self._vocab}")

    def _speak(self, one: Writer) -> None:
        """Let a film choose its next token; a user's words come at once."""
        if one.chunk in one.waiting:
            one.words(one.waiting.pop(one.chunk), "user")
            one.begin_chunk("user")
            return
        token = self._choose(one)
        if token == self._specials.eos:
            one.end()
        elif token == self._specials.bof:
            one.begin_chunk("model")
        else:
            one.words((token,), "model")

    def _choose(self, one: Writer) -> int:
        """The model's next token: after EOF a word, BOF or EOS; after a word, a word or BOF."""
        settings = self._settings
        legal = torch.full((self._vocab,), one.spoken < settings.max_words)
        legal[self._control] = False
        legal[self._specials.bof] = True
        may_end = one.chunk >= settings.min_chunks and not one.waiting
        legal[self._specials.eos] = not one.spoken and may_end
        uniform = float(one.draws(f"word {one.place}").random())
        return draw(one.scores, legal, uniform, settings.temperature, settings.top_p)

    def _act(self, waiting: Sequence[Writer]) -> None:
        """Solve the next chunk of each film that waits for one."""
        noise = torch.from_numpy(np.stack([each.noise() for each in self._films]))
        flow = self._decoder.flow([each.place if each in waiting else None for each in self._films])
        solved = euler(flow, noise, self._settings.steps).numpy()
        for each, latent in zip(self._films, solved, strict=True):
            if each in waiting:
                each.end_chunk(latent.copy())

    def _write(self) -> None:
        """Send what the films have written to the decoder, and hand them its scores."""
        pages = [each.take() for each in self._films]
        if all(page is None for page in pages):
            return
        for each, page, scores in zip(self._films, pages, self._decoder.append(pages), strict=True):
            if page is not None:
                each.scores = scores


class Session:
    """One film, written and talked to; `stream` gives its events as they come."""

    def __init__(self, model: TV2TV, prompt: Prompt, settings: Settings) -> None:
        self._begin = (model, prompt, settings)
        self._inner = Sessions(model, [prompt], settings)

    @property
    def log(self) -> tuple[Event, ...]:
        """Everything that happened since the prompt."""
        return self._inner.log(0)

    @property
    def film(self) -> Film:
        """What the film is by now."""
        return self._inner.film(0)

    def stream(self, chunks: int) -> Iterator[Event]:
        """Events as they come, until the film has ``chunks`` chunks or ends.

        `say` may be called between two events; the stream goes on from there.
        """
        told = len(self.log)
        while self._inner.step(chunks):
            news, told = self.log[told:], len(self.log)
            yield from news

    def say(self, at: int, words: Sequence[int]) -> None:
        """See `Sessions.say`."""
        self._inner.say(0, at, words)

    def fork(self, seed: int | None = None) -> "Session":
        """An independent film that goes on from here, with another seed if one is given."""
        twin = copy.copy(self)
        twin._inner = self._inner.fork()
        if seed is not None:
            twin._inner.reseed(0, seed)
        return twin

    def replay(self) -> "Session":
        """Live through this session's log again, from the prompt; the new log equals the old.

        Raises:
            RuntimeError: it does not; the model or the machine is not what it was.
        """
        model, prompt, settings = self._begin
        again = Session(model, prompt, settings)
        no_end = len(prompt.history) + len(self.log) + 1
        for index, event in enumerate(self.log):
            if isinstance(event, Said):
                again.say(event.chunk, event.words)
            elif isinstance(event, Reseeded):
                again._inner.reseed(0, event.seed)
            while len(again.log) <= index and again._inner.step(no_end):
                pass
            if again.log[index : index + 1] != (event,):
                raise RuntimeError(f"replay parted from the log at event {index}: {event}")
        return again

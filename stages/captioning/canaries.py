"""Canaries: questions whose answers are known ride along with the real ones.

A canary shows one plain colour and asks which of a dozen names it has. What comes back tells
whether texts land where they belong: ids are checked anyway (`chains`), but a server or an engine
that hands the right ids the wrong texts would pass that check.

First every canary is asked *alone*, with no other question open, so that nothing can be mixed up:
that tells whether the model knows colours at all. One that does not makes canaries blind, which is
told and no more. Those that it knows then ride along with every batch. An answer has *moved* when a
canary was not told its colour while another question, a canary or a real one, was answered with
precisely that word: then captions land on wrong clips, and the run must stop.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from corpus.ids import unit_hash
from stages.captioning.backend import (
    NOTHING,
    BindingError,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    Shown,
)
from stages.captioning.chains import Chain, Opening, converse

COLOURS = {
    "red": (220, 24, 24),
    "green": (24, 160, 40),
    "blue": (24, 48, 220),
    "yellow": (240, 220, 24),
    "black": (12, 12, 12),
    "white": (243, 243, 243),
}
NAMES = (*COLOURS, "orange", "purple", "pink", "brown", "grey", "cyan")
MAY_MISS = 1  # of the colours; a model that misses more does not see
LEAST = 2  # canaries with every batch: one has nobody to change places with
SIDE = 112  # pixels of a picture
TIMES = (0.0, 1.0)
UNHEARD = ("timeout", "error")  # statuses that say nothing about what a model sees
SPREAD = 10  # grey levels: no two canaries show the same bytes, so none is answered from a cache
PROMPT = (
    "These frames show one plain colour. Which of these names fits it best: {names}?\n"
    'Answer as JSON: {{"caption": "..."}}'
).format(names=", ".join(NAMES))
SCHEMA = {
    "type": "object",
    "properties": {"caption": {"type": "string", "enum": list(NAMES)}},
    "required": ["caption"],
    "additionalProperties": False,
}


@dataclass
class Flight:
    """The canaries of one batch.

    Attributes:
        answers: of canaries, as (colour, what was answered).
        heard: what real questions were answered, by word.
    """

    answers: list[tuple[str, str]] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)

    def hear(self, answer: CaptionAnswer) -> None:
        """Note the answer to a real question."""
        word = _word(answer.text)
        if word in COLOURS:
            self.heard[word] += 1

    def moved(self) -> list[str]:
        """Colours whose answer stands at another question."""
        missed = {colour for colour, said in self.answers if said != colour}
        elsewhere = {said for colour, said in self.answers if said != colour} | set(self.heard)
        return sorted(missed & elsewhere)


class Canaries:
    """The canaries of one worker.

    Args:
        share: canaries per clip; 0 for none at all.
    """

    def __init__(self, backend: CaptionBackend, share: float) -> None:
        self._backend = backend
        self._share = share
        self._made = 0
        self._known: list[str] = []  # colours that the model can name
        self.alone: dict[str, str] | None = None  # what it called each; None before it was asked
        self.asked = self.right = 0

    @property
    def sight(self) -> str:
        """``off``, ``unanswered``, ``sighted`` or ``blind``."""
        if not self._share:
            return "off"
        if self.alone is None:
            return "unanswered"
        return "sighted" if self._known else "blind"

    def told(self) -> dict[str, Any]:
        """For the run's log; counts begin anew."""
        found = {"sight": self.sight, "asked": self.asked, "right": self.right}
        self.asked = self.right = 0
        return {**found, "alone": self.alone} if self.sight == "blind" else found

    def mixed(self, flight: Flight, openings: Sequence[Opening]) -> list[Opening]:
        """Openings of clips with those of canaries spread among them.

        Raises:
            BindingError: answers to lone canaries are each other's.
        """
        if self._share and self.alone is None:
            self._ask_alone()
        if not self._known or not openings:
            return list(openings)
        number = max(LEAST, math.ceil(self._share * len(openings)))
        found: list[Opening] = []
        for place in range(number):
            found.append(self._opening(flight, self._known[place % len(self._known)]))
            share = slice(place * len(openings) // number, (place + 1) * len(openings) // number)
            found += openings[share]
        turn = number % len(self._known)
        self._known = self._known[turn:] + self._known[:turn]
        return found

    def check(self, flight: Flight) -> None:
        """Look at a batch that is done.

        Raises:
            BindingError: answers have moved.
        """
        self.asked += len(flight.answers)
        self.right += sum(colour == said for colour, said in flight.answers)
        if moved := flight.moved():
            raise BindingError(
                f"{self._backend.model} answers questions with each other's texts: the word for "
                f"{' and '.join(moved)} came back for another picture. Nothing of this batch is "
                "kept; mend the engine or server before captions land on wrong clips again."
            )

    def _opening(self, flight: Flight, colour: str) -> Opening:
        self._made += 1
        number = self._made

        def chain() -> Chain:
            answer = yield self._request(colour, number)
            if answer.status not in UNHEARD:
                flight.answers.append((colour, _word(answer.text)))

        return lambda: [chain()]

    def _ask_alone(self) -> None:
        """One canary after the other, so that no two are open at once."""
        flight = Flight()
        for colour in COLOURS:
            converse(self._backend, [self._opening(flight, colour)])
        if len(flight.answers) < len(COLOURS):
            return  # busy or down: the next batch asks again
        said = dict(flight.answers)
        self.alone, words = said, list(said.values())
        right = [colour for colour in COLOURS if said[colour] == colour]
        self._known = right if len(right) >= len(COLOURS) - MAY_MISS else []
        permuted = sorted(words) == sorted(COLOURS) and words != list(COLOURS)
        if permuted or words[1:] == list(COLOURS)[:-1]:
            names = ", ".join(f"{colour} is called {word}" for colour, word in said.items())
            raise BindingError(
                f"{self._backend.model} tells plain colours, but not theirs: {names}"
            )

    def _request(self, colour: str, number: int) -> CaptionRequest:
        return CaptionRequest(
            kind="clip",
            start=TIMES[0],
            end=TIMES[-1],
            shown=_picture(COLOURS[colour], number),
            before=NOTHING,
            previous=None,
            known=(),
            prompt=PROMPT,
            schema=SCHEMA,
            model=self._backend.model,
            sampling=self._backend.sampling,
        )


def _picture(colour: tuple[int, int, int], number: int) -> Shown:
    """Two frames of a plain colour, a little different for every number."""
    shade = [
        level + round((2 * unit_hash("canary", number, channel) - 1) * SPREAD)
        for channel, level in enumerate(colour)
    ]
    frames = np.empty((len(TIMES), SIDE, SIDE, 3), np.uint8)
    frames[:] = np.clip(shade, 0, 255)
    return Shown(frames, TIMES)


def _word(text: str) -> str:
    """A one-word answer, as it is compared."""
    return text.strip().strip(".").casefold()

"""A model's own films of the arena: does it do what it says, and what it is told?

Nothing is real there but start frame and ground. What stands where, and so what is legal, is
read off the frames that the model made; flaws therefore add up, as they do for whoever watches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worlds.arena import Episode, Rectangle, State, background, legal
from worlds.arena_eval import legal_interventions
from worlds.arena_oracle import Judgement, Picture, judge, judge_film, see
from worlds.rates import Rate, share

OWN_CHUNKS = 12  # 3 s, and then one instruction


@dataclass(frozen=True)
class OwnFilm:
    """A film that a model made.

    Attributes:
        film: the episode whose start frame it was made from.
        frames: uint8 (1 + 4 (k + 1), 24, 24, 3): k chunks of its own, and one as it was told.
        words: the text before each of its k own chunks.
        order: what it was told, as `own_order` said.
    """

    film: Episode
    frames: Picture
    words: Sequence[str]
    order: str | None

    @property
    def ground(self) -> Picture:
        return background(self.film.states[0].blocks)


@dataclass(frozen=True)
class OwnFilms:
    """How a model did in films of its own. Rates are over chunks, the instructed one left out.

    Attributes:
        says_does: the chunk shows what its words said. Words that name no action are never done.
        legal: the words could be carried out where the sprite stood (over chunks that begin with a
            sprite in view).
        valid: flawless as *some* action; vanished: no sprite at the end of the chunk.
        obeyed: instructions, one per film after `OWN_CHUNKS`. Where no sprite is left to instruct,
            nothing is obeyed.
    """

    says_does: Rate
    legal: Rate
    valid: Rate
    vanished: Rate
    obeyed: Rate


def own_order(film: Episode, frames: Picture, seed: int) -> str | None:
    """What to order next in a film that a model made; None when no sprite stands there.

    Args:
        film: the episode whose start frame it was made from.
        frames: uint8 (1 + 4 k, 24, 24, 3), k of at least 1.
        seed: of the choice, uniform over what is legal there and not what was done last.
    """
    ground = background(film.states[0].blocks)
    state = see(frames[-1], ground)
    if state is None:
        return None
    candidates = legal_interventions(state, judge(frames[-5], frames[-4:], ground).action)
    generator = np.random.default_rng((seed, film.seed, len(frames)))
    return candidates[int(generator.integers(len(candidates)))]


def score_own(films: Sequence[OwnFilm]) -> OwnFilms:
    """Judge films that a model made."""
    judged = [(one, judge_film(one.frames, one.ground)) for one in films]
    return OwnFilms(
        says_does=share(
            [
                [j.action == word for j, word in zip(js[:-1], one.words, strict=True)]
                for one, js in judged
            ]
        ),
        legal=share([_legal(one, js) for one, js in judged]),
        valid=share([[j.valid for j in js[:-1]] for _, js in judged]),
        vanished=share([[j.vanished for j in js[:-1]] for _, js in judged]),
        obeyed=share(
            [[one.order is not None and js[-1].action == one.order] for one, js in judged]
        ),
    )


def _legal(one: OwnFilm, judged: Sequence[Judgement]) -> list[bool]:
    """Whether each word could be carried out, where that can be said."""
    start = one.film.states[0]
    states = [start, *(_state(j, start.blocks) for j in judged)]
    return [
        word in legal(state)
        for word, state in zip(one.words, states, strict=False)
        if state is not None
    ]


def _state(after: Judgement, blocks: tuple[Rectangle, ...]) -> State | None:
    """What stands at the end of a chunk."""
    if after.position is None or after.colour is None:
        return None
    return State(*after.position, after.colour, blocks)

"""What arena numbers are made of: interventions, chance, ceilings. Pure functions.

The measure is ``iv_real(k)``: everything before chunk k is real; at chunk k a word is put in that
the player did not plan, uniform over what is legal there minus its previous action; the oracle says
from the last real frame whether the chunk obeys. Whoever owns a model renders chunk k of each
`Intervention` and hands the frames to `score`; the rest is here.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from corpus.codecs import Codec, psnr
from worlds.arena import ACTIONS, Episode, State, background, episode, legal, policy, step
from worlds.arena_oracle import Judgement, Picture, judge, judge_film
from worlds.rates import Rate, share

CHUNKS_ASKED = (2, 4, 8, 12)


@dataclass(frozen=True)
class Intervention:
    """One order given in the middle of a real episode.

    Attributes:
        episode: the real episode; its frames up to 4 k and words up to k are the prefix.
        chunk: k, the chunk that must obey.
        word: the order.
        candidates: what it was drawn from, uniformly.
        own_chance: how likely the episode's own player is to do ``word`` here by itself.
    """

    episode: Episode
    chunk: int
    word: str
    candidates: tuple[str, ...]
    own_chance: float

    @property
    def state(self) -> State:
        """What stands at the start of the chunk."""
        return self.episode.states[self.chunk]

    @property
    def prefix(self) -> Picture:
        """The real frames before the chunk: uint8 (1 + 4 k, 24, 24, 3)."""
        return self.episode.frames[: 1 + 4 * self.chunk]

    def truth(self) -> Picture:
        """The exact frames of the ordered chunk: uint8 (4, 24, 24, 3)."""
        return step(self.state, self.word)[1]


@dataclass(frozen=True)
class Chance:
    """What can be had without reading the word.

    Attributes:
        own: a model that copies the player perfectly and is deaf to the word ("T2V").
        blind: the most that any deaf model can expect, since the word is uniform over the
            candidates: the mean of 1 / candidates. An honest claim of obedience clears this one.
    """

    own: float
    blind: float


@dataclass(frozen=True)
class Score:
    """How rendered chunks did on their interventions; accuracy never stands without validity.

    Attributes:
        obeyed: the oracle saw the ordered action.
        strict: ... and every frame of it was flawless.
        valid: flawless as *some* action: the quality that needs no text.
        vanished: no sprite at the end of the chunk; counts as not obeyed.
        cf_psnr: mean PSNR in dB against the exact frames of the ordered word. It is kind to a
            sprite that dissolves; it never stands alone.
        per_action, per_chunk: `obeyed` by ordered word, in the order of ``arena.ACTIONS``, and
            by k, ascending.
    """

    obeyed: Rate
    strict: Rate
    valid: Rate
    vanished: Rate
    cf_psnr: float
    per_action: dict[str, Rate]
    per_chunk: dict[int, Rate]


@dataclass(frozen=True)
class Oracle:
    """How often the oracle reads the true action off films.

    Attributes:
        real: exact frames; no model's number can be trusted further.
        coded: ... through the codec.
        shuffled: frames in random order; what it "reads" where nothing is done on purpose.
    """

    real: Rate
    coded: Rate
    shuffled: Rate


def legal_interventions(state: State, previous: str | None) -> tuple[str, ...]:
    """The words that may be ordered here: legal, and not what was being done."""
    return tuple(action for action in legal(state) if action != previous)


def draw_interventions(
    seeds: Iterable[int], chunks: Sequence[int] = CHUNKS_ASKED, seed: int = 0
) -> tuple[Intervention, ...]:
    """One intervention per episode seed and chunk; the same for the same arguments.

    Args:
        seeds: of episodes that no training film holds: ``arena.HELD_OUT_SEED`` and up.
        chunks: which chunks obey, at least 1 (chunk 0 has no previous action).
        seed: of the choice of words.
    """
    return tuple(
        _intervention(whole, chunk, seed)
        for whole in (episode(number, max(chunks) + 1) for number in seeds)
        for chunk in chunks
    )


def verdict(order: Intervention, chunk: Picture) -> Judgement:
    """The oracle's word on rendered frames, uint8 (4, 24, 24, 3), from the last real frame."""
    return judge(order.prefix[-1], chunk)


def chance(orders: Sequence[Intervention]) -> Chance:
    """What a deaf model scores on these interventions."""
    own = float(np.mean([order.own_chance for order in orders]))
    return Chance(own, float(np.mean([1 / len(order.candidates) for order in orders])))


def score(orders: Sequence[Intervention], chunks: Sequence[Picture]) -> Score:
    """Judge the rendered chunk of every intervention, each uint8 (4, 24, 24, 3)."""
    pairs = list(zip(orders, chunks, strict=True))
    seen = [(order, verdict(order, chunk)) for order, chunk in pairs]
    obeyed = [(order, one.action == order.word) for order, one in seen]
    words, places = {order.word for order in orders}, {order.chunk for order in orders}
    return Score(
        obeyed=_share(obeyed),
        strict=_share((order, one.strict(order.word)) for order, one in seen),
        valid=_share((order, one.valid) for order, one in seen),
        vanished=_share((order, one.vanished) for order, one in seen),
        cf_psnr=float(np.mean([psnr(chunk, order.truth()) for order, chunk in pairs])),
        per_action={
            word: _share(pair for pair in obeyed if pair[0].word == word)
            for word in ACTIONS
            if word in words
        },
        per_chunk={
            k: _share(pair for pair in obeyed if pair[0].chunk == k) for k in sorted(places)
        },
    )


def codec_ceiling(orders: Sequence[Intervention], codec: Codec) -> Score:
    """The best score that codec and oracle leave: the exact frames, encoded and decoded."""
    return score(orders, [_round_trip(order, codec) for order in orders])


def oracle_accuracy(films: Sequence[Episode], codec: Codec) -> Oracle:
    """How far the oracle itself can be trusted."""
    return Oracle(film_accuracy(films), film_accuracy(films, codec), shuffled_accuracy(films))


def film_accuracy(films: Sequence[Episode], codec: Codec | None = None) -> Rate:
    """How often the oracle reads the true action off whole films, through a codec if given."""
    shown = [film.frames for film in films]
    if codec is not None:
        shown = [codec.decode(codec.encode(frames)) for frames in shown]
    return _read(films, shown)


def shuffled_accuracy(films: Sequence[Episode], seed: int = 0) -> Rate:
    """The oracle on films whose frames after the first are in random order: its lower bound."""
    generator = np.random.default_rng(seed)
    return _read(
        films,
        [
            np.concatenate([film.frames[:1], generator.permutation(film.frames[1:])])
            for film in films
        ],
    )


def _read(films: Sequence[Episode], shown: Sequence[Picture]) -> Rate:
    """How often the oracle reads a film's true action off the frames shown."""
    judged = [
        judge_film(frames, background(film.states[0].blocks))
        for film, frames in zip(films, shown, strict=True)
    ]
    return share(
        [
            [one.action == action for one, action in zip(each, film.actions, strict=True)]
            for each, film in zip(judged, films, strict=True)
        ]
    )


def _share(hits: Iterable[tuple[Intervention, bool]]) -> Rate:
    """The share of hits, told by episode."""
    films: dict[int, list[bool]] = defaultdict(list)
    for order, hit in hits:
        films[order.episode.seed].append(hit)
    return share(list(films.values()))


def _intervention(film: Episode, chunk: int, seed: int) -> Intervention:
    state, previous = film.states[chunk], film.actions[chunk - 1]
    candidates = legal_interventions(state, previous)
    generator = np.random.default_rng((seed, film.seed, chunk))
    word = candidates[int(generator.integers(len(candidates)))]
    return Intervention(film, chunk, word, candidates, policy(state, previous, film.style)[word])


def _round_trip(order: Intervention, codec: Codec) -> Picture:
    whole = np.concatenate([order.prefix, order.truth()])
    return codec.decode(codec.encode(whole))[-4:]

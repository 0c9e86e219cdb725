"""What arena numbers are made of: interventions, chance, ceilings, intervals. Pure functions.

Spec "Exact metrics", ``iv_real(k)``: everything before chunk k is real; at chunk k a word is put in
that the player did not plan, uniform over what is legal there minus its previous action; the oracle
says from the last real frame whether the chunk obeys. Whoever owns a model renders chunk k of each
`Intervention` and hands the frames to `score`; the rest is here.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from corpus.codecs import Codec, psnr
from worlds.arena import ACTIONS, Episode, State, background, episode, legal, policy, step
from worlds.arena_oracle import Judgement, Picture, judge, judge_film

CHUNKS_ASKED = (2, 4, 8, 12)
Z95 = 1.959964


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
class Rate:
    """A share with its interval.

    Attributes:
        low, high: 95 % interval.
    """

    successes: int
    n: int
    rate: float
    low: float
    high: float


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
        obeyed: the oracle saw the ordered action; interval by bootstrap over episodes.
        strict: ... and every frame of it was flawless.
        valid: flawless as *some* action: the quality that needs no text.
        vanished: no sprite at the end of the chunk; counts as not obeyed.
        per_action: `obeyed` by ordered word, Wilson intervals, in the order of ``arena.ACTIONS``.
    """

    obeyed: Rate
    strict: Rate
    valid: Rate
    vanished: Rate
    per_action: dict[str, Rate]


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
    return judge(order.prefix[-1], chunk, background(order.state.blocks))


def cf_psnr(order: Intervention, chunk: Picture) -> float:
    """Counterfactual PSNR in dB: rendered frames against the exact ones of the ordered word."""
    return psnr(chunk, order.truth())


def chance(orders: Sequence[Intervention]) -> Chance:
    """What a deaf model scores on these interventions."""
    own = float(np.mean([order.own_chance for order in orders]))
    return Chance(own, float(np.mean([1 / len(order.candidates) for order in orders])))


def score(orders: Sequence[Intervention], chunks: Iterable[Picture]) -> Score:
    """Judge the rendered chunk of every intervention, each uint8 (4, 24, 24, 3)."""
    seen = [verdict(order, chunk) for order, chunk in zip(orders, chunks, strict=True)]
    hits = [one.action == order.word for order, one in zip(orders, seen, strict=True)]
    by_episode: dict[int, list[bool]] = defaultdict(list)
    by_word: dict[str, list[bool]] = defaultdict(list)
    for order, hit in zip(orders, hits, strict=True):
        by_episode[order.episode.seed].append(hit)
        by_word[order.word].append(hit)
    strict = [one.strict(order.word) for order, one in zip(orders, seen, strict=True)]
    return Score(
        obeyed=episode_bootstrap(list(by_episode.values())),
        strict=_share(strict),
        valid=_share([one.valid for one in seen]),
        vanished=_share([one.vanished for one in seen]),
        per_action={word: _share(by_word[word]) for word in ACTIONS if word in by_word},
    )


def codec_ceiling(orders: Sequence[Intervention], codec: Codec) -> Score:
    """The best score that codec and oracle leave: the exact frames, encoded and decoded."""
    return score(orders, (_round_trip(order, codec) for order in orders))


def film_accuracy(episodes: Iterable[Episode], codec: Codec | None = None) -> Rate:
    """How often the oracle reads the true action off whole films, through a codec if given."""
    return _share(
        [
            judgement.action == action
            for film in episodes
            for action, judgement in zip(film.actions, _judged(film, codec), strict=True)
        ]
    )


def shuffled_accuracy(episodes: Iterable[Episode], seed: int = 0) -> Rate:
    """The oracle on films whose frames after the first are in random order: its lower bound."""
    generator = np.random.default_rng(seed)
    right: list[bool] = []
    for film in episodes:
        frames = film.frames.copy()
        frames[1:] = generator.permutation(frames[1:])
        judged = judge_film(frames, background(film.states[0].blocks))
        right += [one.action == action for action, one in zip(film.actions, judged, strict=True)]
    return _share(right)


def policy_entropy(episodes: Iterable[Episode]) -> float:
    """Mean entropy in nats of the player's choice: no model of its words can do better."""
    entropies = [
        -sum(p * math.log(p) for p in policy(state, previous, film.style).values())
        for film in episodes
        for state, previous in zip(film.states, (None, *film.actions[:-1]), strict=False)
    ]
    return float(np.mean(entropies))


def wilson_interval(successes: int, n: int, z: float = Z95) -> Rate:
    """Wilson's score interval of a share; (0, 1) when nothing was tried."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Rate(0, 0, math.nan, 0.0, 1.0)
    p, spread = successes / n, z * z / n
    middle = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Rate(successes, n, p, low, high)


def episode_bootstrap(outcomes: Sequence[Sequence[bool]], draws: int = 2000, seed: int = 0) -> Rate:
    """A share whose 95 % interval knows that tries within one episode hang together.

    Where all tries agree, resampling knows no doubt; the interval is then Wilson's over episodes.

    Args:
        outcomes: per episode the outcomes of its tries; at least one try in all.
        draws: resamples of whole episodes.
    """
    wins = np.array([sum(tries) for tries in outcomes])
    tries = np.array([len(tries) for tries in outcomes])
    if not tries.sum():
        raise ValueError("episode_bootstrap: no tries")
    picks = np.random.default_rng(seed).integers(len(wins), size=(draws, len(wins)))
    shares = wins[picks].sum(1) / np.maximum(tries[picks].sum(1), 1)
    low, high = np.quantile(shares, [0.025, 0.975]).tolist()
    won, tried = int(wins.sum()), int(tries.sum())
    if won in (0, tried):
        sure = wilson_interval(len(wins) if won else 0, len(wins))
        low, high = sure.low, sure.high
    return Rate(won, tried, won / tried, low, high)


def _share(hits: Sequence[bool]) -> Rate:
    return wilson_interval(sum(hits), len(hits))


def _intervention(film: Episode, chunk: int, seed: int) -> Intervention:
    state, previous = film.states[chunk], film.actions[chunk - 1]
    candidates = legal_interventions(state, previous)
    generator = np.random.default_rng((seed, film.seed, chunk))
    word = candidates[int(generator.integers(len(candidates)))]
    return Intervention(film, chunk, word, candidates, policy(state, previous, film.style)[word])


def _round_trip(order: Intervention, codec: Codec) -> Picture:
    whole = np.concatenate([order.prefix, order.truth()])
    return codec.decode(codec.encode(whole))[-4:]


def _judged(film: Episode, codec: Codec | None) -> tuple[Judgement, ...]:
    frames = film.frames if codec is None else codec.decode(codec.encode(film.frames))
    return judge_film(frames, background(film.states[0].blocks))

"""Obedience in the arena: does the film do what it is told in the middle? Judged by the oracle.

The measure is ``iv_real(k)``: held-out episodes; everything before chunk k is real, frames
and words; the user's word for chunk k is uniform over what is legal there minus the previous
action; chunk k is generated, decoded and judged from the last real frame (`worlds.arena_eval`).
Beside it stands how the model does in films of its own (`worlds.arena_own`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.errors import UserError
from corpus.files import write_text
from corpus.policy import Policy
from corpus.shards import ShardSet
from corpus.views import bind
from training.film import settings_of
from training.generate import Prompt, Sessions, Settings
from training.run_folder import Run
from training.sequence import Latent
from worlds.arena import HELD_OUT_SEED, Episode, episode
from worlds.arena_eval import (
    CHUNKS_ASKED,
    Intervention,
    Oracle,
    chance,
    codec_ceiling,
    draw_interventions,
    oracle_accuracy,
    score,
)
from worlds.arena_oracle import Picture
from worlds.arena_own import OWN_CHUNKS, OwnFilm, OwnFilms, own_order, score_own
from worlds.rates import Rate
from worlds.verbalise import arena_words

T = TypeVar("T")
WORLD = "arena"
INSTRUCTIONS = 96  # unless others are asked for
TOGETHER = 48  # films in one batch
_NEVER_ENDS = 10**6


@dataclass(frozen=True)
class Obedience:
    """How often instructions were carried out, beside what the number must be held against.

    Attributes:
        rate, low, high: share obeyed with its 95 % interval (`worlds.rates`).
        n: instructions.
        chance: what the best deaf model can expect (the mean of 1 / candidates).
        chance_own: what a perfect deaf copy of the player scores.
        ceiling: the exact frames, through the codec and the oracle.
        valid: flawless as some action; strict: flawless as the ordered one; vanished: no sprite.
        cf_psnr: mean PSNR in dB against the exact frames of the ordered word; cf_psnr_ceiling:
            what the codec leaves of it.
        per_action, per_chunk: obeyed, by ordered word and by k.
        oracle: how well it reads these films where the truth is known.
        own: the same model in films of its own, one for two instructions; None for a run that
            does not read a word per chunk.
        settings: how chunks were generated, and the run's step.
    """

    rate: float
    low: float
    high: float
    n: int
    chance: float
    chance_own: float
    ceiling: float
    valid: Rate
    strict: Rate
    vanished: Rate
    cf_psnr: float
    cf_psnr_ceiling: float
    per_action: dict[str, Rate]
    per_chunk: dict[int, Rate]
    oracle: Oracle
    own: OwnFilms | None
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"obeyed: {self.rate:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.n} instructions "
            "that fell into real film",
            f"  held against: chance {self.chance:.3f}, the exact frames through the codec "
            f"{self.ceiling:.3f}",
            f"  as ordered and flawless {self.strict}, flawless {self.valid}, "
            f"no sprite left {self.vanished}",
        ]
        if self.own is not None:
            lines += [
                f"own films: {self.own.obeyed} of {self.own.obeyed.n} instructions obeyed, "
                f"each after {OWN_CHUNKS} chunks",
                f"  does what it says {self.own.says_does}, says what can be done {self.own.legal}",
                f"  flawless {self.own.valid}, no sprite left {self.own.vanished}",
            ]
        lines.append(
            f"oracle: reads {self.oracle.real.rate:.3f} of real film, {self.oracle.coded.rate:.3f} "
            f"through the codec, {self.oracle.shuffled.rate:.3f} of shuffled film"
        )
        return "\n".join(lines)


def measure(
    run: Run,
    shards: ShardSet,
    *,
    instructions: int,
    seed: int,
    guidance: float | None,
    steps: int | None,
    out: Path | None,
) -> Obedience:
    """See `training.api.evaluate`."""
    _check(run, shards, instructions, seed)
    settings = settings_of(run, seed, guidance, steps, min_chunks=_NEVER_ENDS)
    orders = draw(instructions, seed)
    own = None
    if run.config.captions.every in ("stored", 1):
        films = [episode(number) for number in _seeds(-(-instructions // 2), seed)]
        own = score_own(roll_out(run, films, settings))
    result = obedience(run, orders, render(run, orders, settings), own, settings)
    if out is not None:
        write_text(out, json.dumps(result.to_json(), indent=2) + "\n")
    return result


def draw(instructions: int, seed: int) -> tuple[Intervention, ...]:
    """So many interventions on held-out episodes; other seeds take other episodes."""
    seeds = _seeds(-(-instructions // len(CHUNKS_ASKED)), seed)
    return draw_interventions(seeds, seed=seed)[:instructions]


def _seeds(episodes: int, seed: int) -> range:
    """Of so many episodes that no training film holds."""
    first = HELD_OUT_SEED + seed * 1_000_000
    return range(first, first + episodes)


def obedience(
    run: Run,
    orders: Sequence[Intervention],
    chunks: Sequence[Picture],
    own: OwnFilms | None,
    settings: Settings,
) -> Obedience:
    """Judge rendered chunks, uint8 (4, 24, 24, 3) each, in the order of their interventions."""
    found, best, deaf = score(orders, chunks), codec_ceiling(orders, run.codec), chance(orders)
    films = {order.episode.seed: order.episode for order in orders}
    return Obedience(
        rate=found.obeyed.rate,
        low=found.obeyed.low,
        high=found.obeyed.high,
        n=found.obeyed.n,
        chance=deaf.blind,
        chance_own=deaf.own,
        ceiling=best.obeyed.rate,
        valid=found.valid,
        strict=found.strict,
        vanished=found.vanished,
        cf_psnr=found.cf_psnr,
        cf_psnr_ceiling=best.cf_psnr,
        per_action=found.per_action,
        per_chunk=found.per_chunk,
        oracle=oracle_accuracy(list(films.values()), run.codec),
        own=own,
        settings={**settings.model_dump(exclude={"min_chunks", "max_words"}), "step": run.step},
    )


def render(run: Run, orders: Sequence[Intervention], settings: Settings) -> list[Picture]:
    """The chunk that each intervention asks for, uint8 (4, 24, 24, 3) each."""
    chunks: dict[int, Picture] = {}
    numbered = sorted(enumerate(orders), key=lambda pair: pair[1].chunk)
    for k, group in groupby(numbered, key=lambda pair: pair[1].chunk):
        for part in _parts(list(group)):
            pictures = _together(run, [order for _, order in part], k, settings)
            chunks |= {i: picture for (i, _), picture in zip(part, pictures, strict=True)}
    return [chunks[i] for i in range(len(orders))]


def _together(
    run: Run, orders: Sequence[Intervention], k: int, settings: Settings
) -> list[Picture]:
    """Chunk k of several films at once."""
    with torch.inference_mode():
        sessions = Sessions(run.model, [_prompt(run, order) for order in orders], settings)
        for row, order in enumerate(orders):
            sessions.say(row, k, _tokens(run, order.word))
        sessions.advance(k + 1)
    return [
        run.codec.decode(sessions.film(row).latent)[run.clock.span_frames(k, k + 1)]
        for row in range(len(orders))
    ]


def roll_out(run: Run, films: Sequence[Episode], settings: Settings) -> list[OwnFilm]:
    """Films of the model's own from real start frames, each told something after `OWN_CHUNKS`."""
    return [each for part in _parts(films) for each in _own(run, part, settings)]


def _own(run: Run, films: Sequence[Episode], settings: Settings) -> Iterator[OwnFilm]:
    """Several films at once."""
    with torch.inference_mode():
        sessions = Sessions(run.model, [_start(run, film) for film in films], settings)
        sessions.advance(OWN_CHUNKS)
        orders = [
            own_order(film, run.codec.decode(sessions.film(row).latent), settings.seed)
            for row, film in enumerate(films)
        ]
        for row, order in enumerate(orders):
            if order is not None:
                sessions.say(row, OWN_CHUNKS, _tokens(run, order))
        sessions.advance(OWN_CHUNKS + 1)
    for row, (film, order) in enumerate(zip(films, orders, strict=True)):
        made = sessions.film(row)
        words = [run.tokenizer.decode(slot.words) for slot in made.slots[:OWN_CHUNKS]]
        yield OwnFilm(film, run.codec.decode(made.latent), words, order)


def _start(run: Run, film: Episode) -> Prompt:
    """A real start frame and its meta-caption."""
    start = _latent(run, film.frames[:1])[:, 0]
    return Prompt(tuple(run.tokenizer.encode(film.meta)), start, key=str(film.seed))


def _prompt(run: Run, order: Intervention) -> Prompt:
    """The real film up to the instruction, as the shards would hold it."""
    latent, words = _latent(run, order.prefix), _words(run, order)
    history: list[tuple[tuple[int, ...], Latent]] = [
        (words[i], latent[:, 1 + i]) for i in range(order.chunk)
    ]
    return Prompt(
        meta=tuple(run.tokenizer.encode(order.episode.meta)),
        start=latent[:, 0],
        history=tuple(history),
        key=f"{order.episode.seed}/{order.chunk}",
    )


def _latent(run: Run, frames: Picture) -> Latent:
    """As shards hold it."""
    return run.codec.encode(frames).astype(np.float16).astype(np.float32)


def _tokens(run: Run, word: str) -> tuple[int, ...]:
    return tuple(run.tokenizer.encode(arena_words([word])[0]))


def _words(run: Run, order: Intervention) -> list[tuple[int, ...]]:
    """Real words before each chunk of the prefix, at the density that the run was trained on.

    `_check` has seen to it that one chunk is what the run's shards store.
    """
    texts = arena_words(order.episode.actions[: order.chunk])
    segments = tuple(SegmentCaption(i, i + 1, Caption(text)) for i, text in enumerate(texts))
    captions = ClipCaptions((Caption(order.episode.meta),), segments)
    policy = Policy(every=run.config.captions.every, coarser=run.config.captions.coarser)
    words: list[tuple[int, ...]] = [()] * order.chunk
    for span in bind(policy, run.clock, [("", captions)]).spans(""):
        words[span.a] = tuple(run.tokenizer.encode(span.text))
    return words


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Runs of at most `TOGETHER`."""
    return (items[at : at + TOGETHER] for at in range(0, len(items), TOGETHER))


def _check(run: Run, shards: ShardSet, instructions: int, seed: int) -> None:
    if instructions < 1:
        raise UserError(f"instructions={instructions}: give at least 1")
    if seed < 0:  # below lie the episodes that films are recorded of
        raise UserError(f"seed={seed}: give at least 0")
    if shards.manifest["index"]["sha256"] != run.head.shards["index"]:
        raise UserError(f"{run.root} was trained on other shards than {shards.folder}: give those")
    for entry in shards.entries:
        world = shards.info(entry)["meta"].get("world")
        if world != WORLD:
            raise UserError(
                f"{shards.folder}: sample {entry.key} is no film of the arena: "
                "there is no oracle to judge its like"
            )
        widest = max(segment.b - segment.a for segment in entry.captions.segments)
        if widest != 1:
            raise UserError(
                f"{shards.folder}: sample {entry.key} has a text for {widest} chunks, and "
                "instructions are words for one: make shards with segments of one chunk "
                "(captions.every=N trains on coarser text all the same)"
            )

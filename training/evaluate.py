"""Obedience in the arena: does the film do what it is told in the middle? Judged by the oracle.

The measure is ``iv_real(k)``: held-out episodes; everything before chunk k is real, frames
and words; the user's word for chunk k is uniform over what is legal there minus the previous
action; chunk k is generated, decoded and judged from the last real frame (`worlds.arena_eval`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.errors import UserError
from corpus.files import write_text
from corpus.policy import Policy, bind
from corpus.shards import ShardSet
from training.film import settings_of
from training.generate import Prompt, Sessions, Settings
from training.run_folder import Run
from training.samples import check_clock
from training.sequence import Latent
from worlds.arena import HELD_OUT_SEED
from worlds.arena_eval import (
    CHUNKS_ASKED,
    Intervention,
    Score,
    chance,
    codec_ceiling,
    draw_interventions,
    score,
)
from worlds.arena_oracle import Picture
from worlds.rates import Rate
from worlds.verbalise import arena_words

WORLD = "arena"
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
        per_action, per_chunk: obeyed, by ordered word and by k.
        settings: guidance, solver steps and seed.
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
    per_action: dict[str, Rate]
    per_chunk: dict[int, Rate]
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"obeyed {self.rate:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.n} instructions; "
            f"chance {self.chance:.2f} (own {self.chance_own:.2f}), ceiling {self.ceiling:.3f}; "
            f"valid {self.valid.rate:.3f}, strict {self.strict.rate:.3f}, "
            f"vanished {self.vanished.rate:.3f}"
        )


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
    result = obedience(run, orders, render(run, orders, settings), settings)
    if out is not None:
        write_text(out, json.dumps(result.to_json(), indent=2) + "\n")
    return result


def draw(instructions: int, seed: int) -> tuple[Intervention, ...]:
    """So many interventions on held-out episodes; other seeds take other episodes."""
    episodes = -(-instructions // len(CHUNKS_ASKED))
    first = HELD_OUT_SEED + seed * 1_000_000
    return draw_interventions(range(first, first + episodes), seed=seed)[:instructions]


def obedience(
    run: Run, orders: Sequence[Intervention], chunks: Sequence[Picture], settings: Settings
) -> Obedience:
    """Judge rendered chunks, uint8 (4, 24, 24, 3) each, in the order of their interventions."""
    found: Score = score(orders, chunks)
    deaf = chance(orders)
    return Obedience(
        rate=found.obeyed.rate,
        low=found.obeyed.low,
        high=found.obeyed.high,
        n=found.obeyed.n,
        chance=deaf.blind,
        chance_own=deaf.own,
        ceiling=codec_ceiling(orders, run.codec).obeyed.rate,
        valid=found.valid,
        strict=found.strict,
        vanished=found.vanished,
        per_action=found.per_action,
        per_chunk=found.per_chunk,
        settings={**settings.model_dump(include={"guidance", "steps", "seed"}), "step": run.step},
    )


def render(run: Run, orders: Sequence[Intervention], settings: Settings) -> list[Picture]:
    """The chunk that each intervention asks for, uint8 (4, 24, 24, 3) each."""
    chunks: dict[int, Picture] = {}
    for k, numbered in _by_chunk([(order, i) for i, order in enumerate(orders)]).items():
        for at in range(0, len(numbered), TOGETHER):
            part = numbered[at : at + TOGETHER]
            for (_, i), picture in zip(
                part, _together(run, [order for order, _ in part], k, settings), strict=True
            ):
                chunks[i] = picture
    return [chunks[i] for i in range(len(orders))]


def _together(
    run: Run, orders: Sequence[Intervention], k: int, settings: Settings
) -> list[Picture]:
    """Chunk k of several films at once."""
    with torch.inference_mode():
        sessions = Sessions(run.model, [_prompt(run, order) for order in orders], settings)
        for row, order in enumerate(orders):
            sessions.say(row, k, run.tokenizer.encode(arena_words([order.word])[0]))
        sessions.advance(k + 1)
    films = [sessions.film(row) for row in range(len(orders))]
    return [run.codec.decode(film.latent)[run.clock.span_frames(k, k + 1)] for film in films]


def _prompt(run: Run, order: Intervention) -> Prompt:
    """The real film up to the instruction, as the shards would hold it."""
    latent = run.codec.encode(order.prefix).astype(np.float16).astype(np.float32)
    words = _words(run, order)
    history: list[tuple[tuple[int, ...], Latent]] = [
        (words[i], latent[:, 1 + i]) for i in range(order.chunk)
    ]
    return Prompt(
        meta=tuple(run.tokenizer.encode(order.episode.meta)),
        start=latent[:, 0],
        history=tuple(history),
        key=f"{order.episode.seed}/{order.chunk}",
    )


def _words(run: Run, order: Intervention) -> list[tuple[int, ...]]:
    """Real words before each chunk of the prefix, at the density that the run was trained on."""
    texts = arena_words(order.episode.actions[: order.chunk])
    segments = tuple(SegmentCaption(i, i + 1, Caption(text)) for i, text in enumerate(texts))
    captions = ClipCaptions((Caption(order.episode.meta),), segments)
    policy = Policy(every=run.config.captions.every, coarser=run.config.captions.coarser)
    words: list[tuple[int, ...]] = [()] * order.chunk
    for span in bind(policy, run.clock, [("", captions)]).spans(""):
        words[span.a] = tuple(run.tokenizer.encode(span.text))
    return words


def _by_chunk(pairs: Sequence[tuple[Intervention, Any]]) -> dict[int, list[tuple[Any, Any]]]:
    """Pairs of an intervention and something, by k, in order."""
    ordered = sorted(pairs, key=lambda pair: pair[0].chunk)
    return {k: list(group) for k, group in groupby(ordered, key=lambda pair: pair[0].chunk)}


def _check(run: Run, shards: ShardSet, instructions: int, seed: int) -> None:
    if instructions < 1:
        raise UserError(f"instructions={instructions}: give at least 1")
    if seed < 0:  # below lie the episodes that films are recorded of
        raise UserError(f"seed={seed}: give at least 0")
    check_clock(run.clock, shards.clock, str(run.root))
    if shards.codec != run.head.codec:
        raise UserError(f"{run.root} was trained on another codec than {shards.folder} has")
    worlds = {str(shards.info(entry)["meta"].get("world")) for entry in shards.entries[:1]}
    if worlds != {WORLD}:
        raise UserError(
            f"{shards.folder} is no corpus of the arena: there is no oracle to judge its films"
        )

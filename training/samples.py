"""Samples: what shards hold of one split, and the words that a caption policy shows, as tokens.

Made once per (shards, split, config, tokenizer) from the index alone; no tar is opened.

Rows come first and words second: of a clip that is longer than a row only as many segments are
looked at as a row has room for, and the policy is applied to these as if they were the clip. So
``every: clip`` tells what is shown and nothing that lies beyond, and shares of damaged captions are
exact among those that can be seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from corpus.clock import Clock
from corpus.codecs import check_fits, described
from corpus.errors import UserError
from corpus.policy import Policy
from corpus.shards import Entry, ShardSet
from corpus.views import BoundPolicy, bind, meta_captions
from training.config import RunConfig
from training.plan import LeftOut, LengthIndex, Window, left_out
from training.sequence import SequenceConfig, Span, cost, room
from training.tokenizer import Tokenizer


@dataclass(frozen=True)
class Text:
    """A sample's words as tokens: what the policy shows of as much as a row has room for."""

    meta: tuple[int, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Item:
    """One window, with all that a worker needs to build its document."""

    entry: Entry
    text: Text
    chunks: int
    whole: bool


class Samples:
    """The samples of one split with the words that a config shows, as tokens.

    Args:
        split: ``train`` or ``validation``.
        config: of which policy, sequence and rows matter.

    Raises:
        UserError: a latent that does not fit the codec, or a policy that the captions cannot fill.
    """

    def __init__(
        self, shards: ShardSet, split: str, config: RunConfig, tokenizer: Tokenizer
    ) -> None:
        check_latents(shards)
        self._config = config
        self.entries = tuple(entry for entry in shards.entries if entry.split == split)
        most = room(config.rows.clean, config.rows.noisy, config.sequence)
        seen = ((entry.key, entry.captions.within(most)) for entry in self.entries)
        baked = None if shards.policy is None else Policy.model_validate(shards.policy)
        bound = bind(config.captions, shards.clock, seen, baked)
        self.texts = tuple(_text(entry, bound, tokenizer) for entry in self.entries)

    @cached_property
    def left_out(self) -> LeftOut:
        """What no row shows of these samples; UserError where one does not fit at all."""
        return left_out(self.index, self._config.rows.slots)

    @cached_property
    def index(self) -> LengthIndex:
        """Lengths of all legal windows: prefixes that end where a span of text ends."""
        windows = [
            list(_windows(text, entry.chunks, self._config.sequence))
            for entry, text in zip(self.entries, self.texts, strict=True)
        ]
        names = {name: i for i, name in enumerate(sorted({e.shard for e in self.entries}))}
        return LengthIndex(
            keys=tuple(entry.key for entry in self.entries),
            shards=np.array([names[entry.shard] for entry in self.entries], dtype=np.int64),
            shapes=tuple(shape_of(entry) for entry in self.entries),
            clips=np.array([entry.chunks for entry in self.entries], dtype=np.int64),
            offsets=np.cumsum([0, *map(len, windows)]),
            chunks=np.array([m for each in windows for m, _ in each], dtype=np.int64),
            costs=np.array([slots for each in windows for _, slots in each], dtype=np.int64),
        )

    def item(self, window: Window) -> Item:
        return Item(
            self.entries[window.sample], self.texts[window.sample], window.chunks, window.whole
        )


def check_latents(shards: ShardSet) -> None:
    """Refuse latents that the codec of the shards, as this version knows it, did not make."""
    info = described(shards.codec)
    check_fits(info, shards.clock)
    for entry in shards.entries:
        if entry.latent_shape[0] != info.channels:
            raise UserError(
                f"{entry.shard}, sample {entry.key}: {entry.latent_shape[0]} latent channels, but "
                f"codec {info.id} has {info.channels}: make the shards again"
            )


def check_clock(found: Clock, expected: Clock, what: str) -> None:
    """UserError unless two clocks are one."""
    if found != expected:
        raise UserError(f"{what} has the clock {found.to_json()}, not {expected.to_json()}")


def meta_text(entry: Entry, policy: Policy) -> str:
    """The first meta-caption that is good enough for the policy; "" when there is none."""
    shown = meta_captions(policy, entry.captions)
    return shown[0].text if shown else ""


def _text(entry: Entry, bound: BoundPolicy, tokenizer: Tokenizer) -> Text:
    spans = bound.spans(entry.key)
    ids = tokenizer.encode_all([span.text for span in spans])
    return Text(
        meta=tuple(tokenizer.encode(meta_text(entry, bound.policy))),
        spans=tuple(
            Span(span.a, span.b, tuple(each)) for span, each in zip(spans, ids, strict=True)
        ),
    )


def _windows(
    text: Text, clip: int, config: SequenceConfig
) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """(chunks, slots of text, clean, noisy) of each legal window of a clip, shortest first."""
    ends = [span.b for span in text.spans] or [0]
    words = np.cumsum([len(span.tokens) for span in text.spans]) if text.spans else [0]
    for end, count in zip(ends, words, strict=True):
        slots = cost(len(text.meta), int(count), end, end == clip, config)
        yield end, (slots.text, slots.clean, slots.noisy)


def shape_of(entry: Entry) -> tuple[int, int, int]:
    """Shape of a sample's latent without time, (C, h, w)."""
    channels, _, height, width = entry.latent_shape
    return channels, height, width

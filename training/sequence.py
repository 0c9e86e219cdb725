"""From a sample to one interleaved document: which token stands where, and what is learned from it.

A *document* is a chronological list of elements: runs of text tokens, and blocks (one latent frame
each, in a clean or a noisy copy). Builders make documents; `training.rows` packs them. Everything
that the mask, RoPE and the losses need is explicit in the elements, so a new formulation is a new
builder and nothing else:

* ``order``: place in time, which the mask compares (`training.mask`); a chunk's copies share one.
* ``position``: id on the sequence axis of RoPE. In `tv2tv` it equals ``order``; formulations whose
  text stands elsewhere than where it belongs (think2v) set it apart.
* ``targets`` and ``Block.loss``: what is learned, apart from the kind of the element.
* ``kind``: an open set of names, for reading and reporting only; no code branches on it here.

The tv2tv document, k chunks (paper, section 3; at equal times text comes first)::

    meta... BOF [start] EOF  (words... BOF [noisy_i | clean_i] EOF) x k  EOS

The prefix ``meta... BOF [start]`` carries no loss. EOF is never sampled: it follows the chunk, and
its target is the next word, BOF or EOS. The loss on BOF sits on the token before it. EOS ends the
document only where the clip ends.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from corpus.codecs.base import Latent
from corpus.ids import canonical_json
from training.flow import CLEAN_TIME, interpolate

NO_TARGET = -1
Share = Annotated[float, Field(ge=0, le=1)]
# One name per builder. A new formulation also needs its way of writing in `training.generate`.
Formulation = Literal["tv2tv"]


class Specials(BaseModel):
    """Token ids with a role in the sequence; the tokenizer owns them, the model keeps a copy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pad: int
    drop: int
    bof: int
    eof: int
    eos: int


class SequenceConfig(BaseModel):
    """How samples become documents.

    Attributes:
        formulation: name of the builder.
        drop_text: probability that all interleaved text of a sample is dropped (for guidance).
        drop_span: probability, per span of text, that it alone is dropped.
        drop_meta: probability that the meta-caption is dropped.
        flip: probability, per chunk, that its clean copy is replaced by its noisy one.
        noisy_copies: noisy copies per chunk, each with its own noise and t.
        time_scale: t = sigmoid(time_scale * z), z ~ N(0, 1).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    formulation: Formulation = "tv2tv"
    drop_text: Share = 0.1
    drop_span: Share = 0.1
    drop_meta: Share = 0.1
    flip: Share = 0.1
    noisy_copies: Annotated[int, Field(ge=1)] = 1
    time_scale: Annotated[float, Field(ge=0)] = 1.4


@dataclass(frozen=True)
class Span:
    """Text that belongs to the chunks ``[a, b)``; it is spoken just before chunk a."""

    a: int
    b: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """What the loader knows of one window ``[0, m)`` of a clip.

    Attributes:
        key: sample key; all random draws hang on it.
        meta: tokens of the meta-caption; may be empty.
        spans: text of the window, ascending by ``a``, which is below m; chunks may be without.
        latent: (C, 1 + m, h, w), standardised; latent 0 is the start frame.
        complete: the window is the whole clip, so EOS follows.
    """

    key: str
    meta: tuple[int, ...]
    spans: tuple[Span, ...]
    latent: Latent
    complete: bool

    def __post_init__(self) -> None:
        starts = [span.a for span in self.spans]
        if starts != sorted(starts) or (starts and not 0 <= starts[0] <= starts[-1] < self.chunks):
            raise ValueError(
                f"sample {self.key}: spans start at {starts}, which are not ascending chunks of "
                f"[0, {self.chunks})"
            )

    @property
    def chunks(self) -> int:
        """m: chunks after the start frame."""
        return int(self.latent.shape[1]) - 1


@dataclass(frozen=True)
class Draws:
    """Random numbers of one sample in one epoch, keyed by use: the same on any worker and rank."""

    seed: int
    key: str
    epoch: int

    def generator(self, use: str) -> np.random.Generator:
        """A fresh generator for one use; asking twice gives the same numbers."""
        name = canonical_json(["draw", self.seed, self.key, self.epoch, use])
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
        return np.random.Generator(np.random.Philox(key=key))


@dataclass(frozen=True)
class TextRun:
    """Consecutive text tokens.

    Attributes:
        kind: "meta", "words", "bof", "eof", "eos", or whatever a builder adds.
        tokens: ids as the model sees them (`<drop>` where dropped).
        targets: per token the id that it must predict, or NO_TARGET.
        order, position: per token; see the module's text. Orders are unique in a document.
    """

    kind: str
    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    order: tuple[int, ...]
    position: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """One latent frame, in one copy.

    Attributes:
        kind: "start", "clean", "noisy", or whatever a builder adds.
        latent: index on the time axis of the sample's latent.
        copy: 0 for the copy that later tokens see, c >= 1 for the c-th noisy copy.
        clean: the data, (C, h, w).
        noise: (C, h, w), or None where the model is shown the data itself.
        t: the level shown, on the path from noise (0) to data (1).
        loss: whether the flow is learned here.
        order, position: see the module's text.
    """

    kind: str
    latent: int
    copy: int
    clean: Latent
    noise: Latent | None
    t: float
    loss: bool
    order: int
    position: int

    @property
    def shown(self) -> Latent:
        """What the model sees, (C, h, w)."""
        return self.clean if self.noise is None else interpolate(self.clean, self.noise, self.t)


Element = TextRun | Block


@dataclass(frozen=True)
class Document:
    """One sample as elements in chronological order; copies of a chunk stand noisy first."""

    key: str
    elements: tuple[Element, ...]

    @property
    def runs(self) -> tuple[TextRun, ...]:
        return tuple(each for each in self.elements if isinstance(each, TextRun))

    def blocks(self, *, lasting: bool) -> tuple[Block, ...]:
        """The blocks that later tokens see (copy 0), or the noisy copies."""
        blocks = (each for each in self.elements if isinstance(each, Block))
        return tuple(block for block in blocks if (block.copy == 0) == lasting)


@dataclass(frozen=True)
class Cost:
    """Slots that a document takes in the three parts of a row: tokens, blocks, blocks."""

    text: int
    clean: int
    noisy: int


Builder = Callable[[Sample, Draws, SequenceConfig, Specials], Document]


def build(sample: Sample, draws: Draws, config: SequenceConfig, specials: Specials) -> Document:
    """The document of a sample in the configured formulation."""
    return BUILDERS[config.formulation](sample, draws, config, specials)


def cost(meta: int, words: int, chunks: int, complete: bool, config: SequenceConfig) -> Cost:
    """Slots of a document, from lengths alone (the pack plan has no latents at hand).

    Args:
        meta: tokens of the meta-caption.
        words: tokens of all spans inside the window.
        chunks: m.
    """
    text = meta + words + 2 * (1 + chunks) + int(complete)
    return Cost(text=text, clean=1 + chunks, noisy=chunks * config.noisy_copies)


def room(clean: int, noisy: int, config: SequenceConfig) -> int:
    """Most chunks of one document that so many blocks hold; see `cost`."""
    return min(clean - 1, noisy // config.noisy_copies)


def tv2tv(sample: Sample, draws: Draws, config: SequenceConfig, specials: Specials) -> Document:
    """The paper's formulation; see the module's text."""
    words = _dropped_words(sample, draws, config, specials)
    copies = _Copies(sample, draws, config)
    writer = _Writer()
    writer.text("meta", _dropped_meta(sample, draws, config, specials))
    writer.text("bof", [_Token(specials.bof)])
    writer.blocks([copies.start(writer.place)])
    for chunk in range(sample.chunks):
        writer.text("eof", [_Token(specials.eof, learns=True)])
        for span, tokens in words:
            if span.a == chunk:
                writer.text("words", tokens)
        writer.text("bof", [_Token(specials.bof)])
        writer.blocks(copies.chunk(chunk, writer.place))
    writer.text("eof", [_Token(specials.eof, learns=sample.complete)])
    if sample.complete:
        writer.text("eos", [_Token(specials.eos)])
    return writer.document(sample.key)


BUILDERS: dict[Formulation, Builder] = {"tv2tv": tv2tv}


@dataclass(frozen=True)
class _Token:
    """A text token before it has a place.

    Attributes:
        learns: predicting the text token after it is part of the loss, unless that one is dropped.
        dropped: it stands in for dropped text: no loss on it, none at it.
    """

    id: int
    learns: bool = False
    dropped: bool = False


def _dropped_meta(
    sample: Sample, draws: Draws, config: SequenceConfig, specials: Specials
) -> list[_Token]:
    dropped = draws.generator("drop meta").random() < config.drop_meta
    return [_Token(specials.drop if dropped else id, dropped=dropped) for id in sample.meta]


def _dropped_words(
    sample: Sample, draws: Draws, config: SequenceConfig, specials: Specials
) -> list[tuple[Span, list[_Token]]]:
    """Tokens of each span; dropped text keeps its length, so positions stay."""
    everything = draws.generator("drop text").random() < config.drop_text
    single = draws.generator("drop span").random(len(sample.spans)) < config.drop_span
    return [
        (span, [_word(id, bool(everything or one), specials) for id in span.tokens])
        for span, one in zip(sample.spans, single, strict=True)
    ]


def _word(id: int, dropped: bool, specials: Specials) -> _Token:
    return _Token(specials.drop, dropped=True) if dropped else _Token(id, learns=True)


class _Copies:
    """Makes the blocks of a sample: all its draws of noise, t and flips."""

    def __init__(self, sample: Sample, draws: Draws, config: SequenceConfig) -> None:
        m, copies = sample.chunks, config.noisy_copies
        shape = (m, copies, *sample.latent[:, 0].shape)
        self._latent = sample.latent
        self._noise = draws.generator("noise").standard_normal(shape, dtype=np.float32)
        z = draws.generator("time").standard_normal((m, copies))
        self._t = 1.0 / (1.0 + np.exp(-config.time_scale * z))
        self._flip = draws.generator("flip").random(m) < config.flip

    def start(self, place: int) -> Block:
        """The start frame: clean, and not learned."""
        return Block("start", 0, 0, self._latent[:, 0], None, CLEAN_TIME, False, place, place)

    def chunk(self, chunk: int, place: int) -> list[Block]:
        """The noisy copies, then the clean one; a flipped clean copy shows the first noisy one."""
        clean, latent = self._latent[:, 1 + chunk], 1 + chunk
        blocks = [
            Block("noisy", latent, copy, clean, noise, float(t), True, place, place)
            for copy, (noise, t) in enumerate(
                zip(self._noise[chunk], self._t[chunk], strict=True), start=1
            )
        ]
        if self._flip[chunk]:
            last = replace(blocks[0], kind="clean", copy=0, loss=False)
        else:
            last = Block("clean", latent, 0, clean, None, CLEAN_TIME, False, place, place)
        return [*blocks, last]


class _Writer:
    """Gives each element its place: a text token and a whole chunk each take one."""

    def __init__(self) -> None:
        self.place = 0
        self._elements: list[tuple[str, list[_Token], int] | Block] = []

    def text(self, kind: str, tokens: list[_Token]) -> None:
        if tokens:
            self._elements.append((kind, tokens, self.place))
            self.place += len(tokens)

    def blocks(self, blocks: Iterable[Block]) -> None:
        """All copies of one latent frame."""
        self._elements.extend(blocks)
        self.place += 1

    def document(self, key: str) -> Document:
        tokens = [token for each in self._elements if isinstance(each, tuple) for token in each[1]]
        targets = iter([*map(_target, tokens, tokens[1:]), NO_TARGET])
        elements: list[Element] = []
        for each in self._elements:
            if isinstance(each, Block):
                elements.append(each)
                continue
            kind, run, first = each
            places = tuple(range(first, first + len(run)))
            ids = tuple(token.id for token in run)
            learned = tuple(next(targets) for _ in run)
            elements.append(TextRun(kind, ids, learned, places, places))
        return Document(key, tuple(elements))


def _target(token: _Token, following: _Token) -> int:
    """What a token must predict: nothing inside dropped text or right after it."""
    learned = token.learns and not token.dropped and not following.dropped
    return following.id if learned else NO_TARGET

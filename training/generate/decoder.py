"""The model over a cache: append what lasts, and evaluate the flow of a block that does not.

R films in lock step. With guidance each has two rows, the second being its *null* branch: the same
sequence with the interleaved text replaced by ``<drop>``, exactly as in training, and with its own
keys, clean chunks included.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from training.attention import bias
from training.flow import to_velocity
from training.generate.cache import Cache
from training.generate.solver import Velocity, guided
from training.model import TV2TV
from training.rows import PADDING, Budget, TokenMeta, block_positions, pack
from training.sequence import Block, Document, TextRun

SPARE = 256  # slots that a cache begins with; it grows by doubling


class Decoder:
    """See the module's text.

    Args:
        films: R.
        latent_shape: (C, h, w) of every block.
        guidance: scale s; 1 costs one branch only.
        guided_until: the level t from which on the flow is that of the conditional branch alone.
    """

    def __init__(
        self,
        model: TV2TV,
        films: int,
        latent_shape: tuple[int, int, int],
        guidance: float,
        guided_until: float,
    ) -> None:
        config = model.config
        self._model, self._films = model, films
        self._guidance, self._guided_until = guidance, guided_until
        self._shape = latent_shape
        self._grid = (latent_shape[1] // config.factor, latent_shape[2] // config.factor)
        rows = films * self.branches
        self._cache = Cache(config.layers, rows, config.heads, config.width // config.heads, SPARE)

    @property
    def branches(self) -> int:
        """Rows per film."""
        return 1 if self._guidance == 1 else 2

    @torch.no_grad()
    def append(self, documents: Sequence[Document | None]) -> Tensor:
        """Write what comes next in each film (None: nothing) and read the model's opinion.

        Returns:
            Scores of the token that follows each film's last text token here, (R, vocab); of no
            meaning where a film had no text.
        """
        given = [[] if each is None else [each] for each in documents]
        rows = given
        if self.branches == 2:
            drop = self._model.config.specials.drop
            rows = [*given, *([nulled(each, drop) for each in row] for row in given)]
        batch = pack(rows, _budget(given), self._shape, self._model.config.factor,
                     self._model.config.specials)  # fmt: skip
        video, _, _ = self._model.look(batch.shown, batch.shown_t)
        table = bias(*self._cache.meta(batch.meta), video.dtype)
        text, _ = self._model.trunk(
            self._model.embedding(batch.text), video, batch.position, table, self._cache
        )
        self._cache.keep(batch.meta.order.shape[1])
        last = [sum(len(run.tokens) for each in row for run in each.runs) - 1 for row in given]
        return self._model.next_token(text[range(self._films), last])

    @torch.no_grad()
    def flow(self, places: Sequence[int | None]) -> Velocity:
        """The velocity of one new block per film, at these places (None: no block there).

        The function maps (x (R, C, h, w), t) to v of the same shape and leaves no trace in the
        cache; it holds until the next `append` or `cut`.
        """
        size = self._grid[0] * self._grid[1]
        place = torch.tensor([PADDING if each is None else each for each in places])
        place = place.repeat(self.branches)[:, None].expand(-1, size)
        absent = place == PADDING
        meta = TokenMeta(
            document=torch.where(absent, PADDING, 0),
            order=place,
            copy=torch.where(absent, PADDING, 1),
        )
        spots = torch.from_numpy(block_positions(0, self._grid)).repeat(len(place), 1, 1)
        spots[:, :, 0] += place
        words = self._model.embedding.weight.new_zeros(len(place), 0, self._model.config.width)
        table = bias(*self._cache.meta(meta), words.dtype)

        @torch.no_grad()
        def velocity(x: Tensor, t: float) -> Tensor:
            branches = self.branches if t < self._guided_until else 1
            rows = branches * self._films  # the conditional ones come first
            shown = x.repeat(branches, 1, 1, 1)
            video, skips, time = self._model.look(shown[:, None], torch.full((rows, 1), t))
            _, video = self._model.trunk(
                words[:rows], video, spots[:rows], table[:rows], self._cache
            )
            output = self._model.upsampler(video, skips, time)
            v = to_velocity(output, shown, t, self._model.config.predict)
            if branches == 1:
                return v
            return guided(v[: self._films], v[self._films :], self._guidance)

        return velocity

    def cut(self, film: int, place: int) -> None:
        """Forget everything of a film from this place on."""
        for branch in range(self.branches):
            self._cache.cut(film + branch * self._films, place)

    def copy(self) -> "Decoder":
        """An independent decoder of equal state over the same model."""
        twin = copy.copy(self)
        twin._cache = self._cache.copy()
        return twin


def nulled(document: Document, drop: int) -> Document:
    """A document as the null branch reads it: interleaved text dropped, control tokens kept."""
    return replace(
        document,
        elements=tuple(
            replace(each, tokens=(drop,) * len(each.tokens))
            if isinstance(each, TextRun) and each.kind == "words"
            else each
            for each in document.elements
        ),
    )


def _budget(rows: Sequence[Sequence[Document]]) -> Budget:
    """The least that holds these rows."""
    text = [sum(len(run.tokens) for each in row for run in each.runs) for row in rows]
    blocks = [sum(isinstance(x, Block) for each in row for x in each.elements) for row in rows]
    return Budget(text=max(text), clean=max(blocks), noisy=0)

"""The arena's oracle: what did the sprite really do? Read from pixels alone.

Two steps: match the 4 x 4 template of each colour at each place of each frame, then take
the nearest of the eight trajectories, counted from where the sprite stood in the last frame before
the chunk.

Template match. Let ``g`` be the bare ground and ``c`` a colour. A place whose pixels are
``g + a (c - g)`` shows the sprite with opacity ``a``, and replacing ground by sprite lowers the
squared error by ``(2a - 1) |c - g|^2``. The best place and colour is the one that lowers it most;
the sprite counts as **seen** only if it lowers it at all, that is at an opacity above one half.

A sprite that has dissolved must never pass for one that stays: a chunk that does not end with a
sprite in view, or that did not begin with one, has no action (``None``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from worlds.arena import (
    ACTIONS,
    BLOCK,
    CELL,
    CLOCK,
    COLOUR_WORDS,
    COLOURS,
    GROUND,
    SIZE,
    SPRITE,
    TRAJECTORIES,
    Rectangle,
    State,
    background,
    legal,
    next_colour,
)

Picture = NDArray[np.uint8]
_PALETTE = np.array([COLOURS[word] for word in COLOUR_WORDS], np.float32)

# How far, in pixels, a frame can be from a trajectory at most; also what a missing sprite, one too
# many, or a wrong colour costs: as much as a whole chunk's walk.
FAR = 4
STRICT_PIXELS = 1


@dataclass(frozen=True)
class Sight:
    """The sprite as one frame shows it; None in `x`, `y`, `colour` when it is not seen.

    Attributes:
        sprites: how many sprites are seen, counted up to 2.
    """

    x: int | None
    y: int | None
    colour: str | None
    sprites: int


@dataclass(frozen=True)
class Judgement:
    """What a chunk shows.

    Attributes:
        action: the nearest trajectory's, or None when the sprite is not there at the start or at
            the end of the chunk (it vanished).
        valid: all four frames within 1 px of that trajectory, in the right colour, exactly one
            sprite (none where blink hides it).
        legal: the action is legal from where the sprite stood; False without an action.
        distance: of the nearest trajectory, summed over the frames, in pixels.
        sights: the four frames.
    """

    action: str | None
    valid: bool
    legal: bool
    distance: int
    sights: tuple[Sight, ...]

    @property
    def vanished(self) -> bool:
        return self.action is None

    @property
    def position(self) -> tuple[int, int] | None:
        """(x, y) in the chunk's last frame."""
        last = self.sights[-1]
        return None if last.x is None or last.y is None else (last.x, last.y)

    @property
    def colour(self) -> str | None:
        """The colour word in the chunk's last frame."""
        return self.sights[-1].colour

    def strict(self, word: str) -> bool:
        """The chunk does what the word says, and does it flawlessly."""
        return self.valid and self.action == word


def read_blocks(picture: Picture) -> tuple[Rectangle, ...]:
    """The blocked cells of the lattice, as rectangles of one cell each.

    A cell that the sprite touches is never blocked, so the majority colour of a cell decides. The
    rectangles differ from those of the true `State`, their picture does not.
    """
    known = np.concatenate([[GROUND, BLOCK], _PALETTE]).astype(np.float32)
    distances = ((picture[..., None, :].astype(np.float32) - known) ** 2).sum(-1)
    is_block = distances.argmin(-1) == 1
    cells = is_block.reshape(SIZE // CELL, CELL, SIZE // CELL, CELL).mean((1, 3)) > 0.5
    return tuple((int(x) * CELL, int(y) * CELL, CELL, CELL) for y, x in np.argwhere(cells))


def look(pictures: Picture, ground: Picture) -> tuple[Sight, ...]:
    """Find the sprite in each picture.

    Args:
        pictures: uint8 (T, 24, 24, 3).
        ground: uint8 (24, 24, 3), the same world without a sprite.
    """
    scores_TNYX = _match(pictures, ground)
    best = _best(scores_TNYX)
    rest = pictures.copy()
    for frame, (score, _, y, x) in zip(rest, best, strict=True):
        if score > 0:
            frame[y : y + SPRITE, x : x + SPRITE] = ground[y : y + SPRITE, x : x + SPRITE]
    second = _best(_match(rest, ground))
    return tuple(
        Sight(x, y, COLOUR_WORDS[n], 1 + (again > 0)) if score > 0 else Sight(None, None, None, 0)
        for (score, n, y, x), (again, *_) in zip(best, second, strict=True)
    )


def see(picture: Picture, ground: Picture | None = None) -> State | None:
    """The state that a picture shows; None when no sprite is seen.

    Args:
        ground: as in `look`; read from the picture itself when not given.
    """
    blocks = read_blocks(picture if ground is None else ground)
    (sight,) = look(picture[None], background(blocks) if ground is None else ground)
    if sight.x is None or sight.y is None or sight.colour is None:
        return None
    return State(sight.x, sight.y, sight.colour, blocks)


def judge(previous: Picture, chunk: Picture, ground: Picture | None = None) -> Judgement:
    """What happens in a chunk.

    Args:
        previous: uint8 (24, 24, 3), the last frame before the chunk.
        chunk: uint8 (4, 24, 24, 3).
        ground: uint8 (24, 24, 3) of the bare world, best from a real frame of the episode
            (``arena.background``); read from ``previous`` when not given.
    """
    ground = background(read_blocks(previous)) if ground is None else ground
    sights = look(np.concatenate([previous[None], chunk]), ground)
    return _nearest(sights, read_blocks(ground))


def judge_film(frames: Picture, ground: Picture | None = None) -> tuple[Judgement, ...]:
    """A judgement per chunk of a film, each from the last frame of the chunk before.

    Args:
        frames: uint8 (1 + 4 k, 24, 24, 3).
        ground: as in `judge`; read from the start frame when not given.
    """
    ground = background(read_blocks(frames[0])) if ground is None else ground
    sights, blocks = look(frames, ground), read_blocks(ground)
    spans = map(CLOCK.chunk_frames, range(CLOCK.chunks(len(frames))))
    return tuple(_nearest(sights[span.start - 1 : span.stop], blocks) for span in spans)


def _nearest(sights: tuple[Sight, ...], blocks: tuple[Rectangle, ...]) -> Judgement:
    """The trajectory that comes nearest to the frames after the first, counted from the first."""
    before, during = sights[0], sights[1:]
    if before.x is None or before.y is None or before.colour is None:
        return Judgement(None, False, False, FAR * len(during), during)
    expectations = _expectations(before.x, before.y, before.colour)
    distances = [sum(map(_apart, during, expected)) for _, expected in expectations]
    nearest = int(np.argmin(distances))
    action, expected = expectations[nearest]
    if during[-1].sprites == 0:
        return Judgement(None, False, False, distances[nearest], during)
    state = State(before.x, before.y, before.colour, blocks)
    valid = all(map(_strictly, during, expected))
    return Judgement(action, valid, action in legal(state), distances[nearest], during)


def _match(pictures: Picture, ground: Picture) -> NDArray[np.float32]:
    """How much each sprite (colour n, top left at y, x) lowers each frame's squared error."""
    film_T1YXC = pictures.astype(np.float32)[:, None]
    bare = ground.astype(np.float32)
    gain = ((film_T1YXC - bare) ** 2).sum(-1) - (
        (film_T1YXC - _PALETTE[None, :, None, None]) ** 2
    ).sum(-1)
    sums = np.zeros((*gain.shape[:2], SIZE + 1, SIZE + 1), np.float32)
    sums[..., 1:, 1:] = gain.cumsum(-1).cumsum(-2)
    wide = sums[..., SPRITE:] - sums[..., :-SPRITE]
    return wide[..., SPRITE:, :] - wide[..., :-SPRITE, :]


def _best(scores_TNYX: NDArray[np.float32]) -> list[tuple[float, int, int, int]]:
    """(score, colour, y, x) of the best match per frame."""
    flat = scores_TNYX.reshape(len(scores_TNYX), -1)
    where = flat.argmax(1)
    places = np.unravel_index(where, scores_TNYX.shape[1:])
    score = flat[np.arange(len(flat)), where]
    return list(zip(score.tolist(), *(axis.tolist() for axis in places), strict=True))


@lru_cache(maxsize=4096)
def _expectations(x: int, y: int, colour: str) -> tuple[tuple[str, tuple[Sight, ...]], ...]:
    """What each action would show from here, whether legal or not."""
    return tuple((action, tuple(_expected(x, y, colour, action))) for action in ACTIONS)


def _expected(x: int, y: int, colour: str, action: str) -> Iterator[Sight]:
    path = TRAJECTORIES[action]
    worn = next_colour(colour) if path.paints else colour
    for (dx, dy), visible in zip(path.offsets, path.visible, strict=True):
        yield Sight(x + dx, y + dy, worn, 1) if visible else Sight(None, None, None, 0)


def _apart(seen: Sight, wanted: Sight) -> int:
    """How far a frame is from what a trajectory shows there, in pixels."""
    if seen.x is None or seen.y is None or wanted.x is None or wanted.y is None:
        return FAR * (seen.sprites != wanted.sprites)
    way = abs(seen.x - wanted.x) + abs(seen.y - wanted.y)
    return min(way, FAR) + FAR * (seen.colour != wanted.colour)


def _strictly(seen: Sight, wanted: Sight) -> bool:
    if seen.sprites != wanted.sprites or seen.colour != wanted.colour:
        return False
    if seen.x is None or seen.y is None or wanted.x is None or wanted.y is None:
        return True
    return max(abs(seen.x - wanted.x), abs(seen.y - wanted.y)) <= STRICT_PIXELS

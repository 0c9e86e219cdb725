"""The arena: a 24 x 24 world whose every pixel is known.

One 4 x 4 sprite in one of three colours stands on flat grey ground, among three dim rectangles that
block it. Every chunk it does one of eight things. An action is **legal** when, at each of its four
frames, the sprite lies inside the picture and off the rectangles; only legal actions are drawn.

The player is sticky: with probability 0.5 it repeats its last action if that is still legal, else
it draws among the legal ones, by the weights of its *style*. The meta prompt says the two things
that are true of an episode as a whole: the colour it starts with and the style of its player
("red roaming").

All of it is a pure function of a seed. Positions are (x, y) of the sprite's top left pixel, x to
the right, y down; they start even and every action ends 0 or 4 px away, so they stay even.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from corpus.clock import Clock

CLOCK = Clock(fps=16, frames_per_chunk=4)
CHUNKS = 16
SIZE = 24
SPRITE = 4
CELL = 4
BLOCKS = 3
STICKY = 0.5

# Held-out episodes begin here: recorders refuse to reach it, evaluation starts from it.
HELD_OUT_SEED = 1_000_000_000

GROUND = (128, 128, 128)
BLOCK = (72, 72, 72)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (232, 56, 48),
    "green": (48, 216, 72),
    "blue": (64, 96, 248),
}
COLOUR_WORDS = tuple(COLOURS)


@dataclass(frozen=True)
class Trajectory:
    """What the sprite does in the four frames of a chunk, relative to where it stood.

    Attributes:
        offsets: (dx, dy) per frame, in pixels.
        visible: whether it is drawn, per frame.
        paints: whether it wears the next colour from the first frame on.
    """

    offsets: tuple[tuple[int, int], ...]
    visible: tuple[bool, ...] = (True, True, True, True)
    paints: bool = False


_STILL = ((0, 0),) * 4
TRAJECTORIES: dict[str, Trajectory] = {
    "left": Trajectory(tuple((-i, 0) for i in range(1, 5))),
    "right": Trajectory(tuple((i, 0) for i in range(1, 5))),
    "up": Trajectory(tuple((0, -i) for i in range(1, 5))),
    "down": Trajectory(tuple((0, i) for i in range(1, 5))),
    "stay": Trajectory(_STILL),
    # Leaps, hangs and falls back; hides, then shows. A gentler jump (2, 4, 2, 0 px up) or a blink
    # in the middle of the chunk lives in high temporal frequencies that the DCT-96 codec drops.
    "jump": Trajectory(((0, -4), (0, -4), (0, -2), (0, 0))),
    "blink": Trajectory(_STILL, visible=(False, False, True, True)),
    "paint": Trajectory(_STILL, paints=True),
}
ACTIONS = tuple(TRAJECTORIES)

# A style multiplies the weight of some actions when the player draws anew. Moves and jumps are
# illegal more often than the rest; these weights bring all eight to within a factor of about two.
STYLES: dict[str, dict[str, float]] = {
    "roaming": {"left": 3.0, "right": 3.0, "up": 3.0, "down": 3.0},
    "hopping": {"jump": 4.0},
    "calm": {"stay": 2.0},
}
STYLE_WORDS = tuple(STYLES)

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class State:
    """Everything that a frame shows.

    Attributes:
        x, y: the sprite's top left pixel, 0 .. 20, even.
        colour: a word of `COLOUR_WORDS`.
        blocks: rectangles (x, y, width, height) in pixels, multiples of 4, that do not overlap.
    """

    x: int
    y: int
    colour: str
    blocks: tuple[Rectangle, ...]


@dataclass(frozen=True)
class Episode:
    """One film of the arena with its truth.

    Attributes:
        frames: uint8 (1 + 4 k, 24, 24, 3).
        actions: k actions, one per chunk.
        states: k + 1 states; ``states[i]`` is what stands at the start of chunk i, that is at
            frame 4 i.
        style: a word of `STYLE_WORDS`.
    """

    seed: int
    frames: np.ndarray
    actions: tuple[str, ...]
    states: tuple[State, ...]
    style: str

    @property
    def meta(self) -> str:
        """The meta prompt: starting colour and style."""
        return f"{self.states[0].colour} {self.style}"


@dataclass(frozen=True)
class Replayed:
    """One word of a plan, carried out in the true world; an illegal word changes nothing."""

    word: str
    legal: bool
    state: State


@lru_cache(maxsize=4096)
def free_places(blocks: tuple[Rectangle, ...]) -> frozenset[tuple[int, int]]:
    """All (x, y) where the sprite lies inside and off the blocks."""
    free = np.ones((SIZE - SPRITE + 1, SIZE - SPRITE + 1), bool)
    for x, y, width, height in blocks:
        free[max(0, y - SPRITE + 1) : y + height, max(0, x - SPRITE + 1) : x + width] = False
    ys, xs = np.nonzero(free)
    return frozenset(zip(xs.tolist(), ys.tolist(), strict=True))


def legal(state: State) -> tuple[str, ...]:
    """The actions that can be done here, in the order of `ACTIONS`; never empty."""
    free, x, y = free_places(state.blocks), state.x, state.y
    return tuple(
        action
        for action, path in TRAJECTORIES.items()
        if path.offsets is _STILL or all((x + dx, y + dy) in free for dx, dy in path.offsets)
    )


def next_colour(colour: str) -> str:
    """What paint turns a colour into: red, green, blue and round again."""
    return COLOUR_WORDS[(COLOUR_WORDS.index(colour) + 1) % len(COLOUR_WORDS)]


def background(blocks: tuple[Rectangle, ...]) -> np.ndarray:
    """The ground with its rectangles and no sprite: uint8 (24, 24, 3)."""
    picture = np.empty((SIZE, SIZE, 3), np.uint8)
    picture[:] = GROUND
    for x, y, width, height in blocks:
        picture[y : y + height, x : x + width] = BLOCK
    return picture


def render(state: State) -> np.ndarray:
    """The picture of a state: uint8 (24, 24, 3)."""
    picture = background(state.blocks)
    picture[state.y : state.y + SPRITE, state.x : state.x + SPRITE] = COLOURS[state.colour]
    return picture


def after(state: State, action: str) -> State:
    """The state at the end of an action, legal or not."""
    path = TRAJECTORIES[action]
    dx, dy = path.offsets[-1]
    colour = next_colour(state.colour) if path.paints else state.colour
    return replace(state, x=state.x + dx, y=state.y + dy, colour=colour)


def step(state: State, action: str) -> tuple[State, np.ndarray]:
    """Do one action: the new state and its frames, uint8 (4, 24, 24, 3).

    Raises:
        ValueError: the action is not legal here.
    """
    if action not in legal(state):
        raise ValueError(f"{action!r} is not legal at ({state.x}, {state.y})")
    frames = np.repeat(background(state.blocks)[None], CLOCK.frames_per_chunk, axis=0)
    _draw(frames, state, action)
    return after(state, action), frames


def replay(start: State, words: Iterable[str]) -> tuple[Replayed, ...]:
    """Carry out a plan in the true world: which of its words were legal, and where they led.

    A word that is illegal there, or no action at all, changes nothing.
    """
    steps, state = [], start
    for word in words:
        allowed = word in legal(state)
        state = after(state, word) if allowed else state
        steps.append(Replayed(word, allowed, state))
    return tuple(steps)


def policy(state: State, previous: str | None, style: str) -> dict[str, float]:
    """The player's exact distribution over its next action: the floor of every word model.

    Args:
        previous: the last action, None at the start of an episode.
    """
    weights, actions = STYLES[style], legal(state)
    drawn = {action: weights.get(action, 1.0) for action in actions}
    repeat = STICKY if previous in drawn else 0.0
    scale = (1.0 - repeat) / sum(drawn.values())
    chances = {action: weight * scale for action, weight in drawn.items()}
    if previous is not None and repeat:
        chances[previous] += repeat
    return chances


def start(seed: int) -> tuple[State, str, np.random.Generator]:
    """The start state, the style and the generator that goes on to draw the actions."""
    generator = np.random.default_rng(seed)
    blocks = _draw_blocks(generator)
    places = sorted(place for place in free_places(blocks) if not (place[0] % 2 or place[1] % 2))
    x, y = places[int(generator.integers(len(places)))]
    colour = COLOUR_WORDS[int(generator.integers(len(COLOUR_WORDS)))]
    style = STYLE_WORDS[int(generator.integers(len(STYLE_WORDS)))]
    return State(x, y, colour, blocks), style, generator


def episode(seed: int, chunks: int = CHUNKS) -> Episode:
    """One episode; a longer one of the same seed begins with the shorter one."""
    state, style, generator = start(seed)
    frames = np.repeat(background(state.blocks)[None], CLOCK.frames(chunks), axis=0)
    frames[0] = render(state)
    states, actions = [state], []
    previous: str | None = None
    for chunk in range(chunks):
        previous = _pick(policy(state, previous, style), generator.random())
        _draw(frames[1 + 4 * chunk : 5 + 4 * chunk], state, previous)
        state = after(state, previous)
        states.append(state)
        actions.append(previous)
    return Episode(seed, frames, tuple(actions), tuple(states), style)


def _draw(frames: np.ndarray, state: State, action: str) -> None:
    """Draw an action's sprite into four frames of bare background."""
    path = TRAJECTORIES[action]
    colour = COLOURS[next_colour(state.colour) if path.paints else state.colour]
    for frame, (dx, dy), visible in zip(frames, path.offsets, path.visible, strict=True):
        if visible:
            x, y = state.x + dx, state.y + dy
            frame[y : y + SPRITE, x : x + SPRITE] = colour


def _pick(chances: dict[str, float], uniform: float) -> str:
    """The action in whose share of [0, 1) the number falls."""
    for action, chance in chances.items():
        uniform -= chance
        if uniform < 0:
            return action
    return action  # rounding may leave a sliver at the end


def _draw_blocks(generator: np.random.Generator) -> tuple[Rectangle, ...]:
    """Three rectangles of 1-2 x 1-2 cells on the lattice, none over another."""
    cells = SIZE // CELL
    taken = np.zeros((cells, cells), bool)
    blocks: list[Rectangle] = []
    while len(blocks) < BLOCKS:
        width, height = (int(n) for n in generator.integers(1, 3, 2))
        x = int(generator.integers(cells - width + 1))
        y = int(generator.integers(cells - height + 1))
        place = taken[y : y + height, x : x + width]
        if not place.any():
            place[:] = True
            blocks.append((x * CELL, y * CELL, width * CELL, height * CELL))
    return tuple(blocks)

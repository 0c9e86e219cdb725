"""The scripted doom player: what it sees (`Pose` and engine state), what it does (`Buttons`).

It is seeded and sees only what the engine gives, so a scene is a function of place and seed.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from corpus.clock import Clock

CLOCK = Clock(fps=16, frames_per_chunk=4)
TICS_PER_FRAME = 2


@dataclass(frozen=True)
class Buttons:
    """The player's input during one frame; every field goes to the game as it stands.

    Attributes:
        turn: degrees per tic, to the right when positive.
    """

    forward: int = 0
    back: int = 0
    left: int = 0
    right: int = 0
    turn: float = 0.0
    attack: int = 0

    def vector(self) -> list[float]:
        return [float(getattr(self, field.name)) for field in fields(self)]


@dataclass(frozen=True)
class Pose:
    """The game's variables at one frame.

    Attributes:
        x, y: map units; a step at full walking speed is about 15 per frame.
        angle: degrees, counterclockwise, 0 .. 360.
    """

    x: float
    y: float
    angle: float
    health: float
    ammo: float
    kills: float


class Player:
    """Chooses an input per chunk and holds it, so that a chunk can be put into words.

    It fights a monster in view, turns to the open side before a wall or when stuck, and otherwise
    goes on with what it does, half of the time, or draws anew. Depths are the engine's: 1 is about
    8 map units, and a chunk's walk about 7.

    Attributes:
        WALL: depth ahead below which it turns away.
        OPEN, PATIENCE: once turning, it wants this depth ahead, for so many chunks.
        STUCK_UNITS: a chunk's walk that is none.
        AIMED_DEGREES: how far beside the middle a monster may be and still be shot at.
        FIGHT: how likely it minds a monster in view, per chunk.
        TURN: degrees per tic before a wall.
        IDLE: what it draws from else, with weights.
    """

    FIELD_OF_VIEW = 90.0
    WALL, OPEN, PATIENCE = 9.0, 18.0, 4
    STUCK_UNITS = 6.0
    AIMED_DEGREES = 6.0
    FIGHT = 0.8
    TURN = 4.0
    IDLE = (
        (Buttons(forward=1), 8.0),
        (Buttons(forward=1, turn=-1.5), 1.5),
        (Buttons(forward=1, turn=1.5), 1.5),
        (Buttons(turn=-3.0), 0.8),
        (Buttons(turn=3.0), 0.8),
        (Buttons(left=1), 1.0),
        (Buttons(right=1), 1.0),
        (Buttons(back=1), 0.6),
        (Buttons(attack=1), 0.6),
        (Buttons(forward=1, attack=1), 0.6),
        (Buttons(), 0.5),
    )

    def __init__(self, generator: np.random.Generator) -> None:
        self._draw = generator
        self._frame = 0
        self._held = Buttons(forward=1)
        self._last: Pose | None = None
        self._side = 1.0
        self._turning = 0

    def act(self, state: Any, pose: Pose) -> Buttons:
        if self._frame % CLOCK.frames_per_chunk == 0:
            self._held = self._choose(state, pose)
            self._last = pose
        self._frame += 1
        return self._held

    def _choose(self, state: Any, pose: Pose) -> Buttons:
        target = self._target(state)
        if target is not None and self._draw.random() < self.FIGHT:
            self._turning = 0
            return self._fight(target)
        if self._blocked(state, pose):
            return self._avoid(state)
        self._turning = 0
        if self._draw.random() < 0.5 and not self._held.attack and abs(self._held.turn) < self.TURN:
            return self._held
        weights = np.array([weight for _, weight in self.IDLE])
        return self.IDLE[int(self._draw.choice(len(self.IDLE), p=weights / weights.sum()))][0]

    def _target(self, state: Any) -> float | None:
        """Degrees to the right of the nearest monster in view."""
        monsters = [label for label in state.labels if label.object_category == "Monster"]
        if not monsters:
            return None
        largest = max(monsters, key=lambda label: (label.width * label.height, label.object_id))
        width = state.screen_buffer.shape[1]
        offset = (largest.x + largest.width / 2) / width - 0.5
        return math.degrees(math.atan(2 * offset * math.tan(math.radians(self.FIELD_OF_VIEW / 2))))

    def _fight(self, degrees: float) -> Buttons:
        tics = CLOCK.frames_per_chunk * TICS_PER_FRAME
        turn = round(degrees / tics, 2)
        if abs(degrees) > self.AIMED_DEGREES:
            return Buttons(turn=turn)
        strafe = self._draw.random()
        return Buttons(attack=1, turn=turn, left=int(strafe < 0.15), right=int(strafe > 0.85))

    def _blocked(self, state: Any, pose: Pose) -> bool:
        """A wall ahead, or no headway; once turning, for some time, no open view."""
        wanted = self.OPEN if 0 < self._turning <= self.PATIENCE else self.WALL
        if _depth(state, 0.4, 0.6) < wanted:
            return True
        if self._last is None or not self._held.forward:
            return False
        return math.dist((pose.x, pose.y), (self._last.x, self._last.y)) < self.STUCK_UNITS

    def _avoid(self, state: Any) -> Buttons:
        """Turn, and go on turning, to the side that looks farther."""
        self._turning += 1
        if self._turning == 1:
            farther = _depth(state, 0.6, 1.0) - _depth(state, 0.0, 0.4)
            self._side = 1.0 if farther > 0 else -1.0
        return Buttons(turn=self._side * self.TURN)


def _depth(state: Any, left: float, right: float) -> float:
    """Mean depth (0 .. 255) of a band of the picture at eye level, between two shares of width."""
    buffer = state.depth_buffer
    height, width = buffer.shape
    band = buffer[int(0.45 * height) : int(0.6 * height), int(left * width) : int(right * width)]
    return float(band.mean())

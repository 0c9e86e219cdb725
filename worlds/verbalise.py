"""Actions become words here and nowhere else: one text per chunk.

* arena: the action's own name.
* doom: what the chunk shows, in this order: ``forward`` | ``back``, ``strafe left`` |
  ``strafe right``, ``turn left`` | ``turn right``, ``attack``, joined by commas. Moving and turning
  are read off the *realised* change of place and heading (keys say little at a wall, or with
  momentum), attacking off the button.

A chunk in which nothing is done gets the ``no_op`` text; an empty one means that there is no
caption. Words are given per chunk, the finest density there is; `spans` turns them into captions.
Holds are merged by the caption policy, which says a text that equals its neighbour once.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from corpus.clock import Clock
from corpus.timeline import Span
from worlds.doom_player import Buttons, Pose

# A chunk at walking speed covers 58 map units, the slowest scripted turn 12 degrees.
MOVED_UNITS = 8.0
TURNED_DEGREES = 4.0
# A step to the side shows only where it is a fair part of the way: a walk that turns drifts, too.
SIDE_SHARE = 0.5
# Nobody walks that far in a chunk: a teleporter.
CARRIED_UNITS = 160.0


def arena_words(actions: Sequence[str], no_op: str = "stay") -> tuple[str, ...]:
    """A text per chunk.

    Args:
        actions: one per chunk, of ``arena.ACTIONS``.
        no_op: how to call "stay".
    """
    return tuple(no_op if action == "stay" else action for action in actions)


def doom_words(
    poses: Sequence[Pose], inputs: Sequence[Buttons], clock: Clock, no_op: str = "wait"
) -> tuple[str, ...]:
    """A text per chunk.

    Args:
        poses: 1 + n k, one per frame.
        inputs: n k, one per frame after the first.
        no_op: text of a chunk without movement, turn or attack.
    """
    if len(poses) != len(inputs) + 1:
        raise ValueError(f"{len(poses)} poses do not fit {len(inputs)} inputs")
    step = clock.frames_per_chunk
    words = []
    for chunk in range(clock.chunks(len(poses))):
        first = chunk * step
        parts = [*_movement(poses[first], poses[first + step])]
        parts += _turn(poses[first : first + step + 1])
        parts += ["attack"] * any(used.attack for used in inputs[first : first + step])
        words.append(", ".join(parts) or no_op)
    return tuple(words)


def spans(words: Sequence[str], start: float, clock: Clock) -> tuple[Span, ...]:
    """Captions of a film that starts at ``start`` seconds; none where the text is empty.

    Chunk i lies at ``[start + i c, start + (i + 1) c)`` with c = 0.25 s at the usual clock.
    """
    second = clock.chunk_seconds
    return tuple(
        Span(start + i * second, start + (i + 1) * second, text)
        for i, text in enumerate(words)
        if text
    )


def _movement(before: Pose, after: Pose) -> list[str]:
    """Displacement, seen along the mean heading of the chunk."""
    way = math.dist((before.x, before.y), (after.x, after.y))
    if not MOVED_UNITS <= way <= CARRIED_UNITS:
        return []
    heading = math.radians(before.angle + _degrees_left(before, after) / 2)
    x, y = after.x - before.x, after.y - before.y
    ahead = x * math.cos(heading) + y * math.sin(heading)
    left = -x * math.sin(heading) + y * math.cos(heading)
    least = max(MOVED_UNITS, SIDE_SHARE * way)
    parts = []
    if abs(ahead) >= least:
        parts.append("forward" if ahead > 0 else "back")
    if abs(left) >= least:
        parts.append("strafe left" if left > 0 else "strafe right")
    return parts


def _turn(poses: Sequence[Pose]) -> list[str]:
    turned = sum(_degrees_left(one, two) for one, two in pairwise(poses))
    if abs(turned) < TURNED_DEGREES:
        return []
    return ["turn left" if turned > 0 else "turn right"]


def _degrees_left(before: Pose, after: Pose) -> float:
    """Change of heading in -180 .. 180 degrees, to the left when positive."""
    return (after.angle - before.angle + 180) % 360 - 180

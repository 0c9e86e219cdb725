"""Claims: what can be said of a `Measurement`; each is true or false of the film.

`words` puts them into sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stages.captioning.colours import Look
from stages.captioning.measure import KNOWN, Camera, Change, Measurement, Motion

Kind = Literal["camera", "mover", "change", "light", "colour", "still", "look"]

# Travel of the camera that is named: a base, and more for longer stretches.
TRAVEL, TRAVEL_PER_SECOND = 0.012, 0.008
SECOND_AXIS = 0.45  # share of the larger travel from which the smaller one is named too
GROWTH, GROWTH_PER_TRAVEL = 0.03, 0.2  # depth and turning look a little like growth
SHAKE, SHAKE_PER_TRAVEL = 0.02, 0.15  # a quick turn leaves its smooth path a little, too
OVER_SHAKE = 1.5  # travel must stand out from the shake by this factor
MASS, MASS_MOVING_CAMERA, MASS_PER_TRAVEL = 0.002, 0.008, 0.05
MOVERS, CHANGES = 3, 2
SHORT_WAY = 0.03  # share of the short side that a named way covers at least
STRAIGHT = 0.6  # share of all travel that goes one way, else it is to and fro
AXIS = 2.0  # ratio of travel along two axes from which only one is named
DIAGONAL = 0.5  # share of the larger displacement from which both are named
SMALL, LARGE = 0.01, 0.12
LIGHT = 0.045
LIGHT_SHARE = 0.1
COLOUR_SHARE = 0.3
DARK, BRIGHT = 0.25, 0.65
STIRRED, STIRRED_MUCH = 0.002, 0.15  # share of the picture
WANDER, WANDER_STRAIGHT = 0.15, 0.3  # a long way that leads nowhere
PREVAILS = 2 / 3  # share of a clip's travel that is not undone by the way back
MOST_TIME = 0.5  # share of a clip from which its shaking is named beside its way


@dataclass(frozen=True)
class Claim:
    """One statement.

    Attributes:
        kind: what it is about.
        what: its core: ``left``, ``in``, ``static``, ``about``, ``appears``, ``darker`` and so on;
            several at once are joined by ``+`` ("right+down").
        where: cell of a 3 x 3 raster (``top left`` ... ``centre``), or "".
        colour: colour name, or "".
        size: ``small``, ``large`` or "".
    """

    kind: Kind
    what: str
    where: str = ""
    colour: str = ""
    size: str = ""


def claims(found: Measurement) -> tuple[Claim, ...]:
    """What can be said of a stretch by itself, the camera first."""
    camera = camera_claims(found.camera, found.seconds)
    moves = bool(camera) and camera[0].what != "static"
    least = MASS_MOVING_CAMERA + MASS_PER_TRAVEL * found.camera.path if moves else MASS
    motions = found.motions if found.camera.known else ()
    movers = [claim for m in motions if m.mass >= least and (claim := mover_claim(m))]
    # What moves also uncovers and covers: only where nothing does is a change sure to be one.
    sure = not moves and not found.motions
    changes = [change_claim(change) for change in found.changes[:CHANGES]] if sure else []
    rest: list[Claim] = [*light_claims(found), *colour_claims(found)]
    said = [*_distinct(movers)[:MOVERS], *_distinct(changes)]
    if not said and not camera:
        said = [Claim("still", "changes")]
    elif not said and not moves:
        quiet = not rest and not found.motions and found.stir < STIRRED
        said = [Claim("still", "nothing" if quiet else "little")]
    return (*camera, *said, *rest)


def clip_claims(parts: Sequence[Measurement]) -> tuple[Claim, ...]:
    """What can be said of a whole clip from its segments: nothing that none of them says."""
    said = [claims(part) for part in parts]
    camera = _clip_camera(parts, said)
    ends = replace(parts[0], last=parts[-1].last)
    rest = [
        claim
        for claim in (*light_claims(ends), *colour_claims(ends))
        if claim in (_of_kind(said, claim.kind) or {claim})  # slow changes show in no segment
    ]
    if not camera:
        return (Claim("still", "changes"), *rest)
    if camera[0].what != "static":
        return (*camera, *rest)
    return (*camera, Claim("still", _stillness(parts, said)), *rest)


def _clip_camera(
    parts: Sequence[Measurement], said: Sequence[tuple[Claim, ...]]
) -> tuple[Claim, ...]:
    """What the camera does in most of a clip; nothing where too much of it is unknown."""
    seconds = np.array([max(part.seconds, 1e-9) for part in parts])
    known = np.array([part.camera.known for part in parts])
    named = [{way for c in one if c.kind == "camera" for way in c.what.split("+")} for one in said]
    every = set().union(*named)
    if every == {"static"}:
        return (Claim("camera", "static"),) if all(known) else ()
    if seconds[known].sum() < KNOWN * seconds.sum():
        return ()
    found = _prevailing([part.camera for part in parts if part.camera.known], every)
    if seconds[["shake" in one for one in named]].sum() >= MOST_TIME * seconds.sum():
        found.insert(0, Claim("camera", "shake"))
    return tuple(found) or (Claim("camera", "shake" if every <= {"static", "shake"} else "about"),)


def _prevailing(cameras: Sequence[Camera], named: set[str]) -> list[Claim]:
    """Of the named directions those that the way back does not undo."""
    travel = np.array([[camera.right, camera.down, camera.closer] for camera in cameras])
    net = travel.sum(axis=0)
    right, down, closer = np.where(np.abs(net) >= PREVAILS * np.abs(travel).sum(axis=0), net, 0)
    ways = [way for way in _ways(right, down, SECOND_AXIS, 0.0) if way in named]
    found = [Claim("camera", "+".join(ways))] if ways else []
    depth = "in" if closer > 0 else "out"
    return [*found, Claim("camera", depth)] if depth in named and closer else found


def _stillness(parts: Sequence[Measurement], said: Sequence[tuple[Claim, ...]]) -> str:
    """How much moves under a camera that holds still all the time."""
    kinds = {claim.kind for one in said for claim in one}
    if not kinds & {"mover", "change"}:
        return "nothing" if _of_kind(said, "still") == {Claim("still", "nothing")} else "little"
    stir = np.average([part.stir for part in parts], weights=[part.seconds for part in parts])
    return "much" if stir > STIRRED_MUCH else "some"


def _of_kind(said: Sequence[tuple[Claim, ...]], kind: Kind) -> set[Claim]:
    return {claim for one in said for claim in one if claim.kind == kind}


def camera_claims(camera: Camera, seconds: float) -> list[Claim]:
    """Shake, travel, growth; ``static`` if none; nothing at all where it cannot be told."""
    if not camera.known:
        return []
    net = float(np.hypot(camera.right, camera.down))
    shakes = camera.shake > SHAKE + SHAKE_PER_TRAVEL * net
    found = [Claim("camera", "shake")] if shakes else []
    least = TRAVEL + TRAVEL_PER_SECOND * seconds + (OVER_SHAKE * camera.shake if found else 0)
    ways = _ways(camera.right, camera.down, SECOND_AXIS, least)
    if ways:
        found.append(Claim("camera", "+".join(ways)))
    elif not found and camera.path > WANDER and net < WANDER_STRAIGHT * camera.path:
        found.append(Claim("camera", "about"))
    travel = abs(camera.right) + abs(camera.down) + camera.shake
    if abs(camera.closer) > GROWTH + GROWTH_PER_TRAVEL * travel:
        found.append(Claim("camera", "in" if camera.closer > 0 else "out"))
    return found or [Claim("camera", "static")]


def mover_claim(motion: Motion) -> Claim | None:
    """Where a region is and which way it goes; None if it hardly goes anywhere."""
    path = float(abs(motion.path_x) + abs(motion.path_y))
    net = abs(motion.dx) + abs(motion.dy)
    if path < SHORT_WAY:
        return None
    if net >= STRAIGHT * path and max(abs(motion.dx), abs(motion.dy)) >= SHORT_WAY / 2:
        what = "+".join(_ways(motion.dx, motion.dy, DIAGONAL, SHORT_WAY / 2))
    elif motion.path_x > AXIS * motion.path_y:
        what = "sideways"
    else:
        what = "upright" if motion.path_y > AXIS * motion.path_x else "about"
    size = "small" if motion.area < SMALL else "large" if motion.area > LARGE else ""
    return Claim("mover", what, cell(motion.x, motion.y), motion.colour, size)


def change_claim(change: Change) -> Claim:
    size = "small" if change.area < SMALL else "large" if change.area > LARGE else ""
    return Claim("change", change.kind, cell(change.x, change.y), change.colour, size)


def look_claim(look: Look) -> Claim:
    """Tone and main colour of a picture; no colour where none fills enough of it."""
    tone = "dark" if look.light < DARK else "bright" if look.light > BRIGHT else "medium-bright"
    return Claim("look", tone, colour=look.colour if look.share >= COLOUR_SHARE else "")


def light_claims(found: Measurement) -> list[Claim]:
    change = found.last.light - found.first.light
    if abs(change) < max(LIGHT, LIGHT_SHARE * found.first.light):
        return []
    return [Claim("light", "brighter" if change > 0 else "darker")]


def colour_claims(found: Measurement) -> list[Claim]:
    """A change of the colour that fills most of the picture."""
    first, last = found.first, found.last
    if first.colour == last.colour or min(first.share, last.share) < 0.5:
        return []
    return [Claim("colour", f"{first.colour}>{last.colour}")]


def cell(x: float, y: float) -> str:
    """Name of the ninth of the picture that holds a point (shares of width and height)."""
    across = ("left", "", "right")[min(2, int(3 * x))]
    down = ("top", "", "bottom")[min(2, int(3 * y))]
    return f"{down} {across}".strip() or "centre"


def _ways(right: float, down: float, second: float, least: float) -> list[str]:
    """Named directions of a displacement, the larger first."""
    parts = sorted(
        [
            (abs(right), "right" if right > 0 else "left"),
            (abs(down), "down" if down > 0 else "up"),
        ],
        reverse=True,
    )
    if parts[0][0] < max(least, 1e-9):
        return []
    return [name for size, name in parts if size >= max(least, second * parts[0][0], 1e-9)]


def _distinct(found: Sequence[Claim]) -> list[Claim]:
    """Without later claims that say the same of the same place."""
    kept: dict[tuple[str, str], Claim] = {}
    for claim in found:
        kept.setdefault((claim.what, claim.where), claim)
    return list(kept.values())

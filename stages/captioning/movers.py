"""Regions that move on their own: flow beyond the camera's, joined over time.

A voxel (time, row, column) *moves* when its flow differs from the camera's, the picture really
changes there, and following the flow explains that change: flow alone is a guess in flat or
repeating regions. Voxels that move the same of four ways are joined into tracks; tracks that cover
the same place are one mover, which may then go to and fro.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.captioning.optics import SPARSE, Similarity, Step
from stages.reading.pictures import Float

Mask = NDArray[np.bool_]

WAYS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
SAME_WAY = 0.5  # cosine: within 60 degrees
LEAST_FLOW = 0.5  # pixels beyond the camera's
CAMERA_SHARE = 0.5  # and this share of the camera's own motion: no model of it is exact
LEAST_CHANGE = 4.0  # grey levels
NOISE_SHARE = 2.5  # and this multiple of the picture's usual change
EXPLAINED = 0.5  # share of the change that may remain when the flow is followed
SMOOTH = 1.5  # pixels
LEAST_DRIFT = 1.0  # pixels of camera motion from which parallax is reckoned with
REACH = 5  # pixels by which voxels join their neighbours
LEAST_MASS = 1e-3  # share of all voxels
LEAST_TIME = 0.15  # share of all steps
SAME_PLACE = 0.5  # overlap of footprints, relative to the smaller
SAME_SPEED = 0.5  # difference of velocities, relative to the faster
NEARBY = 0.3  # of the short side, between the parts of one thing
PARALLAX_WITH = 12.0  # near things outrun the camera's motion by up to this factor
PARALLAX_AGAINST = 1.2  # far things lag behind it by at most this one


@dataclass(frozen=True)
class Mover:
    """One region that moves.

    Attributes:
        x, y: where it is on average, shares of width and height.
        dx, dy: how far it goes in all, shares of the short side; right and down are positive.
        path_x, path_y: the same without regard to direction: larger where it goes to and fro.
        area: mean share of the picture that moves at a time.
        mass: share of all voxels, for ranking.
        footprint: (H, W) where it has been, small frame.
        voxels: (T, H, W) when and where it moves.
    """

    x: float
    y: float
    dx: float
    dy: float
    path_x: float
    path_y: float
    area: float
    mass: float
    footprint: Mask
    voxels: Mask


def find_movers(steps: Sequence[Step], camera: Similarity) -> list[Mover]:
    """All movers, the weightiest first.

    Args:
        camera: its motion over all steps together.
    """
    if not steps:
        return []
    moving = np.stack([_moving(step) for step in steps])
    residual = np.stack([step.residual for step in steps])
    if not moving.any():
        return []
    tracks = [track for way in WAYS for track in _tracks(moving, residual, way)]
    movers = [_mover(group, residual) for group in _join(tracks, residual)]
    kept = [mover for mover in movers if not _is_parallax(mover, camera)]
    return sorted(kept, key=lambda mover: -mover.mass)


def _moving(step: Step) -> Mask:
    if step.camera is None:
        return np.zeros(step.change.shape, bool)
    change = cv2.GaussianBlur(np.abs(step.change), (0, 0), SMOOTH)
    left = cv2.GaussianBlur(np.abs(step.unexplained), (0, 0), SMOOTH)
    noise = 1.4826 * float(np.median(np.abs(step.change[::SPARSE, ::SPARSE])))
    camera = np.hypot(step.camera.tx, step.camera.ty)
    return (
        (_length(step.residual) > LEAST_FLOW + CAMERA_SHARE * camera)
        & (change > max(LEAST_CHANGE, NOISE_SHARE * noise))
        & (left < EXPLAINED * change)
    )


def _tracks(moving: Mask, residual: Float, way: tuple[float, float]) -> list[Mask]:
    """Connected sets of voxels that move one way."""
    flow = residual[moving]
    core = np.zeros_like(moving)
    core[moving] = flow @ np.array(way, np.float32) > SAME_WAY * _length(flow)
    square = np.ones((2, 2), np.uint8)
    opened = [cv2.morphologyEx(frame.astype(np.uint8), cv2.MORPH_OPEN, square) for frame in core]
    joined = np.stack([cv2.dilate(frame, np.ones((REACH, REACH), np.uint8)) for frame in opened])
    labels, count = ndimage.label(joined, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels[core], minlength=count + 1)
    long_enough = max(2, LEAST_TIME * len(moving)) if len(moving) > 1 else 1
    found = []
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        lasts = window[0].stop - window[0].start
        if sizes[label] >= LEAST_MASS * core.size and lasts >= long_enough:
            found.append((labels == label) & core)
    return found


def _join(tracks: Sequence[Mask], residual: Float) -> list[list[Mask]]:
    """Group tracks that are one thing: in the same place, or side by side going the same way.

    A plain thing shows its motion only at its front and its back.
    """
    groups: list[list[Mask]] = []
    for track in sorted(tracks, key=lambda track: -int(track.sum())):
        for members in groups:
            if _overlap(members, track) or _abreast(members, track, residual):
                members.append(track)
                break
        else:
            groups.append([track])
    return groups


def _overlap(members: Sequence[Mask], track: Mask) -> bool:
    place, footprint = np.any(members, axis=(0, 1)), np.any(track, axis=0)
    shared = np.logical_and(place, footprint).sum()
    return bool(shared > SAME_PLACE * min(place.sum(), footprint.sum()))


def _abreast(members: Sequence[Mask], track: Mask, residual: Float) -> bool:
    """Whether a track goes with the first of the members: near it and as fast."""
    first = members[0]
    one, other = (residual[mask].mean(axis=0) for mask in (first, track))
    if np.hypot(*(one - other)) > SAME_SPEED * max(np.hypot(*one), np.hypot(*other)):
        return False
    _, height, width = track.shape
    distance = cv2.distanceTransform((~np.any(first, axis=0)).astype(np.uint8), cv2.DIST_L2, 3)
    gap = float(distance[np.any(track, axis=0)].min())
    return gap <= NEARBY * min(height, width)


def _mover(tracks: Sequence[Mask], residual: Float) -> Mover:
    voxels = np.logical_or.reduce(tracks)
    _, height, width = voxels.shape
    areas = voxels.sum(axis=(1, 2))
    velocity = [residual[t][voxels[t]].mean(axis=0) for t in np.flatnonzero(areas)]
    dx, dy = np.sum(velocity, axis=0) / min(height, width)
    path_x, path_y = np.abs(velocity).sum(axis=0) / min(height, width)
    _, rows, columns = np.nonzero(voxels)
    return Mover(
        x=float((columns.mean() + 0.5) / width),
        y=float((rows.mean() + 0.5) / height),
        dx=float(dx),
        dy=float(dy),
        path_x=float(path_x),
        path_y=float(path_y),
        area=float(areas[areas > 0].mean() / (height * width)),
        mass=float(areas.sum() / voxels.size),
        footprint=voxels.any(axis=0),
        voxels=voxels,
    )


def _is_parallax(mover: Mover, camera: Similarity) -> bool:
    """Whether a moving camera alone may make a region move like this, for being near or far."""
    height, width = mover.footprint.shape
    x = np.array((mover.x - 0.5) * width, np.float32)
    y = np.array((mover.y - 0.5) * height, np.float32)
    active = float(mover.voxels.any(axis=(1, 2)).mean())
    drift = camera.flow(x, y) * active
    own = np.array([mover.dx, mover.dy]) * min(height, width)
    speed, own_speed = float(np.hypot(*drift)), float(np.hypot(*own))
    if speed < LEAST_DRIFT or own_speed == 0:
        return False
    cosine = float(own @ drift) / (speed * own_speed)
    if abs(cosine) < np.cos(np.pi / 6):
        return False
    return own_speed < (PARALLAX_WITH if cosine > 0 else PARALLAX_AGAINST) * speed


def _length(flow: Float) -> Float:
    return np.sqrt((flow * flow).sum(axis=-1))

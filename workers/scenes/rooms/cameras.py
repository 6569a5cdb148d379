"""Where pictures of a room are taken from: at eye height, in free space, so that together they see most of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.scenes.rooms.render import Camera, cast
from workers.scenes.rooms.room import Room
from workers.scenes.rooms.solids import F64, times
from workers.scenes.rooms.surface import sample_surface

_CANDIDATES = 30
_PROBES = 1500
_SCOUT = (48, 36)
"""Size of the depth images that judge candidates."""


def look_at(position: F64, target: F64) -> F64:
    """(4,4) camera-to-world of an upright camera at a position that looks at a target (not straight up or down)."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, position
    return pose


def viewpoints(room: Room, count: int, rng: np.random.Generator) -> tuple[Camera, ...]:
    """`count` cameras of one focal length in a room, chosen one after the other for what they newly see.

    Args:
        room: the room.
        count: how many cameras.
        rng: draws the candidates.
    """
    probes = sample_surface(room, _PROBES, rng, noise=False).points_m.astype(np.float64)
    focal = float(rng.uniform(0.58, 0.66))
    candidates = [_candidate(room, rng, focal) for _ in range(max(_CANDIDATES, 3 * count))]
    seen = np.array([_sees(room, camera, probes) for camera in candidates])
    chosen: list[int] = []
    times = np.zeros(len(probes))
    for _ in range(count):
        # a second look is worth something, a third little
        worth = np.where(times == 0, 1.0, np.where(times == 1, 0.25, 0.05))
        gains = (seen * worth).sum(axis=1)
        gains[chosen] = -1.0
        best = int(np.argmax(gains))
        chosen.append(best)
        times += seen[best]
    return tuple(candidates[k] for k in chosen)


def _candidate(room: Room, rng: np.random.Generator, focal: float) -> Camera:
    x, y, _ = room.size_m
    lows, highs = room.bounds
    margin = 0.3
    for _ in range(100):
        position = np.array([rng.uniform(margin, x - margin), rng.uniform(margin, y - margin), rng.uniform(1.35, 1.75)])
        near = np.logical_and(position > lows - 0.25, position < highs + 0.25).all(axis=1)
        if not np.any(near):
            break
    away = np.array([x, y, 0.0]) / 2 - position
    turn = np.arctan2(away[1], away[0]) + rng.normal(0, 0.9)
    pitch = np.deg2rad(rng.choice([-26.0, -14.0, -4.0, 16.0], p=[0.38, 0.27, 0.2, 0.15]) + rng.normal(0, 4))
    ahead = np.array([np.cos(turn) * np.cos(pitch), np.sin(turn) * np.cos(pitch), np.sin(pitch)])
    return Camera(look_at(position, position + ahead), focal)


def _sees(room: Room, camera: Camera, probes: F64) -> NDArray[np.bool_]:
    """(P,) True for probes in the picture and not behind something."""
    width, height = _SCOUT
    depth, _ = cast(room.solids, camera, width, height)
    k = camera.intrinsics(width, height)
    inside = times(probes - camera.camera_to_world[:3, 3], camera.camera_to_world[:3, :3])
    z = np.maximum(inside[:, 2], 1e-6)
    u = np.round(inside[:, 0] / z * k[0, 0] + k[0, 2])
    v = np.round(inside[:, 1] / z * k[1, 1] + k[1, 2])
    ok = (inside[:, 2] > 0.1) & (u >= 1) & (u < width - 1) & (v >= 1) & (v < height - 1)
    seen = np.zeros(len(probes), bool)
    at = np.flatnonzero(ok)
    seen[at] = z[at] <= depth[v[at].astype(int), u[at].astype(int)] * 1.05 + 0.03
    return seen

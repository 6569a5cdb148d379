"""Points on the surfaces of a room, uniform by area, with their labels and lit colours.

What no eye could see is left out: faces that touch other solids, the outside of the shell, undersides of low furniture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.scenes.rooms.finishes import F32
from workers.scenes.rooms.room import Room
from workers.scenes.rooms.solids import CONTACT_M, F64, Solid, times

POINT_NOISE_M = 0.001
"""Deviation of a point along its surface's normal, metres; cut at twice that."""

COLOUR_NOISE = 0.02
"""Deviation of a point's colour, of 1."""


@dataclass(frozen=True, slots=True, eq=False)
class SurfacePoints:
    """Points sampled from a room."""

    points_m: NDArray[np.float32]
    """(N,3)"""
    colours: NDArray[np.uint8]
    """(N,3)"""
    labels: NDArray[np.int16]
    """(N,)"""
    solid: NDArray[np.int64]
    """(N,) number of the solid each point lies on."""


def sample_surface(room: Room, count: int, rng: np.random.Generator, noise: bool = True) -> SurfacePoints:
    """`count` points on a room's visible surfaces, uniform by area, in random order.

    Args:
        room: the room.
        count: how many.
        rng: draws them.
        noise: False leaves points exactly on the surfaces, and colours without noise.
    """
    faces = [face for number, solid in enumerate(room.solids) if solid.sampled for face in _faces(number, solid)]
    areas = np.array([area for _, _, area in faces])
    points, which = np.zeros((0, 3)), np.zeros(0, np.int64)
    while len(points) < count:
        draws = rng.multinomial(int((count - len(points)) * 2.2) + 64, areas / areas.sum())
        drawn = [
            (_on_face(room.solids[number], face, int(n), rng), np.full(int(n), number))
            for (number, face, _), n in zip(faces, draws, strict=True)
            if n
        ]
        new, new_which = np.concatenate([p for p, _ in drawn]), np.concatenate([w for _, w in drawn])
        seen = _seen(room, new, new_which)
        order = rng.permutation(int(seen.sum()))
        points = np.concatenate([points, new[seen][order]])
        which = np.concatenate([which, new_which[seen][order]])
    points, which = points[:count], which[:count]
    colours, normals = room.appearance.colours(which, points)
    if noise:
        shift = np.clip(rng.normal(0, POINT_NOISE_M, count), -2 * POINT_NOISE_M, 2 * POINT_NOISE_M)
        points = points + shift[:, None] * normals
        colours = colours + rng.normal(0, COLOUR_NOISE, colours.shape).astype(np.float32)
    labels = np.array([solid.label for solid in room.solids], np.int16)[which]
    return SurfacePoints(points.astype(np.float32), _bytes(colours), labels, which)


def _bytes(colours: F32) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip(colours * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return levels


def _faces(number: int, solid: Solid) -> list[tuple[int, int, float]]:
    """(solid, face, area) of the faces that count: 0..5 of a box (axis * 2 + positive), 4, 5 and 6 of a cylinder."""
    half = solid.half
    if solid.kind == "cylinder":
        cap = np.pi * half[0] ** 2
        found = [(4, cap), (5, cap), (6, 4 * np.pi * half[0] * half[2])]
    else:
        found = [(2 * a + s, 4 * half[(a + 1) % 3] * half[(a + 2) % 3]) for a in range(3) for s in (0, 1)]
    if solid.bare_below:
        found = [(f, area) for f, area in found if f == 6 or (2 * (f % 2) - 1) * solid.axes[2, f // 2] > -0.7]
    return [(number, face, float(area)) for face, area in found]


def _on_face(solid: Solid, face: int, count: int, rng: np.random.Generator) -> F64:
    """(count,3) points on a face, world."""
    local = rng.uniform(-1, 1, (count, 3)) * solid.half
    if solid.kind == "cylinder":
        turn = rng.uniform(0, 2 * np.pi, count)
        radius = solid.half[0] * (np.ones(count) if face == 6 else np.sqrt(rng.uniform(0, 1, count)))
        local[:, 0], local[:, 1] = radius * np.cos(turn), radius * np.sin(turn)
    if face < 6:
        local[:, face // 2] = (2 * (face % 2) - 1) * solid.half[face // 2]
    return times(local, solid.axes.T) + solid.centre


def _seen(room: Room, points: F64, which: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(P,) True where air lies before the surface and no other solid touches it."""
    normals, _ = room.appearance.surfaces(which, points)
    before = points + 5 * CONTACT_M * normals
    seen = np.zeros(len(points), bool)
    for low, high in room.air:
        seen |= ((before >= low) & (before <= high)).all(axis=1)
    lows, highs = room.bounds
    for number, solid in enumerate(room.solids):
        near = ((points >= lows[number] - CONTACT_M) & (points <= highs[number] + CONTACT_M)).all(axis=1)
        at = np.flatnonzero(near & (which != number) & seen)
        if len(at):
            seen[at[solid.contains(points[at], CONTACT_M)]] = False
    return seen

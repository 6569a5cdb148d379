"""The slow truth about boxes and cylinders: one ray and one point at a time, in plain Python.

Imports nothing of vlglab. A solid is (kind, centre, axes, half) in nested lists: axes are the local x, y and z as rows
of world coordinates; half extents, of a cylinder (radius, radius, half height).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]
Shape = tuple[str, Vector, Sequence[Vector], Vector]


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _local(point: Vector, shape: Shape) -> list[float]:
    offset = [point[i] - shape[1][i] for i in range(3)]
    return [_dot(offset, axis) for axis in shape[2]]


def signed_distance(point: Vector, shape: Shape) -> float:
    """Exact distance from a point to a solid's surface, negative inside."""
    kind, _, _, half = shape
    x, y, z = _local(point, shape)
    if kind == "box":
        over = [abs(x) - half[0], abs(y) - half[1], abs(z) - half[2]]
    else:
        over = [math.hypot(x, y) - half[0], abs(z) - half[2]]
    outside = math.sqrt(sum(max(o, 0.0) ** 2 for o in over))
    return outside + min(max(over), 0.0)


def distance_to_surfaces(point: Vector, shapes: Sequence[Shape]) -> float:
    """Distance from a point to the nearest surface of any solid, from whichever side."""
    return min(abs(signed_distance(point, shape)) for shape in shapes)


def first_hit(origin: Vector, direction: Vector, shapes: Sequence[Shape], reach: float = 50.0) -> tuple[float, int]:
    """Where a ray first meets a solid, by sphere tracing: (multiple of direction, which solid); (inf, -1) for none.

    Steps by the exact distance to the nearest solid, so it cannot jump over one; needs no formula for intersections.
    """
    length = math.sqrt(_dot(direction, direction))
    unit = [d / length for d in direction]
    travelled = 0.0
    while travelled < reach:
        at = [origin[i] + unit[i] * travelled for i in range(3)]
        gaps = [signed_distance(at, shape) for shape in shapes]
        nearest = min(range(len(gaps)), key=gaps.__getitem__)
        if gaps[nearest] < 1e-7:
            return travelled / length, nearest
        travelled += max(gaps[nearest], 1e-8)
    return math.inf, -1

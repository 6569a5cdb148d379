"""The slow truth about lifting: one point, one frame, one pixel at a time, in Python's own floats.

Imports nothing of ours. Conventions: metres; camera looks along +z, x right, y down; pixel centres at integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Matrix = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Sight:
    """Whether a frame sees a point, at which pixel, and by how much the nearest decision was made."""

    seen: bool
    row: int
    column: int
    margin: float
    """Least distance to another outcome: of z to 0, of the pixel to a rounding or border limit, of the depth test."""


def nearest_source_pixel(index: int, length: int, to_length: int) -> int:
    """The pixel of the original nearest to a pixel of the resized side, halves up, in exact arithmetic."""
    return min(length - 1, math.floor(Fraction(index * length, to_length) + Fraction(1, 2)))


def in_camera(point: Sequence[float], camera_to_world: Matrix) -> tuple[float, float, float]:
    """The point in the camera's frame: the transposed rotation times the difference to the camera's centre."""
    difference = [point[i] - camera_to_world[i][3] for i in range(3)]
    x, y, z = (sum(camera_to_world[i][j] * difference[i] for i in range(3)) for j in range(3))
    return x, y, z


def look(
    point: Sequence[float],
    depth: Matrix,
    intrinsics: Matrix,
    camera_to_world: Matrix,
    *,
    size: tuple[int, int],
    tolerance: float,
    border: int,
) -> Sight:
    """What a frame sees of a point.

    Args:
        point: world coordinates, metres.
        depth: rows of a depth map of any size, metres; 0, NaN and infinity are no readings.
        intrinsics: K for an image of `size`.
        camera_to_world: a rigid pose.
        size: width and height at which is compared.
        tolerance: |z - depth| <= tolerance * depth.
        border: pixels cut at each edge.
    """
    width, height = size
    x, y, z = in_camera(point, camera_to_world)
    margin = abs(z)
    if not z > 0:
        return Sight(False, -1, -1, margin)
    u = (intrinsics[0][0] * x + intrinsics[0][1] * y) / z + intrinsics[0][2]
    v = intrinsics[1][1] * y / z + intrinsics[1][2]
    column, row = math.floor(u + 0.5), math.floor(v + 0.5)
    margin = min(margin, *(abs((value - math.floor(value)) - 0.5) for value in (u, v)))
    if not (border <= column <= width - border - 1 and border <= row <= height - border - 1):
        return Sight(False, row, column, margin)
    source_row = nearest_source_pixel(row, len(depth), height)
    source_column = nearest_source_pixel(column, len(depth[0]), width)
    reading = float(depth[source_row][source_column])
    if not (math.isfinite(reading) and reading > 0):
        return Sight(False, row, column, margin)
    slack = tolerance * reading - abs(z - reading)
    return Sight(slack >= 0, row, column, min(margin, abs(slack)))


def mean_over_views(
    sights: Sequence[Sequence[tuple[int, Sequence[float]]]], num_points: int, dimension: int
) -> dict[int, tuple[list[float], int]]:
    """Point -> (mean embedding, number of views), of the points that any frame saw.

    Args:
        sights: a frame's (point index, embedding of its pixel), frame by frame.
        num_points: points of the scene.
        dimension: length of an embedding.
    """
    means = {}
    for point in range(num_points):
        seen = [list(embedding) for frame in sights for index, embedding in frame if index == point]
        if seen:
            means[point] = ([math.fsum(e[d] for e in seen) / len(seen) for d in range(dimension)], len(seen))
    return means

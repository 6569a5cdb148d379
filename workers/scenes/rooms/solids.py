"""Boxes and cylinders with exact surfaces: what every room is composed of.

Knows geometry, labels and finishes; knows no furniture, camera or image. A solid's local frame has its centre at the
origin; `axes` holds the local x, y and z axes as columns, in world coordinates, metres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.scenes.rooms.finishes import Finish

F64 = NDArray[np.float64]
Span = tuple[float, float]

CONTACT_M = 1e-3
"""Surfaces nearer than this to another solid touch it, and are not seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """One box or upright-in-its-own-frame cylinder."""

    kind: Literal["box", "cylinder"]
    centre: F64
    """(3,) metres."""
    axes: F64
    """(3,3) rotation, local axes as columns."""
    half: F64
    """(3,) half extents; of a cylinder (radius, radius, half height), its axis being the local z."""
    label: int
    finish: Finish
    instance: int = 0
    bare_below: bool = False
    """True where the faces that look down are no part of the sampled surface (undersides of low furniture)."""
    sampled: bool = True
    """False where no points are taken of it, though it is seen: a ceiling in a domain that has no such class."""

    def local(self, points: F64) -> F64:
        """(P,3) world points in the solid's frame."""
        return times(points - self.centre, self.axes)

    @property
    def corners(self) -> F64:
        """(8,3) corners of the oriented bounding box, world."""
        return self.centre + (_SIGNS * self.half) @ self.axes.T

    @property
    def bounds(self) -> tuple[F64, F64]:
        """Lowest and highest corner of the axis-aligned bounding box."""
        reach = np.abs(self.axes) @ self.half
        return self.centre - reach, self.centre + reach

    def contains(self, points: F64, margin: float = 0.0) -> NDArray[np.bool_]:
        """(P,) True where a point lies within `margin` metres of the solid or inside it (corners not rounded)."""
        local = np.abs(self.local(points))
        inside: NDArray[np.bool_] = local[:, 2] <= self.half[2] + margin
        if self.kind == "box":
            inside &= (local[:, 0] <= self.half[0] + margin) & (local[:, 1] <= self.half[1] + margin)
        else:
            inside &= np.hypot(local[:, 0], local[:, 1]) <= self.half[0] + margin
        return inside

    def moved(self, rotation: F64, offset: F64, instance: int | None = None) -> Solid:
        """The solid rotated about the origin, then shifted; with another instance number where one is given."""
        number = self.instance if instance is None else instance
        return replace(self, centre=rotation @ self.centre + offset, axes=rotation @ self.axes, instance=number)


def times(points: F64, matrix: F64) -> F64:
    """(P,3) points times a (3,3) matrix, element by element: BLAS would round by its number of threads."""
    columns = [
        points[:, 0] * matrix[0, j] + points[:, 1] * matrix[1, j] + points[:, 2] * matrix[2, j] for j in range(3)
    ]
    return np.stack(columns, axis=1)


_SIGNS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


def rotation(axis: Literal["x", "y", "z"], degrees: float) -> F64:
    """(3,3) right-handed rotation about a coordinate axis."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    if axis == "x":
        return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    if axis == "y":
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def quarter_turn(turns: int) -> F64:
    """(3,3) rotation about z by `turns` quarters, exact."""
    c, s = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][turns % 4]
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def box(x: Span, y: Span, z: Span, label: int, finish: Finish, *, bare_below: bool = True) -> Solid:
    """An axis-aligned box between the given bounds, metres."""
    spans = np.array([x, y, z], dtype=np.float64)
    return Solid(
        "box", spans.mean(axis=1), np.eye(3), (spans[:, 1] - spans[:, 0]) / 2, label, finish, bare_below=bare_below
    )


def cylinder(x: float, y: float, z: Span, radius: float, label: int, finish: Finish) -> Solid:
    """An upright cylinder about (x, y) between two heights, metres."""
    centre = np.array([x, y, (z[0] + z[1]) / 2])
    half = np.array([radius, radius, (z[1] - z[0]) / 2])
    return Solid("cylinder", centre, np.eye(3), half, label, finish, bare_below=True)


def turned(solid: Solid, turn: F64, pivot: tuple[float, float, float]) -> Solid:
    """The solid rotated by `turn` about a pivot."""
    about = np.array(pivot)
    return solid.moved(turn, about - turn @ about)


def moved(solids: Iterable[Solid], turn: F64, offset: F64, instance: int) -> list[Solid]:
    """Solids of one piece of furniture, rotated about its origin, shifted, numbered."""
    return [solid.moved(turn, offset, instance) for solid in solids]

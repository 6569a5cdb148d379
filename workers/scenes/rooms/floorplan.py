"""A room being furnished: what is taken of its floor and walls, and what stands in it so far.

Knows rectangles and pieces; knows no class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.shell import Wall
from workers.scenes.rooms.solids import F64, Solid, moved

Rect = tuple[float, float, float, float]
"""x from, y from, x to, y to, metres."""

Placer = Callable[["Layout"], bool]
"""Puts one more of a class into a room; False where it found no place."""


_TOUCH_M = 1e-6


class NoPlace(Exception):
    """A class of the plan found no place in the room; another draw is needed."""


@dataclass(slots=True)
class Layout:
    """A room being furnished."""

    make: Maker
    size: tuple[float, float, float]
    walls: tuple[Wall, ...]
    solids: list[Solid] = field(default_factory=list)
    floor: list[Rect] = field(default_factory=list)
    """What stands on the floor."""
    tops: list[tuple[Piece, F64, F64]] = field(default_factory=list)
    """Tops for small things: the piece, its rotation and offset."""
    spots: list[Rect] = field(default_factory=list)
    beams: list[tuple[bool, float, float]] = field(default_factory=list)
    next_instance: int = 6
    strict: bool = False
    """True where nothing may stand in the bounds of another solid; offices rely on the floor and the walls alone."""

    def instance(self) -> int:
        """A new instance number."""
        self.next_instance += 1
        return self.next_instance - 1

    def claim(self, rect: Rect, gap: float) -> bool:
        """Takes a rectangle of the floor if it lies in the room and `gap` metres from what stands there."""
        if rect[0] < -1e-9 or rect[1] < -1e-9 or rect[2] > self.size[0] + 1e-9 or rect[3] > self.size[1] + 1e-9:
            return False
        if any(_overlap(rect, other, gap) for other in self.floor):
            return False
        self.floor.append(rect)
        return True

    def clear(self, solids: Iterable[Solid]) -> bool:
        """True where solids stay in the room and out of the bounds of what is there; always, where not strict."""
        if not self.strict:
            return True
        there = np.array([solid.bounds for solid in self.solids]).reshape(-1, 2, 3)
        for solid in solids:
            low, high = solid.bounds
            inside = np.all(low >= -_TOUCH_M) and np.all(high <= np.array(self.size) + _TOUCH_M)
            if not inside or np.any(np.all((low < there[:, 1] - _TOUCH_M) & (high > there[:, 0] + _TOUCH_M), axis=1)):
                return False
        return True

    def fits(self, piece: Piece, turn: F64, offset: F64) -> bool:
        """True where a piece may stand as turned and shifted (see `clear`)."""
        return not self.strict or self.clear(moved(piece.solids, turn, offset, 0))

    def put(self, piece: Piece, turn: F64, offset: F64) -> None:
        """Adds a piece where it was found to fit."""
        self.solids += moved(piece.solids, turn, offset, self.instance())
        if piece.top:
            self.tops.append((piece, turn, offset))


def _overlap(one: Rect, other: Rect, gap: float) -> bool:
    return one[0] < other[2] + gap and other[0] < one[2] + gap and one[1] < other[3] + gap and other[1] < one[3] + gap


def footprint(piece: Piece, turn: F64, offset: F64) -> Rect:
    """The floor that a piece covers: the bounds of its rectangle, turned and shifted."""
    half = piece.width / 2
    corners = np.array([[x, y, 0.0] for x in (-half, half) for y in (0.0, piece.depth)]) @ turn.T + offset
    low, high = corners.min(axis=0), corners.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])

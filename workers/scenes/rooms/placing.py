"""How one piece finds its place: against a wall, free in the room, at a table, on top of another.

Knows the floor plan and pieces; which classes a room shows is its domain's `layout` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.floorplan import Layout, NoPlace, Placer, footprint
from workers.scenes.rooms.furniture import Design
from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.solids import F64, quarter_turn, rotation

_SEATED = ("table", "desk")
_ANY_TURN = ("chair", "clutter", "otherfurniture")


def wall_finishes(make: Maker) -> list[Finish]:
    """A finish for each wall: all alike, or one that differs."""
    finish = make.finish("wall")
    finishes = [finish] * 4
    if make.chance(0.35):
        finishes[int(make.rng.integers(4))] = make.finish("wall")
    return finishes


def some(layout: Layout, name: str, count: int, place: Placer) -> None:
    """Places up to `count` of a class.

    Raises:
        NoPlace: not one found a place.
    """
    placed = sum(place(layout) for _ in range(count))
    if placed == 0:
        raise NoPlace(name)


def against_wall(layout: Layout, piece: Piece, name: str) -> bool:
    """Puts a piece with its back to a wall, often into a corner; False where none is free."""
    rng = layout.make.rng
    for side in rng.permutation(4):
        wall = layout.walls[side]
        for _ in range(6):
            room = wall.length - piece.width
            if room < 0:
                break
            left = float(rng.uniform(0, room)) if rng.random() < 0.75 else float(rng.choice([0.0, room]))
            if not wall.free((left, left + piece.width), piece.height):
                continue
            turn = quarter_turn(wall.side)
            offset = turn @ np.array([left + piece.width / 2, 0.0, 0.0]) + wall.origin
            # 2 mm off the wall: surfaces that coincide would be ambiguous
            offset = offset + turn @ np.array([0.0, 0.002 + 0.03 * rng.random(), 0.0])
            if layout.fits(piece, turn, offset) and layout.claim(footprint(piece, turn, offset), 0.04):
                layout.put(piece, turn, offset)
                _seats(layout, piece, turn, offset, name)
                return True
    return False


def anywhere(layout: Layout, piece: Piece, name: str) -> bool:
    """Puts a piece free into the room; False where none of some tries fits."""
    rng = layout.make.rng
    for _ in range(25):
        turn = quarter_turn(int(rng.integers(4)))
        if name in _ANY_TURN:
            turn = rotation("z", float(rng.uniform(0, 360)))
        offset = np.array([rng.uniform(0.2, layout.size[0] - 0.2), rng.uniform(0.2, layout.size[1] - 0.2), 0.0])
        if layout.fits(piece, turn, offset) and layout.claim(footprint(piece, turn, offset), 0.06):
            layout.put(piece, turn, offset)
            _seats(layout, piece, turn, offset, name)
            return True
    return False


def _seats(layout: Layout, piece: Piece, turn: F64, offset: F64, name: str) -> None:
    """Notes where chairs may stand at a table: before it, and behind it."""
    if name in _SEATED and piece.height > 0.6:
        layout.spots += [footprint(piece, turn, offset)] * 2


def at_table(layout: Layout, chair: Callable[[], Piece]) -> bool:
    """Puts a chair to one of the noted tables, or anywhere where there is no room at it."""
    make = layout.make
    table = layout.spots.pop(int(make.rng.integers(len(layout.spots))))
    middle = ((table[0] + table[2]) / 2, (table[1] + table[3]) / 2)
    for _ in range(12):
        piece = chair()
        side = int(make.rng.integers(4))
        turn = rotation("z", 90.0 * side + 180.0 + float(make.rng.normal(0, 9)))
        reach = (table[3] - table[1] if side % 2 == 0 else table[2] - table[0]) / 2
        slide = float(make.rng.uniform(-0.2, 0.2))
        out = reach + piece.depth - float(make.rng.uniform(0.0, 0.03)) + 0.06
        ahead = quarter_turn(side) @ np.array([slide, out, 0.0])
        offset = np.array([middle[0], middle[1], 0.0]) + ahead
        if layout.fits(piece, turn, offset) and layout.claim(footprint(piece, turn, offset), 0.02):
            layout.put(piece, turn, offset)
            return True
    return anywhere(layout, chair(), "chair")


def on_tops(layout: Layout, things: Sequence[Design], name: str) -> int:
    """Puts small things of a class on tables, shelves and the like, side by side; returns how many."""
    make, placed = layout.make, 0
    for piece, turn, offset in layout.tops:
        left = -piece.width / 2 + 0.05
        while left < piece.width / 2 - 0.2:
            thing = things[int(make.rng.integers(len(things)))](make, name)
            room = piece.depth - thing.depth - 0.02
            if make.chance(0.7) and room > 0.01 and left + thing.width < piece.width / 2 and piece.width > 0.6:
                at = np.array([left + thing.width / 2, float(make.rng.uniform(0.01, room)), piece.height])
                if thing.height + piece.height < 1.9 and not _round(piece):
                    where = offset + turn @ at
                    if layout.fits(thing, turn, where):
                        layout.put(thing, turn, where)
                        placed += 1
            left += thing.width + float(make.rng.uniform(0.05, 0.35))
    return placed


def _round(piece: Piece) -> bool:
    return piece.solids[0].kind == "cylinder"

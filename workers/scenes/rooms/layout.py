"""Where things stand in a room, so that every class of its plan is there and nothing runs into anything.

Knows the shell, the furniture and which classes a room must show; knows no camera and no light.
"""

from __future__ import annotations

import numpy as np

from workers.scenes.rooms import shell
from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.fixtures import place_beam, place_board, place_column, place_door, place_window
from workers.scenes.rooms.floorplan import Layout, NoPlace, Placer, footprint
from workers.scenes.rooms.furniture import FLOOR_CLUTTER, TOP_CLUTTER, furnish
from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.shell import Shell
from workers.scenes.rooms.solids import F64, quarter_turn, rotation


def lay_out(make: Maker, size: tuple[float, float, float], classes: tuple[str, ...]) -> Shell:
    """A room with every class of `classes` in it.

    Raises:
        NoPlace: one found no place.
    """
    layout = Layout(make, size, shell.empty_walls(size))
    rng = make.rng
    counts = {"column": (1, 2), "door": (1, 2), "window": (1, 3), "board": (1, 2), "beam": (1, 3)}
    placers = {
        "column": place_column,
        "door": place_door,
        "window": place_window,
        "board": place_board,
        "beam": place_beam,
    }
    for name, place in placers.items():
        if name in classes:
            _some(layout, name, int(rng.integers(counts[name][0], counts[name][1] + 1)), place)
    for name, (least, most) in {"bookcase": (1, 3), "sofa": (1, 2), "table": (1, 3), "chair": (2, 5)}.items():
        if name in classes:
            _some(layout, name, int(rng.integers(least, most + 1)), _movable(name))
    if "clutter" in classes:
        _clutter(layout)
    walls = _wall_finishes(make)
    solids = shell.slabs(size, make.finish("floor"), make.finish("ceiling"))
    solids += shell.build_walls(layout.walls, size[2], walls)
    air = [(np.zeros(3), np.array(size)), *shell.niches(layout.walls)]
    return Shell(size, layout.walls, solids + layout.solids, air)


def _wall_finishes(make: Maker) -> list[Finish]:
    finish = make.finish("wall")
    finishes = [finish] * 4
    if make.chance(0.35):
        finishes[int(make.rng.integers(4))] = make.finish("wall")
    return finishes


def _some(layout: Layout, name: str, count: int, place: Placer) -> None:
    placed = sum(place(layout) for _ in range(count))
    if placed == 0:
        raise NoPlace(name)


def _movable(name: str) -> Placer:
    def place(layout: Layout) -> bool:
        if name == "chair" and layout.spots and layout.make.chance(0.8):
            return _at_table(layout)
        for _ in range(3):
            piece = furnish(layout.make, name)
            against = {"bookcase": 1.0, "sofa": 0.9, "table": 0.55}.get(name, 0.1)
            if (_against_wall if layout.make.chance(against) else _anywhere)(layout, piece, name):
                return True
        return _against_wall(layout, furnish(layout.make, name), name)

    return place


def _against_wall(layout: Layout, piece: Piece, name: str) -> bool:
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
            if layout.claim(footprint(piece, turn, offset), 0.04):
                layout.put(piece, turn, offset)
                _seats(layout, piece, turn, offset, name)
                return True
    return False


def _anywhere(layout: Layout, piece: Piece, name: str) -> bool:
    rng = layout.make.rng
    for _ in range(25):
        turn = quarter_turn(int(rng.integers(4)))
        if name in ("chair", "clutter"):
            turn = rotation("z", float(rng.uniform(0, 360)))
        offset = np.array([rng.uniform(0.2, layout.size[0] - 0.2), rng.uniform(0.2, layout.size[1] - 0.2), 0.0])
        if layout.claim(footprint(piece, turn, offset), 0.06):
            layout.put(piece, turn, offset)
            _seats(layout, piece, turn, offset, name)
            return True
    return False


def _seats(layout: Layout, piece: Piece, turn: F64, offset: F64, name: str) -> None:
    """Notes where chairs may stand at a table: before it, and behind it."""
    if name == "table" and piece.height > 0.6:
        layout.spots += [footprint(piece, turn, offset)] * 2


def _at_table(layout: Layout) -> bool:
    make = layout.make
    table = layout.spots.pop(int(make.rng.integers(len(layout.spots))))
    middle = ((table[0] + table[2]) / 2, (table[1] + table[3]) / 2)
    for _ in range(12):
        piece = furnish(make, "chair")
        side = int(make.rng.integers(4))
        turn = rotation("z", 90.0 * side + 180.0 + float(make.rng.normal(0, 9)))
        reach = (table[3] - table[1] if side % 2 == 0 else table[2] - table[0]) / 2
        slide = float(make.rng.uniform(-0.2, 0.2))
        out = reach + piece.depth - float(make.rng.uniform(0.0, 0.03)) + 0.06
        ahead = quarter_turn(side) @ np.array([slide, out, 0.0])
        offset = np.array([middle[0], middle[1], 0.0]) + ahead
        if layout.claim(footprint(piece, turn, offset), 0.02):
            layout.put(piece, turn, offset)
            return True
    return _anywhere(layout, furnish(make, "chair"), "chair")


def _clutter(layout: Layout) -> None:
    make, placed = layout.make, 0
    for piece, turn, offset in layout.tops:
        left = -piece.width / 2 + 0.05
        while left < piece.width / 2 - 0.2:
            thing = TOP_CLUTTER[int(make.rng.integers(len(TOP_CLUTTER)))](make)
            room = piece.depth - thing.depth - 0.02
            if make.chance(0.7) and room > 0.01 and left + thing.width < piece.width / 2 and piece.width > 0.6:
                at = np.array([left + thing.width / 2, float(make.rng.uniform(0.01, room)), piece.height])
                if thing.height + piece.height < 1.9 and not _round(piece):
                    layout.put(thing, turn, offset + turn @ at)
                    placed += 1
            left += thing.width + float(make.rng.uniform(0.05, 0.35))
    for _ in range(int(make.rng.integers(3, 8))):
        thing = FLOOR_CLUTTER[int(make.rng.integers(len(FLOOR_CLUTTER)))](make)
        place = _against_wall if make.chance(0.6) else _anywhere
        placed += place(layout, thing, "clutter")
    if placed == 0:
        raise NoPlace("clutter")


def _round(piece: Piece) -> bool:
    return piece.solids[0].kind == "cylinder"

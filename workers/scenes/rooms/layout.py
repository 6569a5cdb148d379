"""Where things stand: openings, columns, beams and furniture, placed so that nothing runs into anything.

Knows the shell, the furniture and which classes a room must show; knows no camera and no light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from workers.scenes.rooms import shell
from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.furniture import FLOOR_CLUTTER, TOP_CLUTTER, furnish
from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.shell import Shell, Wall
from workers.scenes.rooms.solids import F64, Solid, moved, quarter_turn, rotation

Rect = tuple[float, float, float, float]
"""x from, y from, x to, y to, metres."""


Placer = Callable[["Layout"], bool]
"""Puts one more of a class into a room; False where it found no place."""


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


def lay_out(make: Maker, size: tuple[float, float, float], classes: tuple[str, ...]) -> Shell:
    """A room with every class of `classes` in it.

    Raises:
        NoPlace: one found no place.
    """
    layout = Layout(make, size, shell.empty_walls(size))
    rng = make.rng
    counts = {"column": (1, 2), "door": (1, 2), "window": (1, 3), "board": (1, 2), "beam": (1, 3)}
    placers = {"column": _column, "door": _door, "window": _window, "board": _board, "beam": _beam}
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


def _interval(layout: Layout, wall: Wall, width: float, margin: float = 0.1) -> tuple[float, float] | None:
    """A free interval of a wall, or None."""
    for _ in range(12):
        room = wall.length - width - 2 * margin
        if room < 0:
            return None
        left = margin + float(layout.make.rng.uniform(0, room))
        span = (left, left + width)
        if all(span[1] + 0.1 <= a or span[0] - 0.1 >= b for a, b, _ in wall.taken):
            return span
    return None


def _column(layout: Layout) -> bool:
    make, height = layout.make, layout.size[2]
    width = (make.between(0.25, 0.45, False), make.between(0.25, 0.45, False))
    for _ in range(20):
        wall = layout.walls[int(make.rng.integers(4))]
        reach = width if wall.side % 2 == 0 else (width[1], width[0])
        corner = make.chance(0.4)
        left = 0.0 if corner else float(make.rng.uniform(0.3, max(0.35, wall.length - reach[0] - 0.3)))
        free = 0.0 if make.chance(0.8) else make.between(0.5, 0.8, False)
        ends = np.array([[left, free, 0.0], [left + reach[0], free + reach[1], 0.0]])
        world = ends @ quarter_turn(wall.side).T + wall.origin
        low, high = world.min(axis=0), world.max(axis=0)
        rect = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        clear = all(left + reach[0] + 0.1 <= a or left - 0.1 >= b for a, b, _ in wall.taken)
        if (clear or free > 0) and layout.claim(rect, 0.3):
            if free == 0.0:
                wall.taken.append((left, left + reach[0], 0.0))
            if corner:
                other = layout.walls[(wall.side + 3) % 4]
                other.taken.append((other.length - reach[1], other.length, 0.0))
            side = (rect[2] - rect[0], rect[3] - rect[1])
            layout.solids += shell.column(make, rect[0], rect[1], side, height, layout.instance())
            return True
    return False


def _door(layout: Layout) -> bool:
    make = layout.make
    width = make.between(1.3, 1.6, False) if make.chance(0.15) else make.between(0.82, 1.0, False)
    for side in make.rng.permutation(4):
        wall = layout.walls[side]
        span = _interval(layout, wall, width, 0.15)
        if span is None:
            continue
        ends = np.array([[span[0], 0.0, 0.0], [span[1], 0.55, 0.0]]) @ quarter_turn(wall.side).T + wall.origin
        low, high = ends.min(axis=0), ends.max(axis=0)
        if layout.claim((float(low[0]), float(low[1]), float(high[0]), float(high[1])), 0.0):
            layout.solids += shell.door(make, wall, span, make.between(1.95, 2.1, False), layout.instance())
            return True
    return False


def _window(layout: Layout) -> bool:
    make, height = layout.make, layout.size[2]
    low = make.between(0.3, 0.5, False) if make.chance(0.25) else make.between(0.75, 1.05, False)
    high = min(height - 0.25, low + make.between(1.0, 1.5, False))
    width = make.between(0.9, 1.9, False)
    for side in make.rng.permutation(4):
        span = _interval(layout, layout.walls[side], width)
        if span is not None:
            layout.solids += shell.window(make, layout.walls[side], span, (low, high), layout.instance())
            return True
    return False


def _board(layout: Layout) -> bool:
    make, height = layout.make, layout.size[2]
    low = make.between(0.75, 1.0, False)
    high = min(height - 0.3, low + make.between(0.9, 1.2, False))
    for width in (make.between(1.2, 2.2, False), 1.1, 0.9):
        for side in make.rng.permutation(4):
            span = _interval(layout, layout.walls[side], width)
            if span is not None:
                layout.solids += shell.board(make, layout.walls[side], span, (low, high), layout.instance())
                return True
    return False


def _beam(layout: Layout) -> bool:
    make = layout.make
    across = layout.beams[0][0] if layout.beams else make.chance(0.5)
    for _ in range(8):
        at = float(make.rng.uniform(0.0, layout.size[0 if across else 1] - 0.35))
        if all(abs(at - other) > 0.7 for _, other, _ in layout.beams):
            layout.beams.append((across, at, 0.0))
            layout.solids += shell.beam(make, across, at, layout.size, layout.instance())
            return True
    return False


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
            if make.chance(0.7) and room > 0 and left + thing.width < piece.width / 2 and piece.width > 0.6:
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

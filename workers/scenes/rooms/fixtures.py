"""Columns, doors, windows, boards and beams: where on the walls and under the ceiling they go.

Knows walls and what is on them; knows no furniture.
"""

from __future__ import annotations

import numpy as np

from workers.scenes.rooms import shell
from workers.scenes.rooms.floorplan import Layout
from workers.scenes.rooms.shell import Wall
from workers.scenes.rooms.solids import quarter_turn


def interval(layout: Layout, wall: Wall, width: float, margin: float = 0.1) -> tuple[float, float] | None:
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


def place_column(layout: Layout) -> bool:
    """Puts a column into a corner, along a wall, or free into the room; False where none fits."""
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


def place_door(layout: Layout) -> bool:
    """Cuts a door into a wall and keeps the floor before it free; False where none fits."""
    make = layout.make
    width = make.between(1.3, 1.6, False) if make.chance(0.15) else make.between(0.82, 1.0, False)
    for side in make.rng.permutation(4):
        wall = layout.walls[side]
        span = interval(layout, wall, width, 0.15)
        if span is None:
            continue
        ends = np.array([[span[0], 0.0, 0.0], [span[1], 0.55, 0.0]]) @ quarter_turn(wall.side).T + wall.origin
        low, high = ends.min(axis=0), ends.max(axis=0)
        if layout.claim((float(low[0]), float(low[1]), float(high[0]), float(high[1])), 0.0):
            layout.solids += shell.door(make, wall, span, make.between(1.95, 2.1, False), layout.instance())
            return True
    return False


def place_window(layout: Layout) -> bool:
    """Cuts a window into a wall; False where none fits."""
    make, height = layout.make, layout.size[2]
    low = make.between(0.3, 0.5, False) if make.chance(0.25) else make.between(0.75, 1.05, False)
    high = min(height - 0.25, low + make.between(1.0, 1.5, False))
    width = make.between(0.9, 1.9, False)
    for side in make.rng.permutation(4):
        span = interval(layout, layout.walls[side], width)
        if span is not None:
            layout.solids += shell.window(make, layout.walls[side], span, (low, high), layout.instance())
            return True
    return False


def place_board(layout: Layout) -> bool:
    """Hangs a board on a wall; False where none fits."""
    make, height = layout.make, layout.size[2]
    low = make.between(0.75, 1.0, False)
    high = min(height - 0.3, low + make.between(0.9, 1.2, False))
    for width in (make.between(1.2, 2.2, False), 1.1, 0.9):
        for side in make.rng.permutation(4):
            span = interval(layout, layout.walls[side], width)
            if span is not None:
                layout.solids += shell.board(make, layout.walls[side], span, (low, high), layout.instance())
                return True
    return False


def place_beam(layout: Layout) -> bool:
    """Puts a beam under the ceiling, parallel to those that are there; False where none fits."""
    make = layout.make
    across = layout.beams[0][0] if layout.beams else make.chance(0.5)
    for _ in range(8):
        at = float(make.rng.uniform(0.0, layout.size[0 if across else 1] - 0.35))
        if all(abs(at - other) > 0.7 for _, other, _ in layout.beams):
            layout.beams.append((across, at, 0.0))
            layout.solids += shell.beam(make, across, at, layout.size, layout.instance())
            return True
    return False

"""Cabinets of all kinds, and desks with a shelf: designs that make a piece in its own frame (see `maker.Piece`).

Knows shapes and sizes; knows no room.
"""

from __future__ import annotations

from collections.abc import Iterator

from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.maker import Maker, Piece, four_legs
from workers.scenes.rooms.solids import Solid, Span, box


def fronts(x: Span, y: Span, z: Span, grid: tuple[int, int], label: int, finish: Finish) -> Iterator[Solid]:
    """Doors or drawers in columns and rows over a body's front, 8 mm apart."""
    columns, rows = grid
    wide, high = (x[1] - x[0]) / columns, (z[1] - z[0]) / rows
    for column in range(columns):
        for row in range(rows):
            left, low = x[0] + column * wide, z[0] + row * high
            yield box((left + 0.004, left + wide - 0.004), y, (low + 0.004, low + high - 0.004), label, finish)


def wardrobe(make: Maker, name: str) -> Piece:
    """A tall cabinet with doors and bar handles."""
    label, body, door = make.label(name), make.finish(name), make.finish(name)
    width, depth, height = make.between(0.75, 1.5), make.between(0.45, 0.58), make.between(1.65, 2.0)
    right, doors = width / 2, 2 if width < 1.2 else 3
    front = door if make.chance(0.5) else body
    solids = [box((-right, right), (0, depth - 0.045), (0, height), label, body)]
    solids += fronts((-right, right), (depth - 0.045, depth - 0.022), (0.06, height - 0.02), (doors, 1), label, front)
    for k in range(doors):
        at = -right + (k + (0.85 if k % 2 == 0 else 0.12)) * width / doors
        solids.append(box((at, at + 0.02), (depth - 0.022, depth), (0.9, 1.15), label, door))
    return Piece(tuple(solids), width, depth, height)


def chest_of_drawers(make: Maker, name: str) -> Piece:
    """Rows of drawers with knobs."""
    label, body, knob = make.label(name), make.finish(name), make.finish(name)
    width, depth, height = make.between(0.55, 1.15), make.between(0.38, 0.48), make.between(0.7, 1.05)
    right, rows, columns = width / 2, int(make.rng.integers(3, 5)), 1 if width < 0.85 else 2
    solids = [
        box((-right, right), (0, depth - 0.045), (0.05, height - 0.025), label, body),
        box((-right - 0.01, right + 0.01), (0, depth - 0.01), (height - 0.025, height), label, body),
        box((0.03 - right, right - 0.03), (0.02, depth - 0.08), (0, 0.05), label, body),
    ]
    z = (0.07, height - 0.035)
    solids += fronts((-right, right), (depth - 0.045, depth - 0.02), z, (columns, rows), label, body)
    for column in range(columns):
        for row in range(rows):
            x, high = -right + (column + 0.5) * width / columns, z[0] + (row + 0.5) * (z[1] - z[0]) / rows
            solids.append(box((x - 0.05, x + 0.05), (depth - 0.02, depth), (high - 0.01, high + 0.01), label, knob))
    return Piece(tuple(solids), width + 0.02, depth, height, top=True)


def sideboard(make: Maker, name: str) -> Piece:
    """A low, wide cabinet on legs, with doors."""
    label, body, legs = make.label(name), make.finish(name), make.finish(name)
    width, depth, height = make.between(1.0, 1.6), make.between(0.36, 0.44), make.between(0.45, 0.75)
    right, low = width / 2, make.between(0.08, 0.16, False)
    solids = [box((-right, right), (0, depth - 0.02), (low, height), label, body)]
    solids += fronts((-right, right), (depth - 0.02, depth), (low + 0.01, height - 0.03), (3, 1), label, body)
    solids += four_legs(width - 0.1, (0.04, depth - 0.06), low, 0.05, label, legs)
    return Piece(tuple(solids), width, depth, height, top=True)


def tall_cupboard(make: Maker, name: str) -> Piece:
    """A narrow cupboard with a door above another."""
    label, body = make.label(name), make.finish(name)
    width, depth, height = make.between(0.36, 0.52), make.between(0.3, 0.4), make.between(1.3, 1.8)
    x = (-width / 2, width / 2)
    solids = [box(x, (0, depth - 0.02), (0, height), label, body)]
    front = make.finish(name) if make.chance(0.5) else body
    solids += fronts(x, (depth - 0.02, depth), (0.08, height - 0.02), (1, 2), label, front)
    return Piece(tuple(solids), width, depth, height)


def desk_with_hutch(make: Maker, name: str) -> Piece:
    """A desk on two panels with a shelf over its back edge."""
    label, finish = make.label(name), make.finish(name)
    width, depth, height = make.between(1.0, 1.5), make.between(0.58, 0.72), make.between(0.7, 0.76)
    right, over = width / 2, height + make.between(0.3, 0.45)
    solids = [
        box((-right, right), (0, depth), (height - 0.035, height), label, finish, bare_below=False),
        box((-right, 0.03 - right), (0.02, depth - 0.04), (0, height - 0.035), label, finish),
        box((right - 0.03, right), (0.02, depth - 0.04), (0, height - 0.035), label, finish),
        box((0.03 - right, right - 0.03), (0.02, 0.04), (0.25, height - 0.035), label, finish),
        box((-right, 0.025 - right), (0, 0.24), (height, over), label, finish),
        box((right - 0.025, right), (0, 0.24), (height, over), label, finish),
        box((-right, right), (0, 0.24), (over, over + 0.025), label, finish, bare_below=False),
        box((0.025 - right, right - 0.025), (0, 0.015), (height, over), label, finish),
    ]
    return Piece(tuple(solids), width, depth, over + 0.025)

"""Counters, with the cabinets below and above them and the sink let into them, and refrigerators.

Knows shapes and sizes; knows no room.
"""

from __future__ import annotations

from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.homes.basins import bowl, tap
from workers.scenes.rooms.homes.cabinets import fronts
from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.solids import Solid, Span, box

_DEPTH_M = 0.6
_SLAB_M = 0.045


def kitchen_unit(make: Maker, cabinet: bool, sink: bool) -> Piece:
    """A counter along a wall: a slab with an upstand.

    Args:
        make: draws it.
        cabinet: it lies on cabinets, and some hang above it; else on panels with a shelf.
        sink: a sink is let into it.
    """
    label, top = make.label("counter"), make.finish("counter")
    width, high = make.between(1.3, 2.3), make.between(0.86, 0.93, False)
    x, below = (-width / 2, width / 2), high - _SLAB_M
    hole: tuple[Span, Span] | None = None
    if sink:
        wide = make.between(0.46, 0.66, False)
        left = float(make.rng.uniform(x[0] + 0.15, x[1] - 0.15 - wide))
        hole = ((left, left + wide), (0.13, 0.52))
    solids = _around(x, (0, _DEPTH_M + 0.02), (below, high), hole, label, top)
    if cabinet:
        solids += _cabinets(make, x, below, hole)
    else:
        solids += _panels(x, below, label, make.finish("counter"))
    if hole is not None:
        basin, steel = make.label("sink"), make.finish("sink")
        solids += bowl(hole[0], hole[1], (high - 0.19, high + 0.008), 0.02, basin, steel)
        solids += tap(sum(hole[0]) / 2, 0.09, high, 0.2, basin, make.finish("sink"))
    upstand = make.between(0.06, 0.12, False) if make.chance(0.5) else make.between(0.3, 0.45, False)
    solids.append(box(x, (0, 0.02), (high, high + upstand), label, top))
    height = high + upstand
    if cabinet and make.chance(0.6):
        height = make.between(2.0, 2.15, False)
        solids += _hung(make, x, (max(1.4, high + upstand + 0.03), height))
    return Piece(tuple(solids), width, _DEPTH_M + 0.02, height, top=not (sink or height > 1.5))


def _around(x: Span, y: Span, z: Span, hole: tuple[Span, Span] | None, label: int, finish: Finish) -> list[Solid]:
    """A block with a hole through it from top to bottom, or without one."""
    if hole is None:
        return [box(x, y, z, label, finish)]
    (left, right), (back, front) = hole
    return [
        box((x[0], left), y, z, label, finish),
        box((right, x[1]), y, z, label, finish),
        box((left, right), (y[0], back), z, label, finish),
        box((left, right), (front, y[1]), z, label, finish),
    ]


def _cabinets(make: Maker, x: Span, below: float, hole: tuple[Span, Span] | None) -> list[Solid]:
    """Base cabinets with a set-back plinth; under a sink they leave room for its bowl."""
    label, body = make.label("cabinet"), make.finish("cabinet")
    front = make.finish("cabinet") if make.chance(0.3) else body
    low, y = 0.1, (0.0, _DEPTH_M - 0.02)
    solids = [box(x, (0, _DEPTH_M - 0.08), (0, low), label, body)]
    if hole is None:
        solids.append(box(x, y, (low, below), label, body))
    else:
        floor = below + _SLAB_M - 0.19
        solids += [box(x, y, (low, floor), label, body), *_around(x, y, (floor, below), hole, label, body)]
    doors = max(2, round((x[1] - x[0]) / make.between(0.45, 0.6, False)))
    if make.chance(0.5):
        split = below - 0.2
        solids += fronts(x, (y[1], _DEPTH_M), (split, below - 0.01), (doors, 1), label, front)
        solids += fronts(x, (y[1], _DEPTH_M), (low, split), (doors, 1), label, front)
    else:
        solids += fronts(x, (y[1], _DEPTH_M), (low, below - 0.01), (doors, 1), label, front)
    return solids


def _panels(x: Span, below: float, label: int, finish: Finish) -> list[Solid]:
    """Two end panels, one between, and a shelf."""
    middle = (x[0] + x[1]) / 2
    ends = ((x[0], x[0] + 0.04), (middle - 0.02, middle + 0.02), (x[1] - 0.04, x[1]))
    solids = [box(end, (0.0, _DEPTH_M), (0, below), label, finish) for end in ends[::2]]
    # the middle one ends below a sink's bowl
    solids.append(box(ends[1], (0.0, _DEPTH_M), (0, below - 0.2), label, finish))
    shelves = ((x[0] + 0.04, middle - 0.02), (middle + 0.02, x[1] - 0.04))
    solids += [box(shelf, (0.02, _DEPTH_M - 0.05), (0.25, 0.28), label, finish) for shelf in shelves]
    return solids


def _hung(make: Maker, x: Span, z: Span) -> list[Solid]:
    """Cabinets on the wall above a counter, as wide as it or shorter."""
    label, body = make.label("cabinet"), make.finish("cabinet")
    wide = (x[1] - x[0]) * make.between(0.5, 1.0, False)
    span = (x[0], x[0] + wide) if make.chance(0.5) else (x[1] - wide, x[1])
    depth, doors = make.between(0.3, 0.36, False), max(1, round(wide / 0.5))
    solids = [box(span, (0, depth), z, label, body, bare_below=False)]
    solids += fronts(span, (depth, depth + 0.02), (z[0], z[1]), (doors, 1), label, body)
    return solids


def fridge_freezer(make: Maker, name: str) -> Piece:
    """A tall refrigerator with two doors, one above the other, and bar handles."""
    label, body, handle = make.label(name), make.finish(name), make.finish(name)
    width, depth, height = make.between(0.58, 0.68), make.between(0.58, 0.66), make.between(1.45, 1.75)
    x, split = (-width / 2, width / 2), height * make.between(0.38, 0.7, False)
    door = (depth - 0.095, depth - 0.04)
    solids = [
        box(x, (0, depth - 0.1), (0.04, height), label, body),
        box((x[0] + 0.04, x[1] - 0.04), (0.03, depth - 0.15), (0, 0.04), label, body),
        box(x, door, (0.08, split - 0.006), label, body),
        box(x, door, (split + 0.006, height), label, body),
    ]
    at = x[0] + 0.04 if make.chance(0.5) else x[1] - 0.065
    for z in ((split - 0.36, split - 0.06), (split + 0.06, min(split + 0.3, height - 0.04))):
        solids.append(box((at, at + 0.025), (door[1], depth), z, label, handle))
    return Piece(tuple(solids), width, depth, height)


def small_refrigerator(make: Maker, name: str) -> Piece:
    """A refrigerator of a counter's height, with one door."""
    label, body = make.label(name), make.finish(name)
    width, depth, height = make.between(0.5, 0.6), make.between(0.52, 0.6), make.between(0.8, 0.95)
    x = (-width / 2, width / 2)
    solids = (
        box(x, (0, depth - 0.09), (0.03, height), label, body),
        box(x, (depth - 0.085, depth - 0.03), (0.06, height - 0.03), label, body),
        box((x[0] + 0.05, x[1] - 0.05), (0.04, depth - 0.12), (0, 0.03), label, body),
        box((x[0] + 0.03, x[0] + 0.2), (depth - 0.03, depth), (height - 0.1, height - 0.07), label, make.finish(name)),
    )
    return Piece(solids, width, depth, height, top=True)

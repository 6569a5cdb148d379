"""Chairs and sofas: each design as a function that makes a piece in its own frame (see `maker.Piece`).

Knows shapes and sizes; knows no room.
"""

from __future__ import annotations

import numpy as np

from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.maker import Maker, Piece, four_legs
from workers.scenes.rooms.solids import Solid, box, cylinder, rotation, turned


def _back(width: float, low: float, high: float, thick: float, label: int, finish: Finish, tilt: float) -> Solid:
    """A back rest that leans away from the seat."""
    upright = box((-width / 2, width / 2), (0.06, 0.06 + thick), (low, high), label, finish)
    return turned(upright, rotation("x", tilt), (0.0, 0.06, low))


def four_legged_chair(make: Maker, name: str) -> Piece:
    """A chair on four legs with a leaning back."""
    label, seat, frame = make.label(name), make.finish(name), make.finish(name)
    width, depth = make.between(0.42, 0.5), make.between(0.42, 0.48)
    height, high = make.between(0.42, 0.47), make.between(0.78, 0.92)
    depth += 0.06
    solids = [box((-width / 2, width / 2), (0.06, depth), (height - 0.05, height), label, seat)]
    solids += four_legs(width, (0.06, depth), height - 0.05, 0.04, label, frame)
    solids.append(_back(width, height + make.between(0.0, 0.12), high, 0.045, label, seat, make.between(5, 11, False)))
    if make.chance(0.3):
        for x in (-width / 2, width / 2 - 0.04):
            solids.append(box((x, x + 0.04), (0.12, depth - 0.05), (0.62, 0.65), label, frame))
            solids.append(box((x, x + 0.04), (depth - 0.12, depth - 0.08), (height, 0.62), label, frame))
    return Piece(tuple(solids), width, depth, high)


def office_chair(make: Maker, name: str) -> Piece:
    """A swivel chair: five spokes, a post, a seat, a back."""
    label, seat, frame = make.label(name), make.finish(name), make.finish(name)
    width, height, high = make.between(0.46, 0.54), make.between(0.42, 0.5), make.between(0.88, 1.05)
    middle = 0.06 + width / 2
    solids = [
        box((-width / 2, width / 2), (0.06, 0.06 + width), (height - 0.08, height), label, seat),
        cylinder(0, middle, (0.1, height - 0.08), 0.035, label, frame),
        _back(width * 0.92, height + 0.1, high, 0.06, label, seat, make.between(4, 9, False)),
        box((-0.035, 0.035), (0.0, 0.055), (height - 0.06, height + 0.2), label, frame),
    ]
    turn = make.between(0, 72, False)
    for spoke in range(5):
        arm = box((0.0, 0.3), (-0.025, 0.025), (0.05, 0.095), label, frame)
        solids.append(arm.moved(rotation("z", turn + 72.0 * spoke), np.array([0.0, middle, 0.0])))
    if make.chance(0.5):
        for x in (-width / 2 - 0.03, width / 2 - 0.01):
            solids.append(box((x, x + 0.04), (0.15, width), (height + 0.19, height + 0.22), label, frame))
            solids.append(box((x, x + 0.04), (0.25, 0.3), (height, height + 0.19), label, frame))
    return Piece(tuple(solids), max(width + 0.1, 0.6), max(width + 0.06, middle + 0.3), high)


def stool_with_back(make: Maker, name: str) -> Piece:
    """A shell chair: a thick round seat on a sledge, with a low back."""
    label, seat, frame = make.label(name), make.finish(name), make.finish(name)
    radius, height = make.between(0.2, 0.25), make.between(0.42, 0.5)
    solids = (
        cylinder(0, 0.06 + radius, (height - 0.06, height), radius, label, seat),
        cylinder(0, 0.06 + radius, (0.02, height - 0.06), 0.03, label, frame),
        cylinder(0, 0.06 + radius, (0, 0.02), 0.2, label, frame),
        _back(1.5 * radius, height + 0.02, height + make.between(0.25, 0.35), 0.04, label, seat, 6.0),
    )
    return Piece(solids, 2 * radius, 0.06 + 2 * radius, height + 0.35)


def sofa(make: Maker, name: str) -> Piece:
    """A sofa with arms and cushions."""
    label, cover, cushion = make.label(name), make.finish(name), make.finish(name)
    width, depth, seat = make.between(1.15, 1.9), make.between(0.75, 0.88), make.between(0.36, 0.42)
    high, arm = make.between(0.7, 0.85), make.between(0.12, 0.2)
    right, back = width / 2, make.between(0.18, 0.25)
    solids = [
        box((-right, right), (0, back), (0.05, high), label, cover),
        box((-right, arm - right), (back, depth), (0.05, seat + 0.18), label, cover),
        box((right - arm, right), (back, depth), (0.05, seat + 0.18), label, cover),
        box((arm - right, right - arm), (back, depth - 0.02), (0.05, seat - 0.1), label, cover),
    ]
    seats = 2 if width < 1.6 else 3
    each = (width - 2 * arm) / seats
    for k in range(seats):
        left = arm - right + k * each
        solids.append(box((left + 0.01, left + each - 0.01), (back, depth), (seat - 0.1, seat), label, cushion))
    return Piece(tuple(solids), width, depth, high)


def armchair(make: Maker, name: str) -> Piece:
    """A deep upholstered chair of the sofa's family, for one or two."""
    label, cover, cushion = make.label(name), make.finish(name), make.finish(name)
    width, depth, seat = make.between(0.85, 1.1), make.between(0.75, 0.85), make.between(0.36, 0.42)
    right, high = width / 2, make.between(0.68, 0.8)
    solids = (
        box((-right, right), (0, 0.2), (0.06, high), label, cover),
        cylinder(-right + 0.1, 0.3, (0.06, seat + 0.2), 0.1, label, cover),
        cylinder(right - 0.1, 0.3, (0.06, seat + 0.2), 0.1, label, cover),
        box((-right, 0.2 - right), (0.3, depth), (0.06, seat + 0.17), label, cover),
        box((right - 0.2, right), (0.3, depth), (0.06, seat + 0.17), label, cover),
        box((0.2 - right, right - 0.2), (0.2, depth), (0.06, seat), label, cushion),
    )
    return Piece(solids, width, depth, high)

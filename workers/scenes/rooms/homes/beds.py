"""Beds, and what stands about in homes: ottomans, baskets, benches (see `maker.Piece`).

Knows shapes and sizes; knows no room.
"""

from __future__ import annotations

from workers.scenes.rooms.homes.basins import bowl
from workers.scenes.rooms.maker import Maker, Piece, four_legs
from workers.scenes.rooms.solids import box, cylinder


def bed(make: Maker, name: str) -> Piece:
    """A bed with its head to the wall: frame on legs or a divan, mattress, pillows, a blanket over the lower part."""
    label, frame, sheet, blanket = make.label(name), make.finish(name), make.finish(name), make.finish(name)
    double = make.chance(0.5)
    width, depth = make.between(1.3, 1.55) if double else make.between(0.86, 1.0), make.between(1.85, 2.0)
    right, low, top = width / 2, make.between(0.24, 0.32), make.between(0.44, 0.54)
    head = make.between(0.8, 1.1)
    solids = [box((-right, right), (0, 0.06), (0, head), label, frame)]
    if make.chance(0.5):
        solids.append(box((-right, right), (0.06, depth), (0.14, low), label, frame))
        solids += four_legs(width, (0.06, depth), 0.14, 0.07, label, frame)
    else:
        solids.append(box((0.01 - right, right - 0.01), (0.06, depth - 0.01), (0.0, low), label, frame))
    solids.append(box((0.02 - right, right - 0.02), (0.06, depth - 0.02), (low, top), label, sheet))
    start = make.between(0.5, 1.1, False)
    over, fall = (top, top + make.between(0.025, 0.06, False)), low + make.between(0.0, 0.12, False)
    solids.append(box((-right, right), (start, depth), over, label, blanket))
    solids += [box((x, x + 0.02), (start, depth - 0.02), (fall, top), label, blanket) for x in (-right, right - 0.02)]
    solids.append(box((-right, right), (depth - 0.02, depth), (fall, top), label, blanket))
    for x in (-width / 4, width / 4) if double else (0.0,):
        y = make.between(0.08, 0.14, False)
        solids.append(box((x - 0.27, x + 0.27), (y, y + 0.32), (top, top + 0.11), label, sheet))
    return Piece(tuple(solids), width, depth, head)


def ottoman(make: Maker, name: str) -> Piece:
    """A padded block to put feet on, square or round."""
    label, cover, high = make.label(name), make.finish(name), make.between(0.36, 0.46)
    if make.chance(0.4):
        radius = make.between(0.22, 0.3)
        round_one = cylinder(0, radius, (0.0, high), radius, label, cover)
        return Piece((round_one,), 2 * radius, 2 * radius, high)
    width, depth = make.between(0.42, 0.8), make.between(0.4, 0.5)
    solids = [box((-width / 2, width / 2), (0, depth), (0.08, high), label, cover)]
    solids += four_legs(width - 0.04, (0.02, depth - 0.02), 0.08, 0.05, label, make.finish(name))
    return Piece(tuple(solids), width, depth, high)


def basket(make: Maker, name: str) -> Piece:
    """A laundry basket, open at the top."""
    width, depth, high = make.between(0.34, 0.5), make.between(0.3, 0.4), make.between(0.45, 0.65)
    solids = bowl((-width / 2, width / 2), (0, depth), (0, high), 0.025, make.label(name), make.finish(name))
    return Piece(tuple(solids), width, depth, high)


def bench(make: Maker, name: str) -> Piece:
    """A plank on two panels."""
    label, finish = make.label(name), make.finish(name)
    width, depth, high = make.between(0.8, 1.2), make.between(0.3, 0.38), make.between(0.42, 0.48)
    right = width / 2
    solids = [box((-right, right), (0, depth), (high - 0.045, high), label, finish)]
    solids += [
        box((x, x + 0.05), (0.03, depth - 0.03), (0, high - 0.045), label, finish) for x in (0.08 - right, right - 0.13)
    ]
    return Piece(tuple(solids), width, depth, high)

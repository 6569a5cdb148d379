"""Bookcases and clutter: each design as a function that makes a piece in its own frame (see `maker.Piece`).

Knows shapes and sizes; knows no room.
"""

from __future__ import annotations

import numpy as np

from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.solids import box, cylinder, rotation, turned


def bookcase(make: Maker, name: str) -> Piece:
    """Shelves between two sides and a back, filled with books in part."""
    label, finish = make.label(name), make.finish(name)
    width, depth = make.between(0.7, 1.2), make.between(0.26, 0.36)
    height, thick = make.between(1.2, 2.0), 0.03
    right, count = width / 2, 3 if height < 1.5 else 4 if height < 1.85 else 5
    solids = [
        box((-right, thick - right), (0, depth), (0, height), label, finish),
        box((right - thick, right), (0, depth), (0, height), label, finish),
        box((thick - right, right - thick), (0, 0.02), (0, height), label, finish),
    ]
    for level in np.linspace(0.06, height - thick, count + 1):
        z = (float(level), float(level) + thick)
        solids.append(box((thick - right, right - thick), (0.02, depth), z, label, finish, bare_below=level < 0.1))
    gap = (height - thick - 0.06) / count - thick
    for level in np.linspace(0.06, height - thick, count + 1)[:-1]:
        left = thick - right
        while left < right - 0.15:
            run = make.between(0.1, 0.4, False)
            if make.chance(0.75):
                x = (left + 0.004, min(left + run, right - thick - 0.004))
                low = float(level) + thick
                y, tall = make.between(0.6, 0.85, False) * depth, make.between(0.5, 0.85, False)
                solids.append(box(x, (0.02, y), (low, low + tall * gap), label, make.finish(name)))
            left += run
    return Piece(tuple(solids), width, depth, height, top=height < 1.6)


def carton(make: Maker, name: str) -> Piece:
    """A cardboard box, or two stacked."""
    label = make.label(name)
    width, depth, height = make.between(0.22, 0.45), make.between(0.2, 0.38), make.between(0.15, 0.35)
    solids = [box((-width / 2, width / 2), (0, depth), (0, height), label, make.finish(name))]
    if make.chance(0.35):
        top = height + make.between(0.12, 0.25)
        upper = box((-width * 0.4, width * 0.35), (0.03, depth * 0.9), (height, top), label, make.finish(name))
        solids.append(turned(upper, rotation("z", make.between(-6, 6, False)), (0.0, depth / 2, height)))
        height = top
    return Piece(tuple(solids), width, depth, height)


def bin_or_pot(make: Maker, name: str) -> Piece:
    """A waste bin, or a plant in a pot."""
    label = make.label(name)
    radius, height = make.between(0.11, 0.17), make.between(0.26, 0.4)
    solids = [cylinder(0, radius, (0, height), radius, label, make.finish(name))]
    if make.chance(0.4):
        leaf = make.finish(name)
        solids.append(cylinder(0, radius, (height, height + 0.25), 0.02, label, leaf))
        solids.append(cylinder(0, radius, (height + 0.15, height + 0.45), radius * 1.1, label, leaf))
        height += 0.45
    return Piece(tuple(solids), 2 * radius, 2 * radius, height)


def monitor(make: Maker, name: str) -> Piece:
    """A screen on a stand, with a keyboard before it."""
    label, case, stand = make.label(name), make.finish(name), make.finish(name)
    width, height = make.between(0.42, 0.62), make.between(0.28, 0.36)
    solids = (
        box((-width / 2, width / 2), (0.08, 0.115), (0.1, 0.1 + height), label, case, bare_below=False),
        box((-0.04, 0.04), (0.05, 0.08), (0.012, 0.3), label, stand),
        box((-0.12, 0.12), (0.02, 0.2), (0, 0.012), label, stand),
        box((-0.21, 0.21), (0.26, 0.38), (0, 0.022), label, make.finish(name)),
    )
    return Piece(solids, width, 0.38, 0.1 + height)


def books_and_papers(make: Maker, name: str) -> Piece:
    """A stack of books or folders."""
    label, solids, top = make.label(name), [], 0.0
    width, depth = make.between(0.2, 0.3), make.between(0.15, 0.22)
    for _ in range(int(make.rng.integers(2, 6))):
        high = top + make.between(0.02, 0.06)
        book = box((-width / 2, width / 2), (0, depth), (top, high), label, make.finish(name))
        solids.append(turned(book, rotation("z", make.between(-12, 12, False)), (0.0, depth / 2, 0.0)))
        top = high
    return Piece(tuple(solids), width + 0.04, depth + 0.04, top)


def cans_and_cups(make: Maker, name: str) -> Piece:
    """A group of small cylinders: cups, bottles, a lamp's foot."""
    label, solids, tallest = make.label(name), [], 0.0
    for k in range(int(make.rng.integers(1, 4))):
        radius, high = make.between(0.03, 0.06), make.between(0.08, 0.3)
        solids.append(cylinder(0.13 * k - 0.13, 0.07, (0, high), radius, label, make.finish(name)))
        tallest = max(tallest, high)
    return Piece(tuple(solids), 0.42, 0.14, tallest)

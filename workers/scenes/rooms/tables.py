"""Tables: each design as a function that makes a piece in its own frame (see `maker.Piece`).

Knows shapes and sizes; knows no room.
"""

from __future__ import annotations

from workers.scenes.rooms.maker import Maker, Piece, four_legs
from workers.scenes.rooms.solids import box, cylinder


def desk_with_legs(make: Maker, name: str) -> Piece:
    """A desk on four legs."""
    label, top, frame = make.label(name), make.finish(name), make.finish(name)
    width, depth, height = make.between(0.9, 1.7), make.between(0.6, 0.8), make.between(0.68, 0.76)
    thick = make.between(0.025, 0.05)
    solids = [box((-width / 2, width / 2), (0, depth), (height - thick, height), label, top, bare_below=True)]
    solids += four_legs(width - 0.06, (0.03, depth - 0.03), height - thick, make.between(0.04, 0.07), label, frame)
    return Piece(tuple(solids), width, depth, height, top=True)


def desk_with_panels(make: Maker, name: str) -> Piece:
    """A desk on two side panels, with drawers on one side."""
    label, finish = make.label(name), make.finish(name)
    width, depth, height = make.between(1.0, 1.6), make.between(0.6, 0.8), make.between(0.68, 0.76)
    right, thick = width / 2, 0.035
    below = height - thick
    solids = [
        box((-right, right), (0, depth), (below, height), label, finish),
        box((-right, thick - right), (0.02, depth - 0.02), (0, below), label, finish),
        box((thick - right, right - 0.42), (0.05, 0.07), (0.3, below), label, finish),
        box((right - 0.42, right), (0.02, depth - 0.02), (0, below), label, finish),
    ]
    return Piece(tuple(solids), width, depth, height, top=True)


def round_table(make: Maker, name: str) -> Piece:
    """A round table on one post."""
    label, top, post = make.label(name), make.finish(name), make.finish(name)
    radius, height = make.between(0.38, 0.55), make.between(0.66, 0.76)
    solids = (
        cylinder(0, radius, (height - 0.035, height), radius, label, top),
        cylinder(0, radius, (0.03, height - 0.035), 0.05, label, post),
        cylinder(0, radius, (0, 0.03), radius * 0.55, label, post),
    )
    return Piece(solids, 2 * radius, 2 * radius, height, top=True)


def low_table(make: Maker, name: str) -> Piece:
    """A coffee table with a shelf."""
    label, finish = make.label(name), make.finish(name)
    width, depth, height = make.between(0.8, 1.2), make.between(0.45, 0.65), make.between(0.38, 0.48)
    right = width / 2
    solids = [
        box((-right, right), (0, depth), (height - 0.04, height), label, finish),
        box((0.06 - right, right - 0.06), (0.06, depth - 0.06), (0.12, 0.15), label, finish),
    ]
    solids += four_legs(width, (0, depth), height - 0.04, 0.06, label, finish)
    return Piece(tuple(solids), width, depth, height, top=True)

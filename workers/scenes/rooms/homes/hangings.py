"""What hangs: curtains at windows, shower curtains at tubs and in corners, pictures on walls.

Knows shapes, and walls by their frame (see `shell`); knows no room.
"""

from __future__ import annotations

import numpy as np

from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.shell import Wall
from workers.scenes.rooms.solids import Solid, Span, box, quarter_turn, rotation, turned

REACH_M = 0.16
"""How far a curtain and its rod stand into the room."""


def pleats(x: Span, y: float, z: Span, fold: tuple[float, float, float], label: int, finish: Finish) -> list[Solid]:
    """Cloth in folds about the line y, between two ends and two heights: thin boxes turned to and fro.

    Args:
        x: from, to.
        y: of the middle of the cloth.
        z: lowest and highest.
        fold: least width of half a fold, metres; its turn, degrees; thickness of the cloth, metres.
        label: of the cloth.
        finish: of the cloth.
    """
    width, degrees, thick = fold
    count = max(1, int((x[1] - x[0]) / width))
    step = (x[1] - x[0]) / count
    half = step / 2 / float(np.cos(np.deg2rad(degrees)))
    solids = []
    for k in range(count):
        middle = x[0] + (k + 0.5) * step
        flat = box((middle - half, middle + half), (y - thick / 2, y + thick / 2), z, label, finish)
        solids.append(turned(flat, rotation("z", degrees if k % 2 else -degrees), (middle, y, 0.0)))
    return solids


def curtain(make: Maker, wall: Wall, window: tuple[Span, Span], height: float, instance: int) -> list[Solid]:
    """A curtain on a rod before a window: a panel to each side, or one that is drawn; to the floor or below the sill.

    Args:
        make: draws it.
        wall: that the window is in.
        window: (from, to) along the wall and (lowest, highest) of the window.
        height: of the room.
        instance: its number.
    """
    label, cloth, (s, z) = make.label("curtain"), make.finish("curtain"), window
    over = min(z[1] + make.between(0.08, 0.16, False), height - 0.06)
    below = make.between(0.02, 0.06, False) if make.chance(0.6) else max(0.02, z[0] - make.between(0.05, 0.15, False))
    ends = (max(0.04, s[0] - 0.2), min(wall.length - 0.04, s[1] + 0.2))
    each = (ends[1] - ends[0]) * make.between(0.22, 0.34, False)
    if make.chance(0.75):
        panels = [(ends[0], ends[0] + each), (ends[1] - each, ends[1])]
    else:
        drawn = (ends[1] - ends[0]) * make.between(0.5, 0.8, False)
        panels = [(ends[0], ends[0] + drawn) if make.chance(0.5) else (ends[1] - drawn, ends[1])]
    fold = (make.between(0.035, 0.055, False), make.between(30, 42, False), 0.01)
    solids = [
        solid
        for panel in panels
        for solid in pleats((panel[0] + 0.01, panel[1] - 0.01), 0.09, (below, over - 0.015), fold, label, cloth)
    ]
    solids.append(box(ends, (0.078, 0.102), (over - 0.015, over + 0.01), label, make.finish("curtain")))
    return [wall.place(solid, instance) for solid in solids]


def picture(make: Maker, wall: Wall, s: Span, z: Span, instance: int) -> list[Solid]:
    """A picture, 2 to 4 cm thick: its face, and a frame a little thicker."""
    label, thick, rim = make.label("picture"), make.between(0.025, 0.04, False), make.between(0.02, 0.05, False)
    face, frame = make.finish("picture"), make.finish("picture")
    inner = (z[0] + rim, z[1] - rim)
    solids = [
        box((s[0] + rim, s[1] - rim), (0.0, thick - 0.005), inner, label, face, bare_below=False),
        box(s, (0.0, thick), (z[0], inner[0]), label, frame, bare_below=False),
        box(s, (0.0, thick), (inner[1], z[1]), label, frame, bare_below=False),
        box((s[0], s[0] + rim), (0.0, thick), inner, label, frame),
        box((s[1] - rim, s[1]), (0.0, thick), inner, label, frame),
    ]
    return [wall.place(solid, instance) for solid in solids]


def _cloth(make: Maker) -> tuple[Finish, tuple[float, float, float]]:
    return make.finish("shower curtain"), (make.between(0.1, 0.16, False), make.between(10, 17, False), 0.008)


def before_tub(make: Maker, tub: Piece) -> Piece:
    """The tub with a shower curtain on a rail before it, drawn in part."""
    label, (cloth, fold) = make.label("shower curtain"), _cloth(make)
    right, line, over = tub.width / 2, tub.depth + 0.035, make.between(1.9, 2.05, False)
    drawn = tub.width * make.between(0.35, 0.85, False)
    span = (-right + 0.01, drawn - right) if make.chance(0.5) else (right - drawn, right - 0.01)
    solids = pleats(span, line, (make.between(0.08, 0.2, False), over - 0.012), fold, label, cloth)
    solids.append(box((-right, right), (line - 0.012, line + 0.012), (over - 0.012, over + 0.012), label, cloth))
    return Piece((*tub.solids, *solids), tub.width, tub.depth + 0.075, over + 0.012)


def shower_corner(make: Maker, name: str) -> Piece:
    """A shower without a tub: a rail around a square of floor with curtains on three sides of it."""
    label, (cloth, fold) = make.label(name), _cloth(make)
    side, over, low = make.between(0.82, 1.0, False), make.between(1.9, 2.05, False), make.between(0.08, 0.2, False)
    right, line = side / 2, side - 0.04
    drawn = make.between(0.45, 0.95, False) * (side - 0.16)
    front = (0.08 - right, 0.08 - right + drawn)
    solids = pleats(front, line, (low, over - 0.012), fold, label, cloth)
    solids.append(box((-right, right), (line - 0.012, line + 0.012), (over - 0.012, over + 0.012), label, cloth))
    for sign in (-1.0, 1.0):
        along = make.between(0.5, 0.95, False) * (side - 0.2)
        lengthwise = pleats((0.06, 0.06 + along), sign * (right - 0.04), (low, over - 0.012), fold, label, cloth)
        solids += [_lengthwise(solid, sign * (right - 0.04)) for solid in lengthwise]
        x = (sign * (right - 0.04) - 0.012, sign * (right - 0.04) + 0.012)
        solids.append(box(x, (0.0, line - 0.012), (over - 0.012, over + 0.012), label, cloth))
    return Piece(tuple(solids), side, side, over + 0.012)


def _lengthwise(solid: Solid, x: float) -> Solid:
    """Cloth that was made along x about the line y = x, turned to run along y about the line x."""
    return solid.moved(quarter_turn(1), np.array([2 * x, 0.0, 0.0]))

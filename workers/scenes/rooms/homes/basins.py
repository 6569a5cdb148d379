"""Things that hold water, and how they are let in: bowls of boxes, sinks, bathtubs, toilets (see `maker.Piece`).

Knows shapes and sizes; knows no room.
"""

from __future__ import annotations

from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.solids import Solid, Span, box, cylinder, rotation, turned


def bowl(x: Span, y: Span, z: Span, wall: float, label: int, finish: Finish) -> list[Solid]:
    """An open box: four walls of that thickness and a bottom of the same."""
    inner = (y[0] + wall, y[1] - wall)
    return [
        box(x, (y[0], inner[0]), z, label, finish),
        box(x, (inner[1], y[1]), z, label, finish),
        box((x[0], x[0] + wall), inner, z, label, finish),
        box((x[1] - wall, x[1]), inner, z, label, finish),
        box((x[0] + wall, x[1] - wall), inner, (z[0], z[0] + wall), label, finish),
    ]


def tap(x: float, y: float, z: float, reach: float, label: int, finish: Finish) -> list[Solid]:
    """A post at (x, y) from the height z, and a spout to the front of it."""
    return [
        cylinder(x, y, (z, z + 0.16), 0.018, label, finish),
        box((x - 0.014, x + 0.014), (y + 0.018, y + reach), (z + 0.125, z + 0.15), label, finish),
    ]


def pedestal_sink(make: Maker, name: str) -> Piece:
    """A basin on a column, or hung on the wall with its trap below."""
    label, finish = make.label(name), make.finish(name)
    width, depth, high = make.between(0.48, 0.62), make.between(0.42, 0.5), make.between(0.8, 0.88, False)
    low = high - make.between(0.15, 0.2, False)
    solids = bowl((-width / 2, width / 2), (0.09, depth), (low, high), 0.035, label, finish)
    solids.append(box((-width / 2, width / 2), (0.0, 0.09), (low, high + 0.015), label, finish))
    if make.chance(0.6):
        solids.append(cylinder(0, depth / 2, (0, low), make.between(0.07, 0.1), label, finish))
    else:
        solids.append(cylinder(0, 0.16, (low - 0.25, low), 0.03, label, make.finish(name)))
        solids.append(box((-0.025, 0.025), (0.0, 0.13), (low - 0.24, low - 0.19), label, make.finish(name)))
    solids += tap(0, 0.05, high + 0.015, 0.12, label, make.finish(name))
    return Piece(tuple(solids), width, depth, high + 0.18)


def vanity(make: Maker, name: str) -> Piece:
    """A basin that stands on a cabinet with doors."""
    label, finish = make.label(name), make.finish(name)
    wood, body = make.label("cabinet"), make.finish("cabinet")
    width, depth, top = make.between(0.6, 0.85), make.between(0.44, 0.52), make.between(0.68, 0.74, False)
    right, high = width / 2, top + make.between(0.12, 0.16, False)
    solids = [
        box((-right, right), (0, depth - 0.02), (0.12, top), wood, body),
        box((0.06 - right, right - 0.06), (0.02, depth - 0.08), (0, 0.12), wood, body),
        box((0.01 - right, -0.004), (depth - 0.02, depth), (0.14, top - 0.02), wood, body),
        box((0.004, right - 0.01), (depth - 0.02, depth), (0.14, top - 0.02), wood, body),
    ]
    solids += bowl((0.02 - right, right - 0.02), (0.1, depth - 0.01), (top, high), 0.03, label, finish)
    solids.append(box((0.02 - right, right - 0.02), (0, 0.1), (top, high), label, finish))
    solids += tap(0, 0.06, high, 0.13, label, make.finish(name))
    return Piece(tuple(solids), width, depth, high + 0.18)


def bathtub(make: Maker, name: str) -> Piece:
    """A tub along a wall: clad to the floor with a rim that juts out, or on feet."""
    label, finish = make.label(name), make.finish(name)
    width, depth, high = make.between(1.4, 1.6), make.between(0.66, 0.76), make.between(0.48, 0.58)
    x = (-width / 2, width / 2)
    if make.chance(0.65):
        solids = bowl((x[0] + 0.01, x[1] - 0.01), (0.0, depth - 0.015), (0.0, high - 0.035), 0.075, label, finish)
        rim, z = make.finish(name) if make.chance(0.3) else finish, (high - 0.035, high)
        solids += [
            box(x, (0.0, 0.09), z, label, rim),
            box(x, (depth - 0.1, depth), z, label, rim),
            box((x[0], x[0] + 0.1), (0.09, depth - 0.1), z, label, rim),
            box((x[1] - 0.1, x[1]), (0.09, depth - 0.1), z, label, rim),
        ]
    else:
        solids = bowl(x, (0.02, depth), (0.1, high), 0.06, label, finish)
        feet = make.finish(name)
        solids += [
            cylinder(end, y, (0, 0.1), 0.035, label, feet)
            for end in (x[0] + 0.12, x[1] - 0.12)
            for y in (0.14, depth - 0.12)
        ]
    solids += tap(x[0] + 0.3, 0.045, high, 0.16, label, make.finish(name))
    return Piece(tuple(solids), width, depth, high + 0.18)


def toilet_with_tank(make: Maker, name: str) -> Piece:
    """A toilet with its tank behind it, the lid closed or leaning on the tank."""
    label, finish = make.label(name), make.finish(name)
    seat = make.finish(name) if make.chance(0.4) else finish
    wide, rim, tank = make.between(0.17, 0.2), make.between(0.38, 0.43), make.between(0.16, 0.2)
    top, middle = rim + make.between(0.32, 0.42), tank + 0.05 + wide
    solids = [
        box((-wide, wide), (0, tank), (rim - 0.04, top - 0.035), label, finish),
        box((-wide - 0.01, wide + 0.01), (0, tank + 0.01), (top - 0.035, top), label, finish),
        box((-0.1, 0.1), (0.02, middle), (0, rim - 0.16), label, finish),
        cylinder(0, middle, (0, rim - 0.16), 0.13, label, finish),
        box((-wide * 0.85, wide * 0.85), (tank, middle), (rim - 0.16, rim), label, finish),
        cylinder(0, middle, (rim - 0.16, rim), wide, label, finish),
        cylinder(0, middle, (rim, rim + 0.022), wide + 0.01, label, seat),
    ]
    if make.chance(0.6):
        solids.append(cylinder(0, middle, (rim + 0.022, rim + 0.042), wide + 0.005, label, seat))
    else:
        lid = box((-wide, wide), (tank + 0.04, tank + 0.06), (rim + 0.022, rim + 0.4), label, seat)
        solids.append(turned(lid, rotation("x", make.between(1, 5, False)), (0.0, tank + 0.06, rim + 0.022)))
    return Piece(tuple(solids), 2 * wide + 0.02, middle + wide + 0.01, top)


def wall_hung_toilet(make: Maker, name: str) -> Piece:
    """A toilet that hangs on a boxed-in tank, without a foot."""
    label, finish = make.label(name), make.finish(name)
    wide, rim, back = make.between(0.17, 0.2), make.between(0.38, 0.44), make.between(0.12, 0.18)
    long = make.between(0.32, 0.38)
    solids = [
        box((-wide - 0.06, wide + 0.06), (0, back), (0, rim + make.between(0.5, 0.7, False)), label, make.finish(name)),
        box((-wide, wide), (back, back + long), (rim - 0.2, rim), label, finish),
        cylinder(0, back + long, (rim - 0.2, rim), wide, label, finish),
        box((-0.01 - wide, wide + 0.01), (back + 0.01, back + long), (rim, rim + 0.035), label, finish),
        # a little higher than the box that it runs into: tops in one plane would hide each other
        cylinder(0, back + long, (rim, rim + 0.039), wide + 0.01, label, finish),
        box((-0.12, 0.12), (back, back + 0.015), (rim + 0.36, rim + 0.47), label, make.finish(name)),
    ]
    return Piece(tuple(solids), 2 * wide + 0.12, back + long + wide + 0.01, rim + 0.7)

"""Furniture: each design as a function that makes solids in its own frame.

The frame: x to the right and y to the front of who sits or stands before it, z up from the floor (or the surface that it
stands on); the origin lies on that surface, in the middle of x, and at the back in y. Knows shapes, sizes and labels;
knows no room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from storage.labels import S3DIS13
from workers.scenes.rooms.finishes import Finish, finish_of
from workers.scenes.rooms.solids import Solid, box, cylinder, rotation, turned
from workers.scenes.rooms.styles import GROUPS, Style


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of furniture in its own frame."""

    solids: tuple[Solid, ...]
    width: float
    """Extent in x, metres; centred."""
    depth: float
    """Extent in y, from 0."""
    height: float
    top: bool = False
    """True where small things may stand on it, at `height`."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Draws sizes and finishes for furniture of a style."""

    style: Style
    rng: np.random.Generator

    def between(self, low: float, high: float, scaled: bool = True) -> float:
        """A length between two bounds, scaled by the style."""
        factor = self.rng.uniform(*self.style.size) if scaled else 1.0
        return float(self.rng.uniform(low, high) * factor)

    def finish(self, class_name: str) -> Finish:
        """A finish as instances of a class have them."""
        weights = np.array(self.style.preference[class_name])
        group = self.style.materials[GROUPS[int(self.rng.choice(len(GROUPS), p=weights / weights.sum()))]]
        return finish_of(group[int(self.rng.integers(len(group)))], self.rng, self.style.jitter)

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return bool(self.rng.random() < probability)


def _label(name: str) -> int:
    return S3DIS13.classes.index(name)


def _legs(width: float, y: tuple[float, float], height: float, thick: float, label: int, finish: Finish) -> list[Solid]:
    right = width / 2
    return [
        box((x, x + thick), (front, front + thick), (0.0, height), label, finish)
        for x in (-right, right - thick)
        for front in (y[0], y[1] - thick)
    ]


def desk_with_legs(make: Maker) -> Piece:
    """A desk on four legs."""
    label, top, frame = _label("table"), make.finish("table"), make.finish("table")
    width, depth, height = make.between(0.9, 1.7), make.between(0.6, 0.8), make.between(0.68, 0.76)
    thick = make.between(0.025, 0.05)
    solids = [box((-width / 2, width / 2), (0, depth), (height - thick, height), label, top, bare_below=True)]
    solids += _legs(width - 0.06, (0.03, depth - 0.03), height - thick, make.between(0.04, 0.07), label, frame)
    return Piece(tuple(solids), width, depth, height, top=True)


def desk_with_panels(make: Maker) -> Piece:
    """A desk on two side panels, with drawers on one side."""
    label, finish = _label("table"), make.finish("table")
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


def round_table(make: Maker) -> Piece:
    """A round table on one post."""
    label, top, post = _label("table"), make.finish("table"), make.finish("table")
    radius, height = make.between(0.38, 0.55), make.between(0.66, 0.76)
    solids = (
        cylinder(0, radius, (height - 0.035, height), radius, label, top),
        cylinder(0, radius, (0.03, height - 0.035), 0.05, label, post),
        cylinder(0, radius, (0, 0.03), radius * 0.55, label, post),
    )
    return Piece(solids, 2 * radius, 2 * radius, height, top=True)


def low_table(make: Maker) -> Piece:
    """A coffee table with a shelf."""
    label, finish = _label("table"), make.finish("table")
    width, depth, height = make.between(0.8, 1.2), make.between(0.45, 0.65), make.between(0.38, 0.48)
    right = width / 2
    solids = [
        box((-right, right), (0, depth), (height - 0.04, height), label, finish),
        box((0.06 - right, right - 0.06), (0.06, depth - 0.06), (0.12, 0.15), label, finish),
    ]
    solids += _legs(width, (0, depth), height - 0.04, 0.06, label, finish)
    return Piece(tuple(solids), width, depth, height, top=True)


def _back(width: float, low: float, high: float, thick: float, label: int, finish: Finish, tilt: float) -> Solid:
    """A back rest that leans away from the seat."""
    upright = box((-width / 2, width / 2), (0.06, 0.06 + thick), (low, high), label, finish)
    return turned(upright, rotation("x", tilt), (0.0, 0.06, low))


def four_legged_chair(make: Maker) -> Piece:
    """A chair on four legs with a leaning back."""
    label, seat, frame = _label("chair"), make.finish("chair"), make.finish("chair")
    width, depth = make.between(0.42, 0.5), make.between(0.42, 0.48)
    height, high = make.between(0.42, 0.47), make.between(0.78, 0.92)
    depth += 0.06
    solids = [box((-width / 2, width / 2), (0.06, depth), (height - 0.05, height), label, seat)]
    solids += _legs(width, (0.06, depth), height - 0.05, 0.04, label, frame)
    solids.append(_back(width, height + make.between(0.0, 0.12), high, 0.045, label, seat, make.between(5, 11, False)))
    if make.chance(0.3):
        for x in (-width / 2, width / 2 - 0.04):
            solids.append(box((x, x + 0.04), (0.12, depth - 0.05), (0.62, 0.65), label, frame))
            solids.append(box((x, x + 0.04), (depth - 0.12, depth - 0.08), (height, 0.62), label, frame))
    return Piece(tuple(solids), width, depth, high)


def office_chair(make: Maker) -> Piece:
    """A swivel chair: five spokes, a post, a seat, a back."""
    label, seat, frame = _label("chair"), make.finish("chair"), make.finish("chair")
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


def stool_with_back(make: Maker) -> Piece:
    """A shell chair: a thick round seat on a sledge, with a low back."""
    label, seat, frame = _label("chair"), make.finish("chair"), make.finish("chair")
    radius, height = make.between(0.2, 0.25), make.between(0.42, 0.5)
    solids = (
        cylinder(0, 0.06 + radius, (height - 0.06, height), radius, label, seat),
        cylinder(0, 0.06 + radius, (0.02, height - 0.06), 0.03, label, frame),
        cylinder(0, 0.06 + radius, (0, 0.02), 0.2, label, frame),
        _back(1.5 * radius, height + 0.02, height + make.between(0.25, 0.35), 0.04, label, seat, 6.0),
    )
    return Piece(solids, 2 * radius, 0.06 + 2 * radius, height + 0.35)


def sofa(make: Maker) -> Piece:
    """A sofa with arms and cushions."""
    label, cover, cushion = _label("sofa"), make.finish("sofa"), make.finish("sofa")
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


def armchair(make: Maker) -> Piece:
    """A deep upholstered chair of the sofa's family, for one or two."""
    label, cover, cushion = _label("sofa"), make.finish("sofa"), make.finish("sofa")
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


def bookcase(make: Maker) -> Piece:
    """Shelves between two sides and a back, filled with books in part."""
    label, finish = _label("bookcase"), make.finish("bookcase")
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
                solids.append(box(x, (0.02, y), (low, low + tall * gap), label, make.finish("bookcase")))
            left += run
    return Piece(tuple(solids), width, depth, height, top=height < 1.6)


def carton(make: Maker) -> Piece:
    """A cardboard box, or two stacked."""
    label = _label("clutter")
    width, depth, height = make.between(0.22, 0.45), make.between(0.2, 0.38), make.between(0.15, 0.35)
    solids = [box((-width / 2, width / 2), (0, depth), (0, height), label, make.finish("clutter"))]
    if make.chance(0.35):
        top = height + make.between(0.12, 0.25)
        upper = box((-width * 0.4, width * 0.35), (0.03, depth * 0.9), (height, top), label, make.finish("clutter"))
        solids.append(turned(upper, rotation("z", make.between(-6, 6, False)), (0.0, depth / 2, height)))
        height = top
    return Piece(tuple(solids), width, depth, height)


def bin_or_pot(make: Maker) -> Piece:
    """A waste bin, or a plant in a pot."""
    label = _label("clutter")
    radius, height = make.between(0.11, 0.17), make.between(0.26, 0.4)
    solids = [cylinder(0, radius, (0, height), radius, label, make.finish("clutter"))]
    if make.chance(0.4):
        leaf = make.finish("clutter")
        solids.append(cylinder(0, radius, (height, height + 0.25), 0.02, label, leaf))
        solids.append(cylinder(0, radius, (height + 0.15, height + 0.45), radius * 1.1, label, leaf))
        height += 0.45
    return Piece(tuple(solids), 2 * radius, 2 * radius, height)


def monitor(make: Maker) -> Piece:
    """A screen on a stand, with a keyboard before it."""
    label, case, stand = _label("clutter"), make.finish("clutter"), make.finish("clutter")
    width, height = make.between(0.42, 0.62), make.between(0.28, 0.36)
    solids = (
        box((-width / 2, width / 2), (0.08, 0.115), (0.1, 0.1 + height), label, case, bare_below=False),
        box((-0.04, 0.04), (0.05, 0.08), (0.012, 0.3), label, stand),
        box((-0.12, 0.12), (0.02, 0.2), (0, 0.012), label, stand),
        box((-0.21, 0.21), (0.26, 0.38), (0, 0.022), label, make.finish("clutter")),
    )
    return Piece(solids, width, 0.38, 0.1 + height)


def books_and_papers(make: Maker) -> Piece:
    """A stack of books or folders."""
    label, solids, top = _label("clutter"), [], 0.0
    width, depth = make.between(0.2, 0.3), make.between(0.15, 0.22)
    for _ in range(int(make.rng.integers(2, 6))):
        high = top + make.between(0.02, 0.06)
        book = box((-width / 2, width / 2), (0, depth), (top, high), label, make.finish("clutter"))
        solids.append(turned(book, rotation("z", make.between(-12, 12, False)), (0.0, depth / 2, 0.0)))
        top = high
    return Piece(tuple(solids), width + 0.04, depth + 0.04, top)


def cans_and_cups(make: Maker) -> Piece:
    """A group of small cylinders: cups, bottles, a lamp's foot."""
    label, solids, tallest = _label("clutter"), [], 0.0
    for k in range(int(make.rng.integers(1, 4))):
        radius, high = make.between(0.03, 0.06), make.between(0.08, 0.3)
        solids.append(cylinder(0.13 * k - 0.13, 0.07, (0, high), radius, label, make.finish("clutter")))
        tallest = max(tallest, high)
    return Piece(tuple(solids), 0.42, 0.14, tallest)


Design = Callable[[Maker], Piece]

DESIGNS: Mapping[str, tuple[Design, ...]] = {
    "table": (desk_with_legs, desk_with_panels, round_table, low_table),
    "chair": (four_legged_chair, office_chair, stool_with_back),
    "sofa": (sofa, armchair),
    "bookcase": (bookcase,),
    "clutter": (carton, bin_or_pot, monitor, books_and_papers, cans_and_cups),
}
"""Class -> its designs; a style weighs them."""

FLOOR_CLUTTER: tuple[Design, ...] = (carton, bin_or_pot)
"""Things that stand on floors."""

TOP_CLUTTER: tuple[Design, ...] = (monitor, books_and_papers, cans_and_cups, carton)
"""Things that stand on tables and shelves."""


def furnish(make: Maker, class_name: str) -> Piece:
    """A piece of furniture of a class, its design drawn as the style weighs them."""
    designs = DESIGNS[class_name]
    weights = np.array(make.style.designs.get(class_name, (1.0,) * len(designs)), dtype=np.float64)
    return designs[int(make.rng.choice(len(designs), p=weights / weights.sum()))](make)

"""The shell of a room: floor, ceiling, walls with their openings, boards, columns and beams.

Knows the room's box and what is built into it; knows no movable furniture. A wall's frame: s runs along the wall, d
into the room, z up, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from storage.labels import IGNORE
from workers.scenes.rooms.finishes import Finish
from workers.scenes.rooms.maker import Maker
from workers.scenes.rooms.solids import F64, Solid, Span, box, cylinder, quarter_turn

WALL_M = 0.3
"""Thickness of walls, floor and ceiling."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A rectangle cut into a wall, with something set back in it."""

    s: Span
    z: Span
    recess: float


@dataclass(slots=True)
class Wall:
    """One wall: where it stands, what is cut into it and what occupies it."""

    side: int
    """0: y = 0, 1: x = X, 2: y = Y, 3: x = 0."""
    length: float
    origin: F64
    """(3,) where s = d = z = 0."""
    openings: list[Opening] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    """(from, to, lowest height) of what is on the wall: furniture lower than that may stand before it."""

    def place(self, solid: Solid, instance: int) -> Solid:
        """A solid from the wall's frame to the room's."""
        return solid.moved(quarter_turn(self.side), self.origin, instance)

    def free(self, s: Span, below: float) -> bool:
        """True where nothing on the wall lies between `s`, up to the height `below`."""
        return all(s[1] <= a or s[0] >= b or below <= low for a, b, low in self.taken)


@dataclass(frozen=True, slots=True)
class Shell:
    """The built part of a room."""

    size: tuple[float, float, float]
    walls: tuple[Wall, ...]
    solids: list[Solid]
    air: list[tuple[F64, F64]]
    """Boxes of air, lowest and highest corner: the room and its niches."""


def empty_walls(size: tuple[float, float, float]) -> tuple[Wall, ...]:
    """The four walls of a room, bare."""
    x, y, _ = size
    corners = ((0.0, 0.0), (x, 0.0), (x, y), (0.0, y))
    return tuple(Wall(side, (x, y, x, y)[side], np.array([*corner, 0.0])) for side, corner in enumerate(corners))


def build_walls(make: Maker, walls: tuple[Wall, ...], height: float, finishes: list[Finish]) -> list[Solid]:
    """The walls as boxes around their openings; call it when all openings are cut."""
    label, solids = make.label("wall"), []
    for wall, finish in zip(walls, finishes, strict=True):
        ends = (-WALL_M, wall.length + WALL_M) if wall.side % 2 == 0 else (0.0, wall.length)
        at = ends[0]
        for opening in sorted(wall.openings, key=lambda o: o.s[0]):
            pieces = [((at, opening.s[0]), (0.0, height))]
            pieces += [(opening.s, (0.0, opening.z[0]))] if opening.z[0] > 0 else []
            pieces += [(opening.s, (opening.z[1], height))]
            solids += [_masonry(wall, s, z, label, finish) for s, z in pieces]
            at = opening.s[1]
        solids.append(_masonry(wall, (at, ends[1]), (0.0, height), label, finish))
    return solids


def _masonry(wall: Wall, s: Span, z: Span, label: int, finish: Finish) -> Solid:
    return wall.place(box(s, (-WALL_M, 0.0), z, label, finish, bare_below=False), wall.side + 2)


def slabs(make: Maker, size: tuple[float, float, float], floor: Finish, ceiling: Finish) -> list[Solid]:
    """Floor (instance 0) and ceiling (instance 1); where a ceiling has no label, no points are sampled of it."""
    x, y = (-WALL_M, size[0] + WALL_M), (-WALL_M, size[1] + WALL_M)
    below, above = (-WALL_M, 0.0), (size[2], size[2] + WALL_M)
    cover = box(x, y, above, make.label("ceiling"), ceiling, bare_below=False)
    return [
        box(x, y, below, make.label("floor"), floor, bare_below=False),
        replace(cover, instance=1, sampled=cover.label != IGNORE),
    ]


def niches(walls: tuple[Wall, ...]) -> list[tuple[F64, F64]]:
    """The air in the walls' openings."""
    boxes = []
    for wall in walls:
        turn = quarter_turn(wall.side)
        for opening in wall.openings:
            ends = np.array([[s, d, z] for s, d, z in zip(opening.s, (-opening.recess, 0.0), opening.z, strict=True)])
            world = ends @ turn.T + wall.origin
            boxes.append((world.min(axis=0), world.max(axis=0)))
    return boxes


def window(make: Maker, wall: Wall, s: Span, z: Span, instance: int, sill_chance: float = 0.7) -> list[Solid]:
    """A window: a niche with a pane, a frame with bars, and, with that chance, a sill that juts out."""
    label, recess = make.label("window"), make.between(0.12, 0.2, False)
    wall.openings.append(Opening(s, z, recess))
    wall.taken.append((s[0] - 0.05, s[1] + 0.05, z[0] - 0.05))
    pane, frame = make.finish("window"), make.finish("window")
    solids = [box(s, (-WALL_M, -recess), z, label, pane, bare_below=False)]
    deep, bar = (-recess, 0.045 - recess), 0.05
    bars = max(1, round((s[1] - s[0]) / make.between(0.5, 0.8, False)))
    for edge in np.linspace(s[0], s[1] - bar, bars + 1):
        solids.append(box((float(edge), float(edge) + bar), deep, z, label, frame))
    for low in (z[0], z[1] - bar):
        solids.append(box(s, (-recess, 0.04 - recess), (low, low + bar), label, frame))
    if make.chance(sill_chance):
        reach = make.between(0.05, 0.12, False)
        sill = box((s[0] - 0.04, s[1] + 0.04), (0.0, reach), (z[0] - 0.035, z[0]), label, frame, bare_below=False)
        solids.append(sill)
    return [wall.place(solid, instance) for solid in solids]


def door(make: Maker, wall: Wall, s: Span, height: float, instance: int) -> list[Solid]:
    """A door: a leaf set back in the wall, its casing before it, a handle."""
    label, recess = make.label("door"), make.between(0.06, 0.12, False)
    wall.openings.append(Opening(s, (0.0, height), recess))
    wall.taken.append((s[0] - 0.12, s[1] + 0.12, 0.0))
    leaf, casing, thick = make.finish("door"), make.finish("door"), make.between(0.03, 0.05, False)
    wide = make.between(0.06, 0.09, False)
    solids = [
        box(s, (-WALL_M, -recess), (0.0, height), label, leaf, bare_below=False),
        box((s[0] - wide, s[0]), (0.0, thick), (0.0, height + wide), label, casing),
        box((s[1], s[1] + wide), (0.0, thick), (0.0, height + wide), label, casing),
        box((s[0], s[1]), (0.0, thick), (height, height + wide), label, casing, bare_below=False),
    ]
    at = s[0] + 0.08 if make.chance(0.5) else s[1] - 0.2
    solids.append(box((at, at + 0.12), (-recess, 0.05 - recess), (1.0, 1.04), label, make.finish("door")))
    if make.chance(0.4):
        middle = (s[0] + s[1]) / 2
        panel = box((middle - 0.22, middle + 0.22), (-recess, 0.015 - recess), (1.2, height - 0.25), label, leaf)
        solids.append(panel)
    return [wall.place(solid, instance) for solid in solids]


def board(make: Maker, wall: Wall, s: Span, z: Span, instance: int) -> list[Solid]:
    """A board: a slab that stands off the wall, with a rim and a tray."""
    label, thick = make.label("board"), make.between(0.05, 0.08, False)
    wall.taken.append((s[0] - 0.03, s[1] + 0.03, z[0] - 0.05))
    face, rim = make.finish("board"), make.finish("board")
    solids = [
        box((s[0] + 0.03, s[1] - 0.03), (0.0, thick), (z[0] + 0.03, z[1] - 0.03), label, face, bare_below=False),
        box(s, (0.0, thick + 0.012), (z[0], z[0] + 0.03), label, rim, bare_below=False),
        box(s, (0.0, thick + 0.012), (z[1] - 0.03, z[1]), label, rim, bare_below=False),
        box((s[0], s[0] + 0.03), (0.0, thick + 0.012), (z[0] + 0.03, z[1] - 0.03), label, rim),
        box((s[1] - 0.03, s[1]), (0.0, thick + 0.012), (z[0] + 0.03, z[1] - 0.03), label, rim),
    ]
    if make.chance(0.8):
        tray = (thick + 0.012, thick + make.between(0.06, 0.1, False))
        low = z[0] + 0.002
        solids.append(box((s[0] + 0.1, s[1] - 0.1), tray, (low, low + 0.02), label, rim, bare_below=False))
    return [wall.place(solid, instance) for solid in solids]


def column(make: Maker, x: float, y: float, width: tuple[float, float], height: float, instance: int) -> list[Solid]:
    """A column from floor to ceiling, its lower left corner at (x, y): square, or round within the square."""
    label, finish = make.label("column"), make.finish("column")
    if make.chance(0.3):
        radius = min(width) / 2
        solid = cylinder(x + radius, y + radius, (0.0, height), radius, label, finish)
    else:
        solid = box((x, x + width[0]), (y, y + width[1]), (0.0, height), label, finish)
    return [solid.moved(np.eye(3), np.zeros(3), instance)]


def beam(make: Maker, across: bool, at: float, size: tuple[float, float, float], instance: int) -> list[Solid]:
    """A beam under the ceiling from wall to wall, along y where `across`."""
    label, finish = make.label("beam"), make.finish("beam")
    wide, deep = make.between(0.18, 0.32, False), make.between(0.16, 0.32, False)
    z = (size[2] - deep, size[2])
    if across:
        solid = box((at, at + wide), (0.0, size[1]), z, label, finish, bare_below=False)
    else:
        solid = box((0.0, size[0]), (at, at + wide), z, label, finish, bare_below=False)
    return [solid.moved(np.eye(3), np.zeros(3), instance)]

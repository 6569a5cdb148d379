"""Where things stand in a home's room, so that every class of its plan is there and nothing runs into anything.

What is built in or fits few places comes first. Knows the shell, the furniture and which classes a room must show;
knows no camera and no light.
"""

from __future__ import annotations

import numpy as np

from workers.scenes.rooms import shell
from workers.scenes.rooms.fixtures import interval, place_door
from workers.scenes.rooms.floorplan import Layout, Placer
from workers.scenes.rooms.homes.basins import vanity
from workers.scenes.rooms.homes.designs import SMALL_THINGS, furnish
from workers.scenes.rooms.homes.hangings import REACH_M, before_tub, curtain, picture
from workers.scenes.rooms.homes.kitchen import kitchen_unit
from workers.scenes.rooms.maker import Maker
from workers.scenes.rooms.placing import against_wall, anywhere, at_table, on_tops, some, wall_finishes
from workers.scenes.rooms.shell import Shell, Wall
from workers.scenes.rooms.solids import Span, box, quarter_turn

_COUNTS = {
    "refrigerator": (1, 1), "bed": (1, 1), "toilet": (1, 1), "sofa": (1, 2), "cabinet": (1, 2), "bookshelf": (1, 2),
    "desk": (1, 1), "table": (1, 2), "chair": (2, 5), "otherfurniture": (2, 4),
}  # fmt: skip
"""Class -> least and most pieces, in the order in which they are placed."""

_AGAINST = {"table": 0.25, "chair": 0.15, "otherfurniture": 0.6, "sofa": 0.9}
"""Chance that a piece of a class stands against a wall; all others always do."""


def lay_out(make: Maker, size: tuple[float, float, float], classes: tuple[str, ...]) -> Shell:
    """A room with every class of `classes` in it.

    Raises:
        NoPlace: one found no place.
    """
    layout, rng = Layout(make, size, shell.empty_walls(size), strict=True), make.rng
    if "door" in classes:
        some(layout, "door", int(rng.integers(1, 3)), place_door)
    if "window" in classes:
        some(layout, "window", int(rng.integers(1, 3)), _window(classes))
    _plumbing(layout, classes)
    for name, (least, most) in _COUNTS.items():
        if name in classes and not (name == "cabinet" and _has(layout, name) and make.chance(0.6)):
            some(layout, name, int(rng.integers(least, most + 1)), _movable(name))
    if "picture" in classes:
        some(layout, "picture", int(rng.integers(2, 5)), _place_picture)
    on_tops(layout, SMALL_THINGS, "clutter")
    walls = wall_finishes(make)
    solids = shell.slabs(make, size, make.finish("floor"), make.finish("ceiling"))
    solids += shell.build_walls(make, layout.walls, size[2], walls)
    air = [(np.zeros(3), np.array(size)), *shell.niches(layout.walls)]
    return Shell(size, layout.walls, solids + layout.solids, air)


def _has(layout: Layout, name: str) -> bool:
    label = layout.make.label(name)
    return any(solid.label == label for solid in layout.solids)


def _plumbing(layout: Layout, classes: tuple[str, ...]) -> None:
    """Bathtub, shower curtain, counter and sinks: what the room is built around."""
    make = layout.make
    if "bathtub" in classes:
        some(layout, "bathtub", 1, _tub("shower curtain" in classes))
    elif "shower curtain" in classes:
        some(layout, "shower curtain", 1, _movable("shower curtain"))
    if "counter" in classes:
        some(layout, "counter", 1 if make.chance(0.6) else 2, _counter("cabinet" in classes, "sink" in classes))
    elif "sink" in classes:
        some(layout, "sink", 1, _bathroom_sink("cabinet" in classes))


def _tub(with_curtain: bool) -> Placer:
    def place(layout: Layout) -> bool:
        for _ in range(4):
            tub = furnish(layout.make, "bathtub")
            if against_wall(layout, before_tub(layout.make, tub) if with_curtain else tub, "bathtub"):
                return True
        return False

    return place


def _counter(cabinet: bool, sink: bool) -> Placer:
    """The first counter of a room holds its sink; where it finds no place, others are drawn."""

    def place(layout: Layout) -> bool:
        wanted = sink and not _has(layout, "sink")
        return any(against_wall(layout, kitchen_unit(layout.make, cabinet, wanted), "counter") for _ in range(5))

    return place


def _bathroom_sink(cabinet: bool) -> Placer:
    def place(layout: Layout) -> bool:
        for _ in range(4):
            on_cabinet = cabinet and layout.make.chance(0.7)
            piece = vanity(layout.make, "sink") if on_cabinet else furnish(layout.make, "sink")
            if against_wall(layout, piece, "sink"):
                return True
        return False

    return place


def _movable(name: str) -> Placer:
    def place(layout: Layout) -> bool:
        make = layout.make
        if name == "chair" and layout.spots and make.chance(0.85):
            return at_table(layout, lambda: furnish(make, "chair"))
        for _ in range(4):
            by_wall = make.chance(_AGAINST.get(name, 1.0))
            if (against_wall if by_wall else anywhere)(layout, furnish(make, name), name):
                return True
        return against_wall(layout, furnish(make, name), name)

    return place


def _window(classes: tuple[str, ...]) -> Placer:
    """Cuts a window into a wall, high and small where a room is plumbed, and hangs its curtain."""
    high_up = "counter" in classes or "toilet" in classes
    curtained = "curtain" in classes

    def place(layout: Layout) -> bool:
        make = layout.make
        low = make.between(1.05, 1.3, False) if high_up else make.between(0.35, 1.05, False)
        top = min(layout.size[2] - 0.25, low + make.between(0.7 if high_up else 1.0, 1.5, False))
        width = make.between(0.6, 1.1, False) if high_up else make.between(0.9, 1.7, False)
        hung = curtained and (not _has(layout, "curtain") or make.chance(0.6))
        for side in make.rng.permutation(4):
            wall = layout.walls[side]
            span = interval(layout, wall, width, 0.25 if hung else 0.1)
            if span is None:
                continue
            if hung and not _hang(layout, wall, (span, (low, top))):
                continue
            layout.solids += shell.window(make, wall, span, (low, top), layout.instance(), 0.0 if hung else 0.7)
            return True
        return False

    return place


def _hang(layout: Layout, wall: Wall, window: tuple[Span, Span]) -> bool:
    """Hangs a curtain before a window and takes the floor and the wall behind it; False where something is there."""
    solids = curtain(layout.make, wall, window, layout.size[2], layout.instance())
    turn, (s, _) = quarter_turn(wall.side), window
    ends = (max(0.0, s[0] - 0.25), min(wall.length, s[1] + 0.25))
    corners = np.array([[ends[0], 0.0, 0.0], [ends[1], REACH_M, 0.0]]) @ turn.T + wall.origin
    low, high = corners.min(axis=0), corners.max(axis=0)
    free = all(ends[1] <= a or ends[0] >= b for a, b, _ in wall.taken)
    if not (free and layout.clear(solids)):
        return False
    lowest = min(float(solid.bounds[0][2]) for solid in solids)
    if lowest < 0.1 and not layout.claim((float(low[0]), float(low[1]), float(high[0]), float(high[1])), 0.0):
        return False
    wall.taken.append((ends[0], ends[1], lowest))
    layout.solids += solids
    return True


def _place_picture(layout: Layout) -> bool:
    """Hangs a picture where nothing is on the wall or stands before it; False where none fits."""
    make = layout.make
    for _ in range(40):
        wall = layout.walls[int(make.rng.integers(4))]
        width, high = make.between(0.3, 0.9, False), make.between(0.28, 0.75, False)
        left, middle = (
            float(make.rng.uniform(0.05, max(0.06, wall.length - width - 0.05))),
            make.between(1.4, 1.7, False),
        )
        s, z = (left, left + width), (middle - high / 2, middle + high / 2)
        before = wall.place(box(s, (0.0, 0.3), z, 0, make.finish("picture")), 0)
        on_wall = any(s[0] < o.s[1] + 0.12 and s[1] > o.s[0] - 0.12 and z[0] < o.z[1] + 0.12 for o in wall.openings)
        if s[1] < wall.length and not on_wall and layout.clear([before]):
            layout.solids += picture(make, wall, s, z, layout.instance())
            return True
    return False

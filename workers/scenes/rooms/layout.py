"""Where things stand in an office, so that every class of its plan is there.

Knows the shell, the furniture and which classes a room must show; knows no camera and no light.
"""

from __future__ import annotations

import numpy as np

from workers.scenes.rooms import shell
from workers.scenes.rooms.fixtures import place_beam, place_board, place_column, place_door, place_window
from workers.scenes.rooms.floorplan import Layout, NoPlace, Placer
from workers.scenes.rooms.furniture import FLOOR_CLUTTER, TOP_CLUTTER, furnish
from workers.scenes.rooms.maker import Maker
from workers.scenes.rooms.placing import against_wall, anywhere, at_table, on_tops, some, wall_finishes
from workers.scenes.rooms.shell import Shell


def lay_out(make: Maker, size: tuple[float, float, float], classes: tuple[str, ...]) -> Shell:
    """A room with every class of `classes` in it.

    Raises:
        NoPlace: one found no place.
    """
    layout = Layout(make, size, shell.empty_walls(size))
    rng = make.rng
    counts = {"column": (1, 2), "door": (1, 2), "window": (1, 3), "board": (1, 2), "beam": (1, 3)}
    placers = {
        "column": place_column,
        "door": place_door,
        "window": place_window,
        "board": place_board,
        "beam": place_beam,
    }
    for name, place in placers.items():
        if name in classes:
            some(layout, name, int(rng.integers(counts[name][0], counts[name][1] + 1)), place)
    for name, (least, most) in {"bookcase": (1, 3), "sofa": (1, 2), "table": (1, 3), "chair": (2, 5)}.items():
        if name in classes:
            some(layout, name, int(rng.integers(least, most + 1)), _movable(name))
    if "clutter" in classes:
        _clutter(layout)
    walls = wall_finishes(make)
    solids = shell.slabs(make, size, make.finish("floor"), make.finish("ceiling"))
    solids += shell.build_walls(make, layout.walls, size[2], walls)
    air = [(np.zeros(3), np.array(size)), *shell.niches(layout.walls)]
    return Shell(size, layout.walls, solids + layout.solids, air)


def _movable(name: str) -> Placer:
    def place(layout: Layout) -> bool:
        if name == "chair" and layout.spots and layout.make.chance(0.8):
            return at_table(layout, lambda: furnish(layout.make, "chair"))
        for _ in range(3):
            piece = furnish(layout.make, name)
            against = {"bookcase": 1.0, "sofa": 0.9, "table": 0.55}.get(name, 0.1)
            if (against_wall if layout.make.chance(against) else anywhere)(layout, piece, name):
                return True
        return against_wall(layout, furnish(layout.make, name), name)

    return place


def _clutter(layout: Layout) -> None:
    make = layout.make
    placed = on_tops(layout, TOP_CLUTTER, "clutter")
    for _ in range(int(make.rng.integers(3, 8))):
        thing = FLOOR_CLUTTER[int(make.rng.integers(len(FLOOR_CLUTTER)))](make, "clutter")
        place = against_wall if make.chance(0.6) else anywhere
        placed += place(layout, thing, "clutter")
    if placed == 0:
        raise NoPlace("clutter")

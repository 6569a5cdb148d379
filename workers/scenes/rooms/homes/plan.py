"""Which kind of room a home's room is and which classes stand in it: fixed before anything is drawn.

Rooms come in blocks of five: a bedroom, a living room, a kitchen, a bathroom and one more of these, in any order; each
block holds every class at least once, and a room 4 to 12 classes, wall and floor among them. Knows names of classes
and nothing of shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workers.scenes.rooms.plan import BLOCK, Range

ALWAYS = ("wall", "floor")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of room."""

    name: str
    core: tuple[str, ...]
    """Classes that make it what it is."""
    more: tuple[str, ...]
    """Classes that it may hold."""
    count: tuple[int, int]
    """Least and most classes in it; a block's missing classes may add to the most."""
    x_m: Range
    y_m: Range


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "bedroom",
            ("bed",),
            (
                "cabinet", "desk", "chair", "bookshelf", "picture", "window", "curtain", "door", "otherfurniture",
                "table", "sofa",
            ),
            (6, 11), (3.1, 4.2), (3.1, 3.9),
        ),
        Kind(
            "living room",
            ("sofa",),
            (
                "table", "chair", "bookshelf", "cabinet", "desk", "picture", "window", "curtain", "door",
                "otherfurniture",
            ),
            (6, 11), (3.3, 4.3), (3.1, 4.0),
        ),
        Kind(
            "kitchen",
            ("counter",),
            (
                "cabinet", "sink", "refrigerator", "table", "chair", "window", "curtain", "door", "picture",
                "otherfurniture",
            ),
            (6, 11), (2.9, 3.9), (2.8, 3.6),
        ),
        Kind(
            "bathroom",
            ("toilet",),
            (
                "sink", "bathtub", "shower curtain", "cabinet", "window", "curtain", "door", "picture",
                "otherfurniture",
            ),
            (4, 10), (2.4, 3.0), (2.2, 2.8),
        ),
    )
}  # fmt: skip
"""Name -> kind of room."""


def rooms_of(seed: list[int], index: int) -> tuple[Kind, tuple[str, ...]]:
    """Kind and names of the classes of the `index`-th room of a series; every aligned block of five holds all classes.

    Args:
        seed: what the series is drawn from.
        index: from 0.
    """
    rng = np.random.default_rng([*seed, 1, index // BLOCK])
    names = list(KINDS)
    kinds = [KINDS[name] for name in [*names, names[int(rng.integers(len(names)))]]]
    rng.shuffle(kinds)
    rooms = [set(kind.core) for kind in kinds]
    wanted = list(dict.fromkeys(name for kind in kinds for name in (*kind.core, *kind.more)))
    for name in rng.permutation(wanted).tolist():
        if not any(name in room for room in rooms):
            fitting = [k for k, kind in enumerate(kinds) if name in kind.more]
            _add(rooms[min(fitting, key=lambda k: (len(rooms[k]) / kinds[k].count[1], rng.random()))], name)
    for room, kind in zip(rooms, kinds, strict=True):
        target = int(rng.integers(kind.count[0], kind.count[1] + 1)) - len(ALWAYS)
        used = {name: sum(name in other for other in rooms) for name in kind.more}
        for name in sorted(kind.more, key=lambda name: (used[name], rng.random())):
            if len(room) < target:
                _add(room, name)
    chosen = rooms[index % BLOCK]
    return kinds[index % BLOCK], ALWAYS + tuple(sorted(chosen, key=wanted.index))


def _add(room: set[str], name: str) -> None:
    """Adds a class and what it cannot be without: a curtain hangs at a window."""
    room.add(name)
    if name == "curtain":
        room.add("window")

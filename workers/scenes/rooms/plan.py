"""Which classes stand in which office: fixed before anything is drawn.

Rooms come in blocks of five; each block holds every class at least once, and a room 4 to 10 classes. Floor, ceiling and
wall are in every room. Knows names of classes and nothing of shapes.
"""

from __future__ import annotations

import numpy as np

Range = tuple[float, float]

BLOCK = 5
"""Rooms that together hold every class."""

ALWAYS = ("ceiling", "floor", "wall")
CHOSEN = ("beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board", "clutter")
_COUNTS = ((7, 6, 5, 5, 3), (7, 7, 5, 4, 3), (7, 6, 6, 4, 2), (6, 6, 5, 5, 4), (7, 7, 6, 4, 1))


def classes_of(seed: list[int], index: int) -> tuple[str, ...]:
    """Names of the classes of the `index`-th room of a series; every aligned block of five rooms holds all of them.

    Args:
        seed: what the series is drawn from.
        index: from 0.
    """
    rng = np.random.default_rng([*seed, 1, index // BLOCK])
    counts = list(_COUNTS[int(rng.integers(len(_COUNTS)))])
    rng.shuffle(counts)
    used = dict.fromkeys(CHOSEN, 0)
    for room, count in enumerate(counts):
        order = sorted(CHOSEN, key=lambda name: (used[name], rng.random()))
        chosen = order[:count]
        for name in chosen:
            used[name] += 1
        if room == index % BLOCK:
            return ALWAYS + tuple(name for name in CHOSEN if name in chosen)
    raise AssertionError("a room's place in its block is always found")

"""What every design of furniture is made with: the piece it makes, and the maker who draws sizes and finishes.

Knows styles and finishes; knows no design and no room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.labels import IGNORE, LabelSet
from workers.scenes.rooms.finishes import Finish, finish_of
from workers.scenes.rooms.solids import Solid, box
from workers.scenes.rooms.styles import GROUPS, Style


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of furniture in its own frame.

    x to the right and y to the front of who sits or stands before it, z up from the floor (or from what it stands on);
    the origin lies there, in the middle of x, and at the back in y.
    """

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
    """Draws sizes and finishes for furniture of a style, and knows the labels of its domain."""

    style: Style
    rng: np.random.Generator
    label_set: LabelSet
    unlabelled: tuple[str, ...] = ()
    """Things that stand in rooms of the domain and have no class in its label set."""

    def label(self, class_name: str) -> int:
        """The label of a class, IGNORE for what the domain shows without one.

        Raises:
            UnknownName: neither; a design is asked for a class that the domain does not have.
        """
        return IGNORE if class_name in self.unlabelled else self.label_set.index(class_name)

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


def four_legs(
    width: float, y: tuple[float, float], height: float, thick: float, label: int, finish: Finish
) -> list[Solid]:
    """Legs at the corners of a rectangle that is centred in x."""
    right = width / 2
    return [
        box((x, x + thick), (front, front + thick), (0.0, height), label, finish)
        for x in (-right, right - thick)
        for front in (y[0], y[1] - thick)
    ]

"""Label sets, palettes and the NYU40 map: the only copy. Knows no file and no network.

A label is an index into `LabelSet.classes`; IGNORE marks a point that has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage.errors import UnknownName

IGNORE = -1
"""The label of a point without one: it enters no loss and no score."""

LabelSetName = Literal["s3dis13", "scannet20"]

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The classes of a dataset, in the order of their labels, each with a display colour (RGB, 0..255)."""

    name: LabelSetName
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]

    def index(self, class_name: str) -> int:
        """The label of a class.

        Raises:
            UnknownName: the set has no such class.
        """
        if class_name not in self.classes:
            raise UnknownName.among(f"class of the label set {self.name}", class_name, self.classes)
        return self.classes.index(class_name)


IGNORE_COLOUR: Colour = (60, 60, 60)
"""How a point without a label is drawn."""

S3DIS13 = LabelSet(
    name="s3dis13",
    classes=(
        "ceiling", "floor", "wall", "beam", "column", "window", "door",
        "table", "chair", "sofa", "bookcase", "board", "clutter",
    ),
    palette=(
        (0, 200, 70), (40, 90, 230), (90, 220, 230), (240, 230, 60), (220, 60, 200), (110, 110, 240), (190, 160, 90),
        (140, 80, 170), (235, 60, 50), (200, 110, 110), (20, 140, 60), (210, 210, 210), (95, 95, 95),
    ),
)  # fmt: skip

SCANNET20 = LabelSet(
    name="scannet20",
    classes=(
        "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
        "picture", "counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub",
        "otherfurniture",
    ),
    palette=(
        (174, 199, 232), (152, 223, 138), (31, 119, 180), (255, 187, 120), (188, 189, 34), (140, 86, 75),
        (255, 152, 150), (214, 39, 40), (197, 176, 213), (148, 103, 189), (196, 156, 148), (23, 190, 207),
        (247, 182, 210), (219, 219, 141), (255, 127, 14), (158, 218, 229), (44, 160, 44), (112, 128, 144),
        (227, 119, 194), (82, 84, 163),
    ),
)  # fmt: skip

LABEL_SETS: dict[str, LabelSet] = {s.name: s for s in (S3DIS13, SCANNET20)}

NYU40_TO_SCANNET20: dict[int, int] = {
    nyu: label for label, nyu in enumerate((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39))
}
"""NYU40 id -> ScanNet-20 label; every other id is IGNORE."""


def label_set(name: str) -> LabelSet:
    """The label set of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in LABEL_SETS:
        raise UnknownName.among("label set", name, LABEL_SETS)
    return LABEL_SETS[name]

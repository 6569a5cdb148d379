"""The two looks that rooms come in: "site", which SynthRooms shows, and "studio", on which the mini encoder is trained.

They differ in palette, patterns, light, sensor and the proportions of furniture, so that an encoder trained on the one
errs on the other. Colours belong to instances: classes only prefer groups of materials, and the groups overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from storage.errors import UnknownName
from workers.scenes.rooms.finishes import Material

StyleName = Literal["site", "studio"]
Group = Literal["light", "wood", "dark", "bright"]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sensor:
    """What a camera adds to a picture and to a depth map."""

    colour_noise: Range = (2.0, 5.0)
    """Deviation of a pixel's noise, of 255; drawn a view."""
    exposure: Range = (0.85, 1.2)
    white_balance: float = 0.03
    """Deviation of the gain of a colour channel, drawn a view."""
    vignette: float = 0.15
    """Share of light lost in the corners."""
    depth_noise: float = 0.0015
    """Deviation of depth a square metre of depth, 1/m."""
    grazing_cosine: float = 0.12
    """Surfaces seen at a smaller cosine give no depth."""
    edge_jump: float = 0.06
    """Relative jump of depth between neighbours that loses about half of the readings there."""
    dropout: float = 0.004
    """Share of readings lost anywhere."""


@dataclass(frozen=True, slots=True)
class Lamps:
    """How a room is lit."""

    count: tuple[int, int] = (1, 3)
    power: Range = (0.35, 0.75)
    ambient: Range = (0.38, 0.6)
    warmth: Range = (-0.06, 0.12)
    """Red gained and blue lost by the lamps."""
    daylight: Range = (0.0, 0.3)


@dataclass(frozen=True, slots=True)
class Style:
    """A look: materials, how classes prefer them, proportions of furniture, light and sensor."""

    name: StyleName
    materials: Mapping[Group, tuple[Material, ...]]
    preference: Mapping[str, tuple[float, float, float, float]]
    """Class -> weights of the groups light, wood, dark, bright."""
    designs: Mapping[str, tuple[float, ...]]
    """Class -> weights of its furniture designs, in the order of `furniture.DESIGNS`; homes weigh theirs alike."""
    size: Range
    """Factor on the sizes of furniture."""
    jitter: float
    """Deviation of an instance's colour from its material's."""
    lamps: Lamps = Lamps()
    sensor: Sensor = Sensor()


def _m(colour: str, accent: str, *patterns: str) -> Material:
    parts = [tuple(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)) for text in (colour, accent)]
    return Material(parts[0], parts[1], patterns)  # type: ignore[arg-type]


_SITE = Style(
    name="site",
    materials={
        "light": (
            _m("e6e4de", "cfccc4", "plain", "mottled"),
            _m("d9d2c0", "c0b69f", "plain", "mottled", "tiles"),
            _m("c9ced2", "b0b8be", "plain", "tiles", "mottled"),
            _m("c4d2d0", "a9bbb9", "plain", "mottled"),
        ),
        "wood": (
            _m("b98d5a", "96683a", "wood", "planks"),
            _m("8a5a36", "6b4226", "wood", "planks"),
            _m("cfae80", "b08d5e", "wood", "planks", "plain"),
        ),
        "dark": (
            _m("4a4d52", "33363a", "plain", "fabric", "mottled"),
            _m("39475c", "2a3445", "fabric", "plain", "tiles"),
            _m("5c4a42", "44362f", "fabric", "wood", "mottled"),
            _m("6c7075", "55595d", "mottled", "tiles", "plain"),
        ),
        "bright": (
            _m("a33f38", "8a2f2c", "plain", "fabric"),
            _m("3f6fa8", "315a8c", "plain", "fabric", "stripes"),
            _m("5b8a55", "466f43", "plain", "fabric", "mottled"),
            _m("c9963c", "a87a2b", "plain", "fabric", "stripes"),
        ),
    },
    preference={
        "ceiling": (0.80, 0.10, 0.10, 0.00),
        "floor": (0.25, 0.40, 0.35, 0.00),
        "wall": (0.65, 0.10, 0.15, 0.10),
        "beam": (0.45, 0.35, 0.20, 0.00),
        "column": (0.55, 0.15, 0.20, 0.10),
        "window": (0.50, 0.10, 0.25, 0.15),
        "door": (0.35, 0.35, 0.15, 0.15),
        "table": (0.30, 0.45, 0.20, 0.05),
        "chair": (0.15, 0.25, 0.35, 0.25),
        "sofa": (0.25, 0.10, 0.35, 0.30),
        "bookcase": (0.30, 0.40, 0.20, 0.10),
        "board": (0.50, 0.15, 0.20, 0.15),
        "clutter": (0.25, 0.25, 0.25, 0.25),
        "cabinet": (0.35, 0.40, 0.15, 0.10),
        "bed": (0.35, 0.15, 0.25, 0.25),
        "bookshelf": (0.30, 0.40, 0.20, 0.10),
        "picture": (0.25, 0.25, 0.25, 0.25),
        "counter": (0.30, 0.30, 0.35, 0.05),
        "desk": (0.30, 0.45, 0.20, 0.05),
        "curtain": (0.40, 0.05, 0.25, 0.30),
        "refrigerator": (0.55, 0.05, 0.25, 0.15),
        "shower curtain": (0.45, 0.00, 0.20, 0.35),
        "toilet": (0.70, 0.05, 0.15, 0.10),
        "sink": (0.60, 0.05, 0.25, 0.10),
        "bathtub": (0.65, 0.05, 0.15, 0.15),
        "otherfurniture": (0.25, 0.25, 0.25, 0.25),
    },
    designs={"table": (4, 3, 2, 2), "chair": (4, 4, 1), "sofa": (3, 1), "clutter": (4, 3, 3, 3, 2)},
    size=(0.92, 1.12),
    jitter=0.06,
)

_STUDIO = Style(
    name="studio",
    materials={
        "light": (
            _m("f4efe2", "e3d9c2", "mottled", "stripes"),
            _m("e8d3c8", "d8b9a8", "plain", "bricks"),
            _m("dfe7c9", "c6d2a6", "plain", "checker"),
            _m("cfe0ee", "a8c6de", "plain", "stripes"),
        ),
        "wood": (
            _m("d8a66a", "b98045", "planks", "wood"),
            _m("7a3f22", "5c2d17", "wood", "planks"),
            _m("a5713f", "7f5127", "wood", "bricks"),
        ),
        "dark": (
            _m("2d2a35", "4a4556", "checker", "plain"),
            _m("24403a", "183029", "fabric", "stripes"),
            _m("542b3a", "3c1d28", "fabric", "plain"),
            _m("3b3b3b", "666666", "checker", "tiles"),
        ),
        "bright": (
            _m("d8573c", "b03e28", "fabric", "bricks"),
            _m("3aa0a8", "2a7f86", "plain", "checker"),
            _m("9a5fb0", "7b4590", "fabric", "plain"),
            _m("e2c044", "c7a22c", "stripes", "plain"),
        ),
    },
    preference={
        "ceiling": (0.75, 0.20, 0.05, 0.00),
        "floor": (0.20, 0.50, 0.20, 0.10),
        "wall": (0.55, 0.10, 0.10, 0.25),
        "beam": (0.30, 0.60, 0.10, 0.00),
        "column": (0.45, 0.25, 0.15, 0.15),
        "window": (0.60, 0.05, 0.15, 0.20),
        "door": (0.20, 0.50, 0.10, 0.20),
        "table": (0.20, 0.60, 0.15, 0.05),
        "chair": (0.10, 0.35, 0.20, 0.35),
        "sofa": (0.15, 0.05, 0.40, 0.40),
        "bookcase": (0.20, 0.60, 0.15, 0.05),
        "board": (0.45, 0.05, 0.40, 0.10),
        "clutter": (0.25, 0.20, 0.20, 0.35),
        "cabinet": (0.25, 0.50, 0.10, 0.15),
        "bed": (0.25, 0.15, 0.25, 0.35),
        "bookshelf": (0.20, 0.60, 0.15, 0.05),
        "picture": (0.20, 0.20, 0.25, 0.35),
        "counter": (0.25, 0.45, 0.25, 0.05),
        "desk": (0.20, 0.60, 0.15, 0.05),
        "curtain": (0.30, 0.05, 0.25, 0.40),
        "refrigerator": (0.50, 0.05, 0.20, 0.25),
        "shower curtain": (0.40, 0.00, 0.20, 0.40),
        "toilet": (0.75, 0.05, 0.10, 0.10),
        "sink": (0.60, 0.05, 0.20, 0.15),
        "bathtub": (0.60, 0.05, 0.15, 0.20),
        "otherfurniture": (0.25, 0.20, 0.20, 0.35),
    },
    designs={"table": (3, 1, 4, 3), "chair": (5, 2, 3), "sofa": (2, 2), "clutter": (3, 4, 2, 3, 4)},
    size=(0.85, 1.05),
    jitter=0.1,
    lamps=Lamps((1, 2), (0.5, 0.95), (0.3, 0.5), (0.0, 0.2), (0.1, 0.45)),
    sensor=Sensor((1.0, 3.0), (0.8, 1.25), 0.05, 0.25),
)

STYLES: Mapping[str, Style] = {style.name: style for style in (_SITE, _STUDIO)}
"""Name -> style."""

GROUPS: tuple[Group, ...] = ("light", "wood", "dark", "bright")


def style_named(name: str) -> Style:
    """The style of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in STYLES:
        raise UnknownName.among("style of rooms", name, STYLES)
    return STYLES[name]

"""A furnished room: its solids, its light and its name, drawn from a seed.

Usable without any disk: `make_room` here, `render_view` in `render.py`, `viewpoints` in `cameras.py` and
`sample_surface` in `surface.py`. Knows no file.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from storage.labels import LabelSet
from storage.specs.parts import Split
from workers.scenes.rooms.domains import DomainName, domain_named
from workers.scenes.rooms.floorplan import NoPlace
from workers.scenes.rooms.light import Appearance, Light, draw_light
from workers.scenes.rooms.maker import Maker
from workers.scenes.rooms.plan import BLOCK
from workers.scenes.rooms.solids import F64, Solid
from workers.scenes.rooms.styles import Style, StyleName, style_named

_ATTEMPTS = 60
_TEST_AREA = 6


@dataclass(frozen=True, eq=False)
class Room:
    """One furnished room."""

    id: str
    """Such as area_1_office_03 or home_train_03."""
    label_set: LabelSet
    """What its labels mean."""
    style: Style
    size_m: tuple[float, float, float]
    """Inner extents in x, y, z; the room's lower corner is the origin."""
    classes: tuple[str, ...]
    """Names of the classes that stand in it."""
    solids: tuple[Solid, ...]
    air: tuple[tuple[F64, F64], ...]
    """Boxes of air: the room and the niches of its windows and doors."""
    light: Light
    seed: tuple[int, ...] = field(repr=False)

    def rng(self, purpose: str, index: int = 0) -> np.random.Generator:
        """A generator for one purpose, the same on every call."""
        return np.random.default_rng([*self.seed, zlib.crc32(purpose.encode()), index])

    @cached_property
    def appearance(self) -> Appearance:
        """How its solids look under its light."""
        return Appearance.of(self.solids, self.size_m, self.light)

    @cached_property
    def bounds(self) -> tuple[F64, F64]:
        """(S,3) lowest and (S,3) highest corners of the solids' bounding boxes."""
        corners = [solid.bounds for solid in self.solids]
        return np.array([low for low, _ in corners]), np.array([high for _, high in corners])


def room_id(split: Split, index: int, domain: DomainName = "offices") -> str:
    """The name of the `index`-th room of a split: of the offices' areas five train and the sixth is held out.

    Examples:
        >>> room_id("train", 6), room_id("test", 0), room_id("test", 0, "homes")
        ('area_2_office_02', 'area_6_office_01', 'home_test_01')
    """
    if domain == "homes":
        return f"home_{split}_{index + 1:02d}"
    if split == "test":
        return f"area_{_TEST_AREA}_office_{index + 1:02d}"
    return f"area_{1 + index % BLOCK}_office_{index // BLOCK + 1:02d}"


def make_room(domain: DomainName, style: StyleName, seed: int, split: Split, index: int) -> Room:
    """The `index`-th room of a split, the same for the same arguments.

    Every aligned block of five rooms of a split holds every class; an office holds 4 to 10, a home's room 4 to 12.

    Args:
        domain: "offices" (labels of S3DIS-13) or "homes" (ScanNet-20).
        style: "site", which SynthRooms shows, or "studio", on which the mini encoder is trained.
        seed: of the whole series.
        split: "train" or "test": series of their own.
        index: from 0.

    Raises:
        UnknownName: no such domain or style.
    """
    building = domain_named(domain)
    look = style_named(style)
    series = [seed, zlib.crc32(f"{domain}/{style}/{split}".encode())]
    plan = building.plan(series, index)
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([*series, 2, index, attempt])
        make = Maker(look, rng, building.label_set, building.unlabelled)
        # later attempts get more floor, so that the search ends
        more = 0.02 * attempt
        x, y, z = plan.size_m
        size = (rng.uniform(*x) + more, rng.uniform(*y) + more, rng.uniform(*z))
        try:
            shell = building.lay_out(make, (float(size[0]), float(size[1]), float(size[2])), plan.classes)
        except NoPlace:
            continue
        light = draw_light(look, shell.size, rng)
        numbers = (*series, 3, index)
        name, solids, air = room_id(split, index, domain), tuple(shell.solids), tuple(shell.air)
        return Room(name, building.label_set, look, shell.size, plan.classes, solids, air, light, numbers)
    raise AssertionError(f"no layout found for {room_id(split, index, domain)} in {_ATTEMPTS} attempts")

"""The two domains of SynthRooms: what each calls things, which rooms it has and how they are furnished.

Offices are labelled as S3DIS is, homes as ScanNet is. ScanNet-20 has no ceiling: homes have one, for light and rays;
its pixels are IGNORE and no point is sampled of it, as ScanNet's scans hardly ever show one. Small things on furniture
are IGNORE too, pixels and points, as ScanNet's "otherprop" is. Knows no solid, seed or file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from storage.errors import UnknownName
from storage.labels import S3DIS13, SCANNET20, LabelSet
from workers.scenes.rooms import layout as offices
from workers.scenes.rooms.homes import layout as homes
from workers.scenes.rooms.homes.plan import rooms_of
from workers.scenes.rooms.maker import Maker
from workers.scenes.rooms.plan import Range, classes_of
from workers.scenes.rooms.shell import Shell

DomainName = Literal["offices", "homes"]


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """What one room is to be, before anything is drawn."""

    classes: tuple[str, ...]
    """Names of the classes that it shows."""
    size_m: tuple[Range, Range, Range]
    """Bounds of its inner extents in x, y, z."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of building."""

    name: DomainName
    label_set: LabelSet
    unlabelled: tuple[str, ...]
    """What stands in its rooms without a class in the label set."""
    plan: Callable[[list[int], int], RoomPlan]
    """(what a series is drawn from, index from 0) -> plan of that room."""
    lay_out: Callable[[Maker, tuple[float, float, float], tuple[str, ...]], Shell]
    """Furnishes a room of that size with those classes, or raises NoPlace."""


def _office(series: list[int], index: int) -> RoomPlan:
    return RoomPlan(classes_of(series, index), ((3.0, 4.3), (3.0, 3.9), (2.4, 2.8)))


def _home(series: list[int], index: int) -> RoomPlan:
    kind, classes = rooms_of(series, index)
    return RoomPlan(classes, (kind.x_m, kind.y_m, (2.4, 2.75)))


DOMAINS: Mapping[str, Domain] = {
    domain.name: domain
    for domain in (
        Domain("offices", S3DIS13, (), _office, offices.lay_out),
        Domain("homes", SCANNET20, ("ceiling", "clutter"), _home, homes.lay_out),
    )
}
"""Name -> domain."""


def domain_named(name: str) -> Domain:
    """The domain of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in DOMAINS:
        raise UnknownName.among("domain of SynthRooms", name, DOMAINS)
    return DOMAINS[name]

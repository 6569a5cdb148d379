"""Light in a room, and the colour of surfaces under it: texture, lamps, daylight and soft occlusion near corners.

Knows solids and finishes; knows no camera. Colours are display colours (as in a photograph), 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.scenes.rooms.finishes import F32, PATTERNS, accent_share
from workers.scenes.rooms.solids import F64, Solid
from workers.scenes.rooms.styles import Style


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """Lamps and daylight of one room."""

    lamps: F32
    """(L,3) positions, metres."""
    colours: F32
    """(L,3) strength a channel."""
    ambient: F32
    """(3,)"""
    daylight: F32
    """(3,) strength a channel."""
    direction: F32
    """(3,) unit, where daylight comes from."""


def draw_light(style: Style, size: tuple[float, float, float], rng: np.random.Generator) -> Light:
    """The light of a room of that style and size."""
    lamps = style.lamps
    count = int(rng.integers(lamps.count[0], lamps.count[1] + 1))
    places = np.array([[rng.uniform(0.2, 0.8) * size[0], rng.uniform(0.2, 0.8) * size[1], size[2] - 0.15]
                       for _ in range(count)])  # fmt: skip
    warm = rng.uniform(*lamps.warmth)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    power = rng.uniform(*lamps.power) / np.sqrt(count)
    turn = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(turn), np.sin(turn), 0.5])
    cold = np.array([0.95, 1.0, 1.06])
    return Light(
        places.astype(np.float32),
        np.tile(tint * power, (count, 1)).astype(np.float32),
        (rng.uniform(*lamps.ambient) * (1 + (tint - 1) * 0.5)).astype(np.float32),
        (rng.uniform(*lamps.daylight) * cold).astype(np.float32),
        (direction / np.linalg.norm(direction)).astype(np.float32),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """How the solids of a room look under its light: tables of one row a solid, gathered by solid number."""

    axes: F32
    centre: F32
    half: F32
    round: NDArray[np.bool_]
    instance: NDArray[np.int64]
    colour: F32
    accent: F32
    pattern: NDArray[np.int64]
    scale: F32
    contrast: F32
    shift: F32
    light: Light
    size: tuple[float, float, float]
    occluders: tuple[tuple[int, F32, F32], ...]
    """(instance, lowest, highest corner) of the things that darken what is near them."""

    @classmethod
    def of(cls, solids: Sequence[Solid], size: tuple[float, float, float], light: Light) -> Appearance:
        """The tables of some solids in a room of that size."""
        looks = [solid.finish for solid in solids]
        return cls(
            np.array([s.axes for s in solids], np.float32),
            np.array([s.centre for s in solids], np.float32),
            np.array([s.half for s in solids], np.float32),
            np.array([s.kind == "cylinder" for s in solids]),
            np.array([s.instance for s in solids]),
            np.array([f.colour for f in looks], np.float32),
            np.array([f.accent for f in looks], np.float32),
            np.array([PATTERNS.index(f.pattern) for f in looks]),
            np.array([f.scale_m for f in looks], np.float32),
            np.array([f.contrast for f in looks], np.float32),
            np.array([f.shift for f in looks], np.float32),
            light,
            size,
            tuple(_occluders(solids)),
        )

    def colours(self, solid: NDArray[np.int64], points: F64) -> tuple[F32, F32]:
        """Lit colours and normals of points on solids.

        Args:
            solid: (P,) which solid each point lies on.
            points: (P,3) world, metres.

        Returns:
            (P,3) display colours, 0..1; (P,3) outward unit normals, world.
        """
        normals, coordinates = self.surfaces(solid, points)
        bright = self._albedo(solid, coordinates) * self._light(solid, points.astype(np.float32), normals)
        # as a camera does: highlights are compressed, not clipped
        return np.where(bright > _KNEE, 1 - (1 - _KNEE) * np.exp((_KNEE - bright) / (1 - _KNEE)), bright), normals

    def surfaces(self, solid: NDArray[np.int64], points: F64) -> tuple[F32, F32]:
        """(P,3) outward unit normals and (P,2) pattern coordinates (metres) of (P,3) points on solids."""
        axes, half = self.axes[solid], self.half[solid]
        offset = points.astype(np.float32) - self.centre[solid]
        local = np.einsum("pi,pij->pj", offset, axes)
        share = np.abs(local) / half
        is_round = self.round[solid]
        radius = np.hypot(local[:, 0], local[:, 1])
        rounded = is_round & (radius / half[:, 0] >= share[:, 2])
        flat = np.argmax(share, axis=1)
        flat[is_round] = 2
        rows = np.arange(len(solid))
        normals = axes[rows, :, flat] * np.sign(local[rows, flat])[:, None]
        first = local[rows, (flat == 0).astype(np.int64)]
        second = local[rows, 2 - (flat == 2)]
        if rounded.any():
            k = np.flatnonzero(rounded)
            out = local[k, :2] / np.maximum(radius[k], 1e-9)[:, None]
            normals[k] = axes[k, :, 0] * out[:, :1] + axes[k, :, 1] * out[:, 1:]
            first[k] = np.arctan2(local[k, 1], local[k, 0]) * half[k, 0]
            second[k] = local[k, 2]
        return normals, np.stack([first, second], axis=1) + self.shift[solid]

    def _albedo(self, solid: NDArray[np.int64], coordinates: F32) -> F32:
        kind, share = self.pattern[solid], np.zeros(len(solid), np.float32)
        for number in np.unique(kind):
            at = np.flatnonzero(kind == number)
            a, b = coordinates[at, 0], coordinates[at, 1]
            share[at] = accent_share(PATTERNS[number], a, b, self.scale[solid[at]])
        weight = (share * self.contrast[solid])[:, None]
        return self.colour[solid] * (1 - weight) + self.accent[solid] * weight

    def _light(self, solid: NDArray[np.int64], at: F32, normals: F32) -> F32:
        """(P,3) light that falls on points, a channel."""
        total = np.broadcast_to(self.light.ambient, at.shape).copy()
        total *= _corners(self.size, at, normals)[:, None]
        for lamp, colour in zip(self.light.lamps, self.light.colours, strict=True):
            ray = lamp - at
            distance = np.sqrt(np.einsum("pc,pc->p", ray, ray))
            cosine = np.einsum("pc,pc->p", ray, normals) / np.maximum(distance, 1e-6)
            # a lamp is a panel: it reaches a little round the edge, and falls off slower than a point
            fall = np.clip(cosine * 0.85 + 0.15, 0, None) / (0.9 + 0.3 * distance * distance)
            total += fall[:, None] * colour * 2.0
        total += np.clip(np.einsum("pc,c->p", normals, self.light.direction), 0, None)[:, None] * self.light.daylight
        return total * self._open(self.instance[solid], at)[:, None]

    def _open(self, instance: NDArray[np.int64], at: F32) -> F32:
        """(P,) share of light left by the things near a point: soft shadows under and beside furniture."""
        share = np.ones(len(at), np.float32)
        x, y, z = (np.ascontiguousarray(at[:, axis]) for axis in range(3))
        for number, low, high in self.occluders:
            near = (x > low[0] - _REACH_M) & (x < high[0] + _REACH_M) & (y > low[1] - _REACH_M)
            near &= (y < high[1] + _REACH_M) & (z > low[2] - _REACH_M) & (z < high[2] + _REACH_M) & (instance != number)
            k = np.flatnonzero(near)
            if len(k):
                gap = np.maximum(np.maximum(low - at[k], at[k] - high), 0)
                distance = np.sqrt(np.einsum("pc,pc->p", gap, gap))
                share[k] *= 1 - 0.38 * np.clip(1 - distance / _REACH_M, 0, 1) ** 2
        return share


_KNEE = np.float32(0.72)
_REACH_M = np.float32(0.3)
_SHELL_INSTANCES = 6


def _occluders(solids: Sequence[Solid]) -> list[tuple[int, F32, F32]]:
    boxes: dict[int, tuple[F32, F32]] = {}
    for solid in solids:
        if solid.instance < _SHELL_INSTANCES:
            continue
        low, high = (corner.astype(np.float32) for corner in solid.bounds)
        if solid.instance in boxes:
            low, high = np.minimum(low, boxes[solid.instance][0]), np.maximum(high, boxes[solid.instance][1])
        boxes[solid.instance] = (low, high)
    return [(number, low, high) for number, (low, high) in boxes.items() if low[2] < 1.2]


def _corners(size: tuple[float, float, float], at: F32, normals: F32) -> F32:
    """(P,) share of ambient light left near the room's corners and edges."""
    open_share = np.ones(len(at), np.float32)
    for axis in range(3):
        near = np.minimum(at[:, axis], np.float32(size[axis]) - at[:, axis])
        depth = 0.4 * np.exp(-np.maximum(near, 0) / np.float32(0.22))
        open_share *= 1 - depth * (1 - np.abs(normals[:, axis]))
    return open_share

"""What surfaces look like before light falls on them: colours, patterns, and the noise that they are made of.

Knows colours and 2D surface coordinates; knows no solid, class or camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
RGB = tuple[float, float, float]

Pattern = Literal["plain", "mottled", "wood", "tiles", "checker", "stripes", "bricks", "fabric", "planks"]
PATTERNS: tuple[str, ...] = get_args(Pattern)


@dataclass(frozen=True, slots=True)
class Finish:
    """The look of one instance, or of a part of one."""

    colour: RGB
    """Base colour, 0..1."""
    accent: RGB
    """The pattern's second colour."""
    pattern: Pattern = "plain"
    scale_m: float = 0.1
    """Size of a tile, stripe or grain, metres."""
    contrast: float = 0.5
    """How much of the accent the pattern shows at most."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Offset of the pattern on the surface, metres."""
    glow: float = 0.0
    """Light that the surface gives off of its own, as a share of its colour."""


@dataclass(frozen=True, slots=True)
class Material:
    """A named colour of a palette and the patterns it comes in."""

    colour: RGB
    accent: RGB
    patterns: tuple[Pattern, ...]


def finish_of(material: Material, rng: np.random.Generator, jitter: float) -> Finish:
    """A finish of that material, its colour jittered as instances differ."""
    tone = 1.0 + rng.normal(0.0, jitter)
    colour = tuple(float(np.clip(c * tone + rng.normal(0.0, jitter / 2), 0.02, 1.0)) for c in material.colour)
    accent = tuple(float(np.clip(c * tone + rng.normal(0.0, jitter / 2), 0.02, 1.0)) for c in material.accent)
    pattern = material.patterns[int(rng.integers(len(material.patterns)))]
    low, high = {
        "tiles": (0.2, 0.6), "checker": (0.15, 0.4), "bricks": (0.18, 0.3), "planks": (0.12, 0.25),
        "stripes": (0.05, 0.3), "wood": (0.03, 0.08), "fabric": (0.004, 0.01),
    }.get(pattern, (0.05, 0.4))  # fmt: skip
    return Finish(
        (colour[0], colour[1], colour[2]),
        (accent[0], accent[1], accent[2]),
        pattern,
        float(rng.uniform(low, high)),
        float(rng.uniform(0.35, 0.9)),
        (float(rng.uniform(0, 4)), float(rng.uniform(0, 4))),
    )


def _noise_table(size: int = 512) -> F32:
    """(size,size) tileable noise of several octaves, 0..1; always the same."""
    rng = np.random.default_rng(20240)
    total = np.zeros((size, size))
    for octave, weight in ((8, 1.0), (32, 0.8), (128, 0.5), (512, 0.3)):
        coarse = rng.random((octave, octave))
        at = np.arange(size) * octave / size
        low = at.astype(int)
        part = (at - low)[:, None]
        rows = coarse[low % octave] * (1 - part) + coarse[(low + 1) % octave] * part
        columns = rows[:, low % octave] * (1 - part.T) + rows[:, (low + 1) % octave] * part.T
        total += weight * columns
    total -= total.min()
    table: F32 = (total / total.max()).astype(np.float32)
    return table


_NOISE = _noise_table()


def noise(a: F32, b: F32, texel: float) -> F32:
    """Noise 0..1 at surface coordinates (metres), `texel` metres an entry of the table."""
    rows = np.floor(a / np.float32(texel)).astype(np.int32) & (_NOISE.shape[0] - 1)
    columns = np.floor(b / np.float32(texel)).astype(np.int32) & (_NOISE.shape[1] - 1)
    values: F32 = _NOISE[rows, columns]
    return values


def accent_share(pattern: str, a: F32, b: F32, scale: F32) -> F32:
    """How much of the accent a pattern shows, 0..1, at surface coordinates.

    Args:
        pattern: its name.
        a: (P,) first coordinate, metres.
        b: (P,) second, metres.
        scale: (P,) the finish's scale, metres.
    """
    share: F32
    if pattern == "plain":
        share = 0.12 * noise(a, b, 0.01)
    elif pattern == "mottled":
        share = noise(a / scale * 0.1, b / scale * 0.1, 0.004)
    elif pattern == "fabric":
        share = noise(a / scale, b / scale, 1.0)
    elif pattern == "wood":
        grain = noise(a / scale * 0.1, b / scale * 0.006, 0.004)
        share = (0.5 + 0.5 * np.sin(25.0 * grain + 2.0 * a / scale)).astype(np.float32) * 0.6 + 0.4 * grain
    elif pattern == "stripes":
        share = (np.floor(a / scale).astype(np.int32) & 1).astype(np.float32)
    elif pattern == "checker":
        share = ((np.floor(a / scale) + np.floor(b / scale)).astype(np.int32) & 1).astype(np.float32)
    else:
        share = _courses(pattern, a, b, scale)
    return share


def _courses(pattern: str, a: F32, b: F32, scale: F32) -> F32:
    """Tiles, bricks or planks: rows of pieces of different tone, with joints between them."""
    width = scale * (3.0 if pattern == "planks" else 1.0 if pattern == "tiles" else 0.8)
    height = scale if pattern != "bricks" else scale * 0.4
    row = np.floor(b / height)
    along = a / width + (np.where(row.astype(np.int32) & 1, 0.5, 0.0) if pattern != "tiles" else 0.0)
    column = np.floor(along)
    joint = np.float32(0.006)
    at_joint = ((along - column) * width < joint) | ((b / height - row) * height < joint)
    tone = noise(column.astype(np.float32) * 7.0, row.astype(np.float32) * 13.0, 1.0) * 0.45
    if pattern == "planks":
        tone = tone + 0.25 * noise(a / scale * 0.02, b / scale * 0.2, 0.004)
    share: F32 = np.where(at_joint, np.float32(1.0), tone.astype(np.float32))
    return share

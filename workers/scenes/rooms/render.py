"""Ray casting: a room and a camera to colour, depth and label images.

Depth is exact before noise: for each pixel the nearest of the solids' analytic intersections in float64. Each solid is
tested only on the rectangle of pixels that its bounding box can reach. Knows rooms and cameras; knows no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.scenes.rooms.room import Room
from workers.scenes.rooms.solids import F64, Solid, times
from workers.scenes.rooms.styles import Sensor

NEAR_M = 0.02
"""Nothing nearer to a camera than this is seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole camera in a room; conventions as in `workers.scenes.scene`."""

    camera_to_world: F64
    """(4,4) metres."""
    focal: float
    """Focal length as a share of the image's width."""

    def intrinsics(self, width: int, height: int) -> F64:
        """(3,3) K for an image of that size, pixels; square pixels, principal point in the middle."""
        f = self.focal * width
        return np.array([[f, 0.0, (width - 1) / 2], [0.0, f, (height - 1) / 2], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a camera sees."""

    rgb: NDArray[np.uint8]
    """(H,W,3)"""
    depth_m: NDArray[np.float32]
    """(H,W) z in the camera frame; 0 = no reading."""
    labels: NDArray[np.int16]
    """(H,W)"""


def cast(solids: Sequence[Solid], camera: Camera, width: int, height: int) -> tuple[F64, NDArray[np.int64]]:
    """The nearest surface along every pixel's ray.

    Returns:
        (H,W) depth in metres, infinite where nothing is hit; (H,W) number of the solid that is hit, -1 for none.
    """
    k = camera.intrinsics(width, height)
    turn, position = camera.camera_to_world[:3, :3], camera.camera_to_world[:3, 3]
    across, down = (np.arange(width) - k[0, 2]) / k[0, 0], (np.arange(height) - k[1, 2]) / k[1, 1]
    depth = np.full((height, width), np.inf)
    number = np.full((height, width), -1, dtype=np.int64)
    for index, solid in enumerate(solids):
        window = _window(solid, turn, position, k, width, height)
        if window is None:
            continue
        rows, columns = window
        origin = (position - solid.centre) @ solid.axes
        basis = turn.T @ solid.axes
        u, v = across[columns][None, :], down[rows][:, None]
        rays = tuple(u * basis[0, a] + (v * basis[1, a] + basis[2, a]) for a in range(3))
        hit = _box_hit(origin, rays, solid.half) if solid.kind == "box" else _round_hit(origin, rays, solid.half)
        nearest = depth[rows, columns]
        better = hit < nearest
        np.copyto(nearest, hit, where=better)
        np.copyto(number[rows, columns], index, where=better)
    return depth, number


def render_view(
    room: Room, camera: Camera, width: int, height: int, rng: np.random.Generator, noise: bool = True
) -> View:
    """Colour, depth and labels of a room as a camera sees it.

    Args:
        room: what is seen.
        camera: from where.
        width: of the images, pixels.
        height: pixels.
        rng: draws the sensor's noise.
        noise: False gives exact depth and noiseless colours.
    """
    depth, number = cast(room.solids, camera, width, height)
    seen = number >= 0
    k = camera.intrinsics(width, height)
    rows, columns = np.nonzero(seen)
    z, which = depth[seen], number[seen]
    rays = np.stack([(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], np.ones(len(z))], axis=1)
    turn = camera.camera_to_world[:3, :3]
    points = times(rays * z[:, None], turn.T) + camera.camera_to_world[:3, 3]
    colours = np.zeros((height, width, 3), np.float32)
    colours[seen], normals = room.appearance.colours(which, points)
    labels = np.full((height, width), -1, np.int16)
    labels[seen] = _labels(room)[which]
    exact = np.where(seen, depth, 0.0)
    if noise:
        directions = times(rays, turn.T)
        cosine = np.zeros((height, width), np.float32)
        cosine[seen] = np.abs(np.einsum("pc,pc->p", directions, normals)) / np.linalg.norm(rays, axis=1)
        colours = _photograph(colours, room.style.sensor, rng)
        exact = _measured(exact, cosine, room.style.sensor, rng)
    rgb = np.clip(colours * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return View(rgb, exact.astype(np.float32), labels)


def _labels(room: Room) -> NDArray[np.int16]:
    return np.array([solid.label for solid in room.solids], np.int16)


def _window(solid: Solid, turn: F64, position: F64, k: F64, width: int, height: int) -> tuple[slice, slice] | None:
    """Rows and columns that a solid can reach, or None where it is out of sight."""
    corners = (solid.corners - position) @ turn
    z = corners[:, 2]
    if z.max() <= NEAR_M:
        return None
    if z.min() <= NEAR_M:
        return slice(0, height), slice(0, width)
    u, v = corners[:, 0] / z * k[0, 0] + k[0, 2], corners[:, 1] / z * k[1, 1] + k[1, 2]
    left, right = max(0, int(np.floor(u.min()))), min(width, int(np.ceil(u.max())) + 1)
    top, bottom = max(0, int(np.floor(v.min()))), min(height, int(np.ceil(v.max())) + 1)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _slab(origin: float, ray: F64, half: float) -> tuple[F64, F64]:
    """Where rays enter and leave the slab |x| <= half."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / ray
        middle, reach = -origin * inverse, np.abs(inverse) * half
    return middle - reach, middle + reach


def _box_hit(origin: F64, rays: tuple[F64, ...], half: F64) -> F64:
    """Depth at which rays enter a box, infinite where they miss it."""
    enter, leave = _slab(origin[0], rays[0], half[0])
    for axis in (1, 2):
        low, high = _slab(origin[axis], rays[axis], half[axis])
        np.maximum(enter, low, out=enter)
        np.minimum(leave, high, out=leave)
    enter[(enter > leave) | ~(enter > NEAR_M)] = np.inf
    return enter


def _round_hit(origin: F64, rays: tuple[F64, ...], half: F64) -> F64:
    """Depth at which rays enter a capped cylinder, infinite where they miss it."""
    a = rays[0] * rays[0] + rays[1] * rays[1]
    b = origin[0] * rays[0] + origin[1] * rays[1]
    c = origin[0] ** 2 + origin[1] ** 2 - half[0] ** 2
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        enter, leave = (-b - root) / a, (-b + root) / a
    low, high = _slab(origin[2], rays[2], half[2])
    enter, leave = np.maximum(enter, low), np.minimum(leave, high)
    hit: F64 = np.where((enter > leave) | ~(enter > NEAR_M) | (b * b < a * c), np.inf, enter)
    return hit


def _photograph(colours: NDArray[np.float32], sensor: Sensor, rng: np.random.Generator) -> NDArray[np.float32]:
    """Colours as the sensor takes them: exposure, white balance, vignette, noise."""
    height, width, _ = colours.shape
    gain = rng.uniform(*sensor.exposure) * (1 + rng.normal(0, sensor.white_balance, 3))
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    dim = (1 - sensor.vignette * 0.5 * (x * x + y * y)).astype(np.float32)
    taken = colours * gain.astype(np.float32) * dim[..., None]
    sigma = np.float32(rng.uniform(*sensor.colour_noise) / 255)
    return taken + sigma * rng.standard_normal(colours.shape, dtype=np.float32)


def _measured(depth: F64, cosine: NDArray[np.float32], sensor: Sensor, rng: np.random.Generator) -> F64:
    """Depth as the sensor takes it: noise that grows with its square, gaps at edges and grazing surfaces."""
    noisy = depth + sensor.depth_noise * depth * depth * rng.standard_normal(depth.shape)
    chance = rng.random(depth.shape)
    jump = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis)) > sensor.edge_jump * np.minimum(
            depth[1:] if axis == 0 else depth[:, 1:], depth[:-1] if axis == 0 else depth[:, :-1]
        )
        if axis == 0:
            jump[1:] |= step
            jump[:-1] |= step
        else:
            jump[:, 1:] |= step
            jump[:, :-1] |= step
    lost = (chance < sensor.dropout) | (jump & (chance < 0.5)) | (cosine < sensor.grazing_cosine)
    return np.where(lost | (depth <= 0), 0.0, np.maximum(noisy, 0.0))

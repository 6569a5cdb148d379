"""The pinhole camera: pixels to world points and back, and intrinsics of a resized image.

Conventions as in `workers.scenes.scene`: metres; a camera looks along +z, x right, y down; pixel (u, v) = (column, row)
with the centre of the first pixel at (0, 0); depth is z in the camera frame; 0 = no reading. A resized image's
coordinates follow by the plain ratio of the sizes, u' = u * w'/w, as in the authors' code: the centre of the first
pixel stays there. Everything here computes in float64. Knows no file and no dataset.

Shape suffixes: p points, hw rows and columns of an image.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

Size = tuple[int, int]
"""Width and height, pixels."""


def scale_intrinsics(
    intrinsics: Float[NDArray[np.float64], "3 3"], from_size: Size, to_size: Size
) -> Float[NDArray[np.float64], "3 3"]:
    """The intrinsics of an image resized from one size to another: the first row times w'/w, the second times h'/h.

    Source: the authors' code ("intrinsics rescaled from the sensor's size"). Libraries that keep the image's outer
    edge in place add (ratio - 1) / 2 to the principal point; here the first pixel's centre stays, and nothing is added.

    Examples:
        >>> scale_intrinsics(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), (640, 480), (320, 240))
        array([[300.,   0., 160.],
               [  0., 300., 120.],
               [  0.,   0.,   1.]])
    """
    ratio = np.array([to_size[0] / from_size[0], to_size[1] / from_size[1], 1.0])
    scaled: NDArray[np.float64] = np.asarray(intrinsics, dtype=np.float64) * ratio[:, None]
    return scaled


def resized_pixels(length: int, to_length: int) -> Int[NDArray[np.int64], "to_length"]:
    """For each pixel along one side of a resized image, the nearest pixel of the original: round(i * length/to_length).

    This is nearest-neighbour resizing in the convention of `scale_intrinsics`; halves go up.

    Examples:
        >>> resized_pixels(6, 3)
        array([0, 2, 4])
    """
    nearest: NDArray[np.int64] = (2 * length * np.arange(to_length) + to_length) // (2 * to_length)
    return np.minimum(nearest, length - 1)


def resize_nearest(image_hw: NDArray[np.generic], size: Size) -> NDArray[np.generic]:
    """An image, (h,w) or (h,w,c), resized to (width, height) by `resized_pixels`; the image itself where it fits."""
    width, height = size
    if image_hw.shape[:2] == (height, width):
        return image_hw
    rows, columns = resized_pixels(image_hw.shape[0], height), resized_pixels(image_hw.shape[1], width)
    return image_hw[rows[:, None], columns[None, :]]


def has_reading(depth_m: Float[NDArray[np.floating], "*pixels"]) -> Bool[NDArray[np.bool_], "*pixels"]:
    """Where a depth map holds a reading: finite and more than zero."""
    reading: NDArray[np.bool_] = np.isfinite(depth_m) & (depth_m > 0)
    return reading


def back_project(
    depth_m: Float[NDArray[np.floating], "height width"],
    intrinsics: Float[NDArray[np.float64], "3 3"],
    camera_to_world: Float[NDArray[np.float64], "4 4"],
) -> Float[NDArray[np.float64], "height width 3"]:
    """World points of a depth map's pixels, metres; NaN where there is no reading.

    Args:
        depth_m: z in the camera frame, metres; 0 = no reading.
        intrinsics: K of an image of the depth map's size, pixels.
        camera_to_world: pose, metres.
    """
    depth_hw = np.where(has_reading(depth_m), depth_m, np.nan).astype(np.float64)
    height, width = depth_hw.shape
    u, v = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    rays_hw3 = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
    points: NDArray[np.float64] = (rays_hw3 * depth_hw[..., None]) @ camera_to_world[:3, :3].T + camera_to_world[:3, 3]
    return points


def project(
    points_world_m: Float[NDArray[np.floating], "points 3"],
    intrinsics: Float[NDArray[np.float64], "3 3"],
    world_to_camera: Float[NDArray[np.float64], "4 4"],
) -> tuple[Float[NDArray[np.float64], "points 2"], Float[NDArray[np.float64], "points"]]:
    """Pixel coordinates (u, v) of world points, not rounded, and their z in the camera frame, metres.

    A point at or behind the camera (z <= 0) has no image: its (u, v) is NaN.
    """
    camera_p3 = np.asarray(points_world_m, dtype=np.float64) @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    z_p = camera_p3[:, 2]
    scaled_p3 = camera_p3 @ np.asarray(intrinsics, dtype=np.float64).T
    uv_p2 = scaled_p3[:, :2] / np.where(z_p > 0, scaled_p3[:, 2], np.nan)[:, None]
    return uv_p2, z_p


def invert_pose(pose: Float[NDArray[np.float64], "4 4"]) -> Float[NDArray[np.float64], "4 4"]:
    """The inverse of a 4x4 pose: camera-to-world gives world-to-camera, and back."""
    inverse: NDArray[np.float64] = np.linalg.inv(np.asarray(pose, dtype=np.float64))
    return inverse

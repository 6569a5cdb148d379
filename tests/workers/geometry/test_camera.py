from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from tests.oracles.lifting_oracle import in_camera, nearest_source_pixel
from workers.geometry import camera

K = np.array([[290.0, 0.0, 158.5], [0.0, 301.0, 117.25], [0.0, 0.0, 1.0]])


def random_pose(seed: int) -> NDArray[np.float64]:
    """A rigid camera-to-world pose: a random rotation and a place within 3 m."""
    generator = np.random.default_rng(seed)
    rotation, upper = np.linalg.qr(generator.standard_normal((3, 3)))
    rotation *= np.sign(np.diag(upper))
    if np.linalg.det(rotation) < 0:
        rotation[:, 0] *= -1
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, generator.uniform(-3, 3, 3)
    return pose


@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_projecting_what_was_back_projected_gives_every_pixel_and_depth_back(seed: int) -> None:
    depth = np.random.default_rng(seed).uniform(0.3, 8, (12, 16))
    pose = random_pose(seed)
    points = camera.back_project(depth, K, pose)
    uv, z = camera.project(points.reshape(-1, 3), K, camera.invert_pose(pose))
    rows, columns = np.mgrid[:12, :16]
    np.testing.assert_allclose(uv.reshape(12, 16, 2), np.stack([columns, rows], axis=-1), atol=1e-8)
    np.testing.assert_allclose(z.reshape(12, 16), depth, atol=1e-10)


def test_a_back_projected_pixel_lies_on_its_ray_at_its_depth() -> None:
    pose = random_pose(4)
    x, y, z = in_camera(camera.back_project(np.full((5, 7), 2.0), K, pose)[3, 6].tolist(), pose.tolist())
    assert (x, y, z) == pytest.approx(((6 - 158.5) / 290 * 2, (3 - 117.25) / 301 * 2, 2.0))


def test_a_pixel_without_a_reading_has_no_point() -> None:
    depth = np.array([[0.0, 1.0, np.nan, np.inf, -1.0]])
    points = camera.back_project(depth, K, np.eye(4))
    assert np.isfinite(points).all(axis=-1).tolist() == [[False, True, False, False, False]]


def test_a_point_at_or_behind_the_camera_has_no_image() -> None:
    uv, z = camera.project(np.array([[0.0, 0, -1], [1.0, 0, 0], [0.0, 0, 1]]), K, np.eye(4))
    assert np.isnan(uv).any(axis=1).tolist() == [True, True, False]
    assert z.tolist() == [-1, 0, 1]
    assert uv[2].tolist() == [158.5, 117.25]


def test_a_resized_camera_sees_a_point_at_the_same_place_of_its_image() -> None:
    points = np.random.default_rng(0).uniform([-1, -1, 1], [1, 1, 4], (50, 3))
    before, _ = camera.project(points, K, np.eye(4))
    after, _ = camera.project(points, camera.scale_intrinsics(K, (320, 240), (160, 80)), np.eye(4))
    np.testing.assert_allclose(after, before * [160 / 320, 80 / 240])


def test_scaling_intrinsics_leaves_what_it_was_given() -> None:
    given_k = K.copy()
    camera.scale_intrinsics(given_k, (320, 240), (640, 480))
    assert (given_k == K).all()


@given(length=st.integers(1, 700), to_length=st.integers(1, 700))
@settings(max_examples=60, deadline=None)
def test_resized_pixels_are_the_nearest_ones(length: int, to_length: int) -> None:
    expected = [nearest_source_pixel(i, length, to_length) for i in range(to_length)]
    assert camera.resized_pixels(length, to_length).tolist() == expected


def test_resizing_takes_pixels_and_invents_none() -> None:
    image = np.arange(24 * 3, dtype=np.uint16).reshape(4, 6, 3)
    assert camera.resize_nearest(image, (6, 4)) is image
    assert (camera.resize_nearest(image, (3, 2)) == image[::2, ::2]).all()
    assert (camera.resize_nearest(image[..., 0], (3, 4)) == image[:, ::2, 0]).all()

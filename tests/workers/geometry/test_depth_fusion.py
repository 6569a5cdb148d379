"""Depth fusion against a dictionary of voxels in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial import cKDTree

from workers.geometry.depth_fusion import DepthFrame, back_project, fuse

LOUNGE = Path(__file__).resolve().parents[4] / "shared" / "data" / "lounge-rgbd"


def turned(x: float, y: float, z: float) -> np.ndarray:
    cx, sx, cy, sy, cz, sz = (f(a) for a in (x, y, z) for f in (math.cos, math.sin))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return rx @ ry @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])


def some_frame(seed: int, shape: tuple[int, int] = (6, 8), far: float = 5.0) -> DepthFrame:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.3, far, shape).astype(np.float32)
    depth[rng.random(shape) < 0.2] = 0
    depth[0, 0] = np.nan
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turned(*rng.uniform(-3, 3, 3)), rng.uniform(-2, 2, 3)
    k = np.array([[rng.uniform(5, 12), 0, 3.3], [0, rng.uniform(5, 12), 2.7], [0, 0, 1]])
    return DepthFrame(depth, k, pose, rng.integers(0, 256, (*shape, 3)).astype(np.uint8))


def oracle(frames: Sequence[DepthFrame], voxel: float, limit: float) -> dict[tuple[int, ...], list[list[float]]]:
    """Voxel -> its readings (x, y, z, r, g, b), one pixel at a time."""
    voxels: dict[tuple[int, ...], list[list[float]]] = {}
    for frame in frames:
        for v in range(frame.depth_m.shape[0]):
            for u in range(frame.depth_m.shape[1]):
                z = float(frame.depth_m[v, u])
                if not (0 < z <= limit):
                    continue
                k = frame.intrinsics
                camera = [(u - k[0, 2]) * z / k[0, 0], (v - k[1, 2]) * z / k[1, 1], z, 1.0]
                world = [sum(frame.camera_to_world[i, j] * camera[j] for j in range(4)) for i in range(3)]
                key = tuple(math.floor(w / voxel) for w in world)
                voxels.setdefault(key, []).append([*world, *map(float, frame.colours[v, u])])
    return voxels


@settings(deadline=None)
@given(seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=4), voxel=st.sampled_from([0.1, 0.5, 2.0]))
def test_fusion_agrees_with_the_dictionary(seeds: list[int], voxel: float) -> None:
    frames = [some_frame(seed) for seed in seeds]
    points, colours = fuse(frames, voxel, 4.0)
    expected = oracle(frames, voxel, 4.0)
    assert points.dtype == np.float32 and colours.dtype == np.uint8
    assert len(points) == len(colours) == len(expected)
    for point, colour, (_, readings) in zip(points, colours, sorted(expected.items()), strict=True):
        mean = np.mean(readings, axis=0)
        assert np.allclose(point, mean[:3], atol=1e-5)
        assert np.abs(colour - mean[3:]).max() <= 0.5 + 1e-6


@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_point_lies_in_its_voxel_and_a_voxel_holds_one(seed: int) -> None:
    points, _ = fuse([some_frame(seed), some_frame(seed + 1)], 0.25, 10.0)
    cells = np.floor(points.astype(np.float64) / 0.25)
    # float32 may round a mean onto the voxel's edge
    assert len(np.unique(cells, axis=0)) >= len(points) - 1


def test_many_frames_are_merged_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """More readings than wait at once: the streamed sums equal those of one go, to rounding."""
    frames = [some_frame(seed, (300, 400)) for seed in range(6)]
    points, colours = fuse(iter(frames), 0.05, 10.0)
    positions = np.concatenate([back_project(f, 10.0)[0] for f in frames])
    cells, inverse = np.unique(np.floor(positions / 0.05).astype(np.int64), axis=0, return_inverse=True)
    counts = np.bincount(inverse)
    means = np.stack([np.bincount(inverse, positions[:, axis]) / counts for axis in range(3)], axis=1)
    assert len(positions) > 500_000
    assert len(points) == len(cells) and np.allclose(points, means, atol=1e-5)
    again, _ = fuse(frames, 0.05, 10.0)
    assert np.array_equal(points, again) and len(colours) == len(points)


def test_no_reading_no_point() -> None:
    frame = some_frame(0)
    points, colours = fuse([DepthFrame(np.zeros((6, 8), np.float32), *_rest(frame))], 0.02, 5.0)
    assert points.shape == (0, 3) and colours.shape == (0, 3)
    assert fuse([], 0.02, 5.0)[0].shape == (0, 3)


def _rest(frame: DepthFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return frame.intrinsics, frame.camera_to_world, frame.colours


def test_readings_beyond_the_limit_are_left_out() -> None:
    frame = some_frame(4)
    points, _ = fuse([frame], 0.001, 2.0)
    assert len(points) == int((frame.depth_m <= 2.0).sum() - (frame.depth_m == 0).sum())


def test_a_pose_out_of_this_world_is_an_error() -> None:
    frame = some_frame(1)
    frame.camera_to_world[0, 3] = 1e7
    with pytest.raises(ValueError, match="metres"):
        fuse([frame], 0.02, 5.0)


@pytest.mark.skipif(not LOUNGE.is_dir(), reason="the capture ../shared/data/lounge-rgbd is not here")
def test_odd_frames_of_the_lounge_lie_a_centimetre_from_even_ones() -> None:
    k = np.loadtxt(LOUNGE / "intrinsic" / "intrinsic_depth.txt")[:3, :3]

    def frames(which: int) -> list[DepthFrame]:
        taken = []
        for path in sorted((LOUNGE / "depth").iterdir())[which::2]:
            depth = np.asarray(Image.open(path)).astype(np.float32) / 1000
            pose = np.loadtxt(LOUNGE / "pose" / f"{path.stem}.txt")
            taken.append(DepthFrame(depth, k, pose, np.zeros((*depth.shape, 3), np.uint8)))
        return taken

    even, odd = fuse(frames(0), 0.02, 6.0)[0], fuse(frames(1), 0.02, 6.0)[0]
    gaps, _ = cKDTree(even).query(odd[::20])
    assert len(even) > 300_000 and len(odd) > 300_000
    assert np.median(gaps) < 0.015

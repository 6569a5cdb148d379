"""A small capture on disk for tests: a room of one slanted floor seen from a few poses. Writes files, knows no test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

K = np.array([[40.0, 0, 19.5], [0, 40.0, 14.5], [0, 0, 1]])
WIDTH, HEIGHT = 40, 30


def pose_above(x: float) -> np.ndarray:
    """Camera 1.5 m above a floor at z = 0 (z up), looking down at 45 degrees along +y."""
    c = np.sqrt(0.5)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = (1, 0, 0), (0, -c, -c), (0, c, -c), (x, 0, 1.5)
    return pose


def floor_depth(pose: np.ndarray, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(h,w) depth of the plane z = 0, metres, 0 where a ray misses it."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    ratio = np.array([width / WIDTH, height / HEIGHT])
    rays = np.stack(
        [
            (u - K[0, 2] * ratio[0]) / (K[0, 0] * ratio[0]),
            (v - K[1, 2] * ratio[1]) / (K[1, 1] * ratio[1]),
            np.ones_like(u),
        ],
        axis=-1,
    )
    down = rays @ pose[:3, :3].T
    with np.errstate(divide="ignore"):
        depth = np.where(down[..., 2] < 0, -pose[2, 3] / down[..., 2], 0.0)
    return np.where(depth < 8, depth, 0.0)


def write_capture(root: Path, frames: int = 4, labels: str = "floor\nchair\n", stride: int = 1) -> Path:
    """Writes a capture in ScanNet's exported layout and returns its folder."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (root / name).mkdir(parents=True)
    k = np.eye(4)
    k[:3, :3] = K
    for name in ("intrinsic_color.txt", "intrinsic_depth.txt"):
        np.savetxt(root / "intrinsic" / name, k)
    rng = np.random.default_rng(3)
    for n in range(frames):
        stem, pose = str(n * stride), pose_above(0.2 * n)
        picture = rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(picture).save(root / "color" / f"{stem}.jpg", quality=95)
        Image.fromarray(np.rint(floor_depth(pose) * 1000).astype(np.uint16)).save(root / "depth" / f"{stem}.png")
        np.savetxt(root / "pose" / f"{stem}.txt", pose)
    (root / "scene_labels.txt").write_text(labels)
    return root

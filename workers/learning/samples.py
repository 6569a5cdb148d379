"""Training samples of the 3D network: one augmented, voxelised, perhaps cropped scene with its targets.

Reads parts that are already open; knows nothing of splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.store import PartReader
from storage.labels import IGNORE, label_set
from storage.specs.parts import Training
from workers.geometry.voxels import voxelize
from workers.learning.augment import augment
from workers.learning.kept import Kept


@dataclass(frozen=True, slots=True)
class Sample:
    """One scene as a training step sees it. V voxels, of which T have a target."""

    coordinates: NDArray[np.int32]
    """(V,3) voxel coordinates."""
    colours: NDArray[np.float32]
    """(V,3) each voxel's mean colour in 0..1."""
    rows: NDArray[np.int64]
    """(T,) voxels that have a target."""
    targets: NDArray[np.float32] | NDArray[np.int16]
    """(T,D) mean embedding of the covered points of each such voxel, (T,) their most common label, or (T,K) 1 for each
    class that the scene has."""


def make_sample(
    scene: PartReader,
    target: PartReader,
    voxel_m: float,
    training: Training,
    rng: np.random.Generator,
    kept: Kept,
) -> Sample:
    """A random view of a scene.

    Args:
        scene: its `scenes` part.
        target: its `embeddings`, `labels` or `ground_truth` part; or `scene` itself, for its scene-level labels.
        voxel_m: edge of a voxel, metres.
        training: augmentation and crop.
        rng: where chance comes from.
        kept: reads the arrays.
    """
    points: NDArray[np.float32] = kept.array(scene, "points")
    colours = kept.array(scene, "colours").astype(np.float32) / np.float32(255)
    if training.augment is not None:
        points, colours = augment(points, colours, training.augment, rng)
        points += rng.uniform(0, voxel_m, (1, 3)).astype(np.float32)
    voxels = voxelize(points, voxel_m)
    chosen = np.arange(voxels.num_voxels)
    if training.crop_voxels is not None and voxels.num_voxels > training.crop_voxels:
        chosen = _nearest(voxels.coordinates, int(rng.integers(voxels.num_voxels)), training.crop_voxels)
    new_row = np.full(voxels.num_voxels, -1, np.int64)
    new_row[chosen] = np.arange(len(chosen))
    rows = new_row[voxels.point_to_voxel]
    found, targets = _targets(target, rows, len(chosen), kept)
    return Sample(voxels.coordinates[chosen], voxels.mean(colours)[chosen], found, targets)


def _nearest(coordinates: NDArray[np.int32], centre: int, count: int) -> NDArray[np.int64]:
    """The `count` voxels nearest to one of them on the floor plan, in their order."""
    offset = (coordinates[:, :2] - coordinates[centre, :2]).astype(np.int64)
    distance = (offset**2).sum(axis=1)
    return np.sort(np.argpartition(distance, count)[:count])


def _targets(
    target: PartReader, rows: NDArray[np.int64], num_voxels: int, kept: Kept
) -> tuple[NDArray[np.int64], NDArray[np.float32] | NDArray[np.int16]]:
    """Voxels that have a target, and it. Points without one carry none."""
    if "point_index" in target.names():
        row = rows[kept.array(target, "point_index")]
        inside = np.flatnonzero(row >= 0)
        return mean_by_row(kept.array(target, "embeddings"), inside, row[inside])
    if "labels" not in target.names():
        present = np.zeros(len(label_set(target.attributes["label_set"]).classes), np.float32)
        present[target.attributes["scene_labels"]] = 1
        return np.arange(num_voxels), np.tile(present, (num_voxels, 1))
    labels: NDArray[np.int16] = kept.array(target, "labels")
    valid = np.flatnonzero((labels != IGNORE) & (rows >= 0))
    return majority_by_row(labels[valid], rows[valid], num_voxels)


def mean_by_row(
    values: NDArray[np.float16], which: NDArray[np.int64], row: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows that occur, and the mean of their values in float32.

    Args:
        values: (M,D).
        which: (P,) the values to use.
        row: (P,) the row each belongs to.
    """
    order = np.argsort(row, kind="stable")
    rows, starts, counts = np.unique(row[order], return_index=True, return_counts=True)
    if not len(rows):
        return rows, np.zeros((0, values.shape[1]), np.float32)
    total = values[which[order[starts]]].astype(np.float32)
    for extra in range(1, int(counts.max())):
        more = np.flatnonzero(counts > extra)
        total[more] += values[which[order[starts[more] + extra]]]
    total /= counts[:, None].astype(np.float32)
    return rows, total


def majority_by_row(
    labels: NDArray[np.int16], row: NDArray[np.int64], num_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Rows that occur, and the most common label of each (the smallest where several are)."""
    num_classes = int(labels.max(initial=0)) + 1
    votes = np.bincount(row * num_classes + labels, minlength=num_rows * num_classes).reshape(num_rows, num_classes)
    rows = np.flatnonzero(votes.sum(axis=1))
    return rows, votes[rows].argmax(axis=1).astype(np.int16)

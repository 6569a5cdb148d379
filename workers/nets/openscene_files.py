"""OpenScene's files of fused features, in and out: `feat` (n,D), and `mask_full` (N,), the points that they are of.

Rows of `feat` follow the points in their order. No code of a file is ever run. Knows torch's files; no store.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage import keys
from storage.artifacts.comparing import Side
from storage.artifacts.store import ArtifactStore
from storage.errors import DatasetInvalid, InvalidInput
from workers.nets.torch_file import read_state_dict
from workers.scenes.feature_files import Fused, with_rows

_NAMES = ("feat", "mask_full")


def read(path: Path, num_points: int, dtype: type[np.floating] = np.float16) -> Fused:
    """One file of a scene: all of its points that are visible, or a random subset of them.

    Args:
        path: a `.pt`.
        num_points: points of the scene.
        dtype: the floating type that embeddings are given in.

    Raises:
        DatasetInvalid: no file of torch's with these two tensors; or they are not of that many points.
    """
    _check_size(path)
    try:
        tensors = read_state_dict(path, mapped=True)
    except InvalidInput as error:
        raise DatasetInvalid(error.message) from error
    missing = [name for name in _NAMES if name not in tensors]
    if missing:
        raise DatasetInvalid(f"{path.name}: got {', '.join(sorted(tensors))}, expected {' and '.join(_NAMES)}")
    feat, mask = tensors["feat"], tensors["mask_full"]
    if mask.dtype not in (torch.bool, torch.uint8) or mask.ndim != 1 or len(mask) != num_points:
        raise DatasetInvalid(
            f"{path.name}: got mask_full of type {mask.dtype} and shape {tuple(mask.shape)}, the scene has "
            f"{num_points} points; import onto the scenes that the features were fused for"
        )
    point_index = np.flatnonzero(mask.numpy())
    if feat.ndim == 3 and feat.shape[2] == 1:  # as OpenScene's own reader takes them
        feat = feat[..., 0]
    if feat.ndim != 2 or len(feat) != len(point_index) or not feat.is_floating_point():
        raise DatasetInvalid(
            f"{path.name}: got feat of type {feat.dtype} and shape {tuple(feat.shape)}, mask_full names "
            f"{len(point_index)} points; expected a row of floating numbers for each"
        )
    return with_rows(path.name, point_index, _values(feat), dtype)


def write(path: Path, point_index: NDArray[np.int64], embeddings: NDArray[np.floating], num_points: int) -> None:
    """Writes one file of a scene as OpenScene's fusion does; replaced where it exists, whole or not at all.

    Args:
        path: a `.pt`.
        point_index: (M,) strictly rising.
        embeddings: (M,D); written as float16.
        num_points: points of the scene.
    """
    mask = torch.zeros(num_points, dtype=torch.bool)
    mask[torch.from_numpy(point_index)] = True
    partial = path.with_name(f".{path.name}.partial")
    try:
        feat = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float16))
        torch.save({"feat": feat, "mask_full": mask}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Subsets:
    """How a scene is cut for OpenScene's training, which draws one of its files a step."""

    num_files: int = 1
    points: int | None = None
    """Points of the scene that each file draws, covered or not (OpenScene: 20,000 to 30,000); None: all."""
    seed: int = 0


def export(store: ArtifactStore, key: str, folder: Path, subsets: Subsets = Subsets()) -> Iterator[tuple[str, int]]:
    """Writes published embeddings as OpenScene's files, `<scene>_0.pt` and so on; gives each scene and its rows.

    Args:
        store: where the artifact lies.
        key: of an artifact of embeddings.
        folder: where to write; made where it is missing.
        subsets: how many files a scene gets, and of how many points.

    Raises:
        NotFound: no such artifact in the store, or a part of it is gone.
        SpecInvalid: it holds no embeddings.
        StoreCorrupt: a part cannot be read; nothing of its scene is written.
    """
    side = Side.of(store, key)
    folder.mkdir(parents=True, exist_ok=True)
    for entry in side.manifest.parts:
        part = side.open(entry)
        point_index, embeddings = part.array("point_index"), part.array("embeddings")
        num_points = int(part.attributes["num_points"])
        seed = int(keys.digest([subsets.seed, entry.scene])[:8], 16)
        rng = np.random.default_rng(seed)
        for number in range(subsets.num_files):
            rows: slice | NDArray[np.intp] = slice(None)
            if subsets.points is not None and subsets.points < num_points:
                drawn = np.zeros(num_points, bool)
                drawn[rng.choice(num_points, subsets.points, replace=False)] = True
                rows = np.flatnonzero(drawn[point_index])
            write(folder / f"{entry.scene}_{number}.pt", point_index[rows], embeddings[rows], num_points)
        yield entry.scene, len(point_index)


def _values(feat: Tensor) -> NDArray[np.floating]:
    """A tensor as an array; bfloat16, which NumPy does not have, as float32."""
    values: NDArray[np.floating] = (feat if feat.dtype != torch.bfloat16 else feat.float()).numpy()
    return values


def _check_size(path: Path) -> None:
    """Refuses files that would unfold into more than they hold: torch.save compresses nothing.

    Raises:
        DatasetInvalid: such a file, or no zip file at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = sum(info.file_size for info in archive.infolist())
        held = path.stat().st_size
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetInvalid(
            f"{path.name} cannot be read ({error}); expected a file that torch.save of version 1.6 or later wrote"
        ) from error
    if inside > held:
        raise DatasetInvalid(
            f"{path.name} has {held} bytes and would unfold into {inside}; torch.save compresses nothing: fetch it anew"
        )

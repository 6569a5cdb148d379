"""Plain point clouds with labels, for work in 3D alone: one file a scene, no frames.

    <scene>.ply        x y z, red green blue (uchar), label (any whole number)
    <scene>.npz        points (N,3), colours (N,3), labels (N,)
    <scene>.npy        (N,7) columns x y z r g b label, or (N,6) without the last
    test.txt           optional: ids of the held-out scenes, one a line

Metres, z up; colours 0 to 255; a label is the index of its class in the label set, and -1 or 65535 is none. Only
held-out scenes may lack labels. Knows these files; knows no store and no network.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid
from storage.keys import digest
from storage.labels import IGNORE, LabelSet
from storage.specs.parts import CloudsOptions
from workers.scenes.dataset_folder import TEST_LIST, check_there, splits_of
from workers.scenes.digests import DigestCache
from workers.scenes.ply import read_vertices
from workers.scenes.point_cloud import Cloud, classes_present, fit_together
from workers.scenes.scene import Scene, SceneRef

NO_LABEL = (IGNORE, 65535)
"""Labels in a file that mean none; the second is -1 in 16 bits without a sign."""
_SUFFIXES = (".ply", ".npz", ".npy")
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy raises of a broken file."""
_Columns = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]


class CloudsSource:
    """The scenes of a folder of labelled point clouds."""

    def __init__(self, root: Path, options: CloudsOptions, label_set: LabelSet, cache_dir: Path) -> None:
        """Opens a folder; nothing is read yet.

        Args:
            root: the dataset's folder.
            options: how it is read.
            label_set: what labels are indices of.
            cache_dir: where digests of files are remembered.
        """
        self._root = root
        self._options = options
        self._label_set = label_set
        self._digests = DigestCache(root, cache_dir)

    @property
    def root(self) -> Path:
        """The dataset's folder."""
        return self._root

    def scenes(self) -> Sequence[SceneRef]:
        """The scenes on offer, sorted by id; those that `test.txt` lists are held out, all others train.

        A scene whose file cannot be read is among them, with its fault.

        Raises:
            DatasetInvalid: the folder is missing, holds no cloud, or two files of one scene.
            UnknownName: `test.txt` lists a scene that is not there.
        """
        files = self._files()
        splits = splits_of(self._root, files)
        refs = [SceneRef.offered(n, splits[n], partial(self._fingerprint, n, files[n])) for n in sorted(files)]
        self._digests.save()
        return refs

    def load(self, scene_id: str) -> Scene:
        """Reads one scene.

        Raises:
            DatasetInvalid: no such scene, or it cannot be read; the error names the scene and the file.
        """
        files = self._files()
        if scene_id not in files:
            raise DatasetInvalid(
                f"{self._root.name} holds no scene {scene_id!r}; it holds: {', '.join(sorted(files)[:20])}"
            )
        split = splits_of(self._root, files)[scene_id]
        cloud = self._cloud(files[scene_id], scene_id)
        if cloud.labels is None and split == "train":
            raise DatasetInvalid(
                f"scene {scene_id}: {files[scene_id]} has no labels, and the scene trains; add them (property label, "
                f"array labels or a seventh column), or list the scene in {TEST_LIST}",
                scene=scene_id,
            )
        return Scene(scene_id, split, cloud.points_m, cloud.colours, (), classes_present(cloud.labels), cloud.labels)

    def _files(self) -> dict[str, str]:
        """Scene -> its file."""
        check_there(self._root)
        files: dict[str, str] = {}
        for path in sorted(self._root.iterdir()):
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():
                continue
            if path.stem in files:
                raise DatasetInvalid(
                    f"scene {path.stem}: got both {files[path.stem]} and {path.name}, expected one file a scene",
                    scene=path.stem,
                )
            files[path.stem] = path.name
        if not files:
            raise DatasetInvalid(
                f"the dataset folder {self._root} holds no point cloud: expected a file each ({', '.join(_SUFFIXES)})"
            )
        return files

    def _fingerprint(self, scene: str, name: str) -> str:
        try:
            return digest([[name, self._digests.size(name), self._digests.of(name)]])
        except OSError as error:
            raise DatasetInvalid(f"scene {scene}: {name} cannot be read ({error.strerror})", scene=scene) from error

    def _cloud(self, name: str, scene: str) -> Cloud:
        """One file's cloud, checked."""
        points, colours, labels = _columns(self._root, name, scene)
        if not len(points) or not fit_together(points, colours, labels):
            raise DatasetInvalid(
                f"scene {scene}: {name} must hold points (N,3), colours (N,3) and labels (N,), N at least 1; got "
                f"{points.shape}, {colours.shape} and {None if labels is None else labels.shape}",
                scene=scene,
            )
        with np.errstate(over="ignore"):
            points_m = points.astype(np.float32)
        if not np.isfinite(points_m).all():
            raise DatasetInvalid(f"scene {scene}: {name} has points that are not finite; remove them", scene=scene)
        if not _whole(colours, 0, 255):
            raise DatasetInvalid(
                f"scene {scene}: {name} has colours from {colours.min():g} to {colours.max():g}, expected whole "
                "numbers from 0 to 255; multiply colours in 0..1 by 255 and round them",
                scene=scene,
            )
        return Cloud(points_m, colours.astype(np.uint8), None if labels is None else self._labels(labels, name, scene))

    def _labels(self, labels: NDArray[Any], name: str, scene: str) -> NDArray[np.int16]:
        last = len(self._label_set.classes) - 1
        known = np.isin(labels, [*NO_LABEL, *range(last + 1)])
        if not known.all():
            bad = ", ".join(f"{value:g}" for value in np.unique(labels[~known])[:8])
            raise DatasetInvalid(
                f"scene {scene}: {name} has the labels {bad}, expected 0 to {last} (label set {self._label_set.name}) "
                f"or {' or '.join(map(str, NO_LABEL))} for none",
                scene=scene,
            )
        return np.where(np.isin(labels, NO_LABEL), IGNORE, labels).astype(np.int16)


def _whole(values: NDArray[Any], low: int, high: int) -> bool:
    return bool(np.isfinite(values).all() and ((values >= low) & (values <= high) & (values == np.rint(values))).all())


def _columns(root: Path, name: str, scene: str) -> _Columns:
    """Points, colours and labels as a file holds them."""
    suffix = Path(name).suffix.lower()
    if suffix == ".ply":
        vertices = read_vertices(root, name, scene)
        return vertices.points_m(), vertices.colours(), vertices.labels()
    try:
        with (root / name).open("rb") as file:  # np.load leaves a broken archive open that it opened itself
            content = np.load(file, allow_pickle=False)
            if suffix == ".npy":
                return _table(content, name, scene)
            labels = _numbers(content["labels"]) if "labels" in content.files else None
            return _numbers(content["points"]), _numbers(content["colours"]), labels
    except DatasetInvalid:
        raise
    except _UNREADABLE as error:
        raise DatasetInvalid(
            f"scene {scene}: {name} cannot be read ({error}); expected what np.save or np.savez writes: "
            f"{'(N,6) or (N,7) numbers' if suffix == '.npy' else 'points, colours and labels'}",
            scene=scene,
        ) from error


def _table(rows: NDArray[Any], name: str, scene: str) -> _Columns:
    if rows.ndim != 2 or rows.shape[1] not in (6, 7):
        raise DatasetInvalid(
            f"scene {scene}: {name} holds an array of shape {rows.shape}, expected (N,7): x y z r g b label, or (N,6)",
            scene=scene,
        )
    rows = _numbers(rows)
    return rows[:, :3], rows[:, 3:6], rows[:, 6] if rows.shape[1] == 7 else None


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "iuf":
        raise ValueError(f"got values of type {values.dtype}, expected numbers")
    return values

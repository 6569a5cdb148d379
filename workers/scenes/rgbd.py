"""Posed RGB-D folders in ScanNet's exported layout: one scene, or several in folders of their own.

    color/<frame>.jpg  depth/<frame>.png  pose/<frame>.txt  intrinsic/intrinsic_color.txt, intrinsic_depth.txt
    scene_labels.txt   class names present, one a line
    points.npz         optional: points (N,3) f32 metres, colours (N,3) u8, labels (N,) i16; else depth is fused
    test.txt           beside several scenes, optional: ids of the held-out ones, one a line

Source: the folders that ScanNet's SensReader exports. Knows files and cameras; knows no store and no network.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid, UnknownName
from storage.keys import digest
from storage.labels import IGNORE, LabelSet
from storage.specs.parts import DepthFusion, RgbdOptions, Split
from workers.scenes.captures import Capture, read_frames
from workers.scenes.dataset_folder import check_there, read_names, splits_of
from workers.scenes.digests import DigestCache
from workers.scenes.point_cloud import Cloud, classes_present, fit_together
from workers.scenes.scene import Scene, SceneRef

SCENE_LABELS = "scene_labels.txt"
POINTS = "points.npz"


class RgbdSource:
    """Scenes in a folder of posed RGB-D frames."""

    def __init__(
        self, root: Path, options: RgbdOptions, label_set: LabelSet, fusion: DepthFusion, cache_dir: Path
    ) -> None:
        """Opens a folder; nothing is read yet.

        Args:
            root: the dataset's folder.
            options: how frames are taken.
            label_set: what `scene_labels.txt` may name.
            fusion: how depth becomes points where a scene has none.
            cache_dir: where digests of files are remembered.
        """
        self._root = root
        self._options = options
        self._label_set = label_set
        self._fusion = fusion
        self._digests = DigestCache(root, cache_dir)

    @property
    def root(self) -> Path:
        """The folder that frames' paths are relative to."""
        return self._root

    def scenes(self) -> Sequence[SceneRef]:
        """The scenes on offer, sorted by id; one that lacks a file is among them, with its fault.

        A scene is held out where `test.txt` lists it; all others train, and so does a folder of a single scene.

        Raises:
            DatasetInvalid: the folder is missing or empty, or holds no scene.
            UnknownName: `test.txt` lists a scene that is not there.
        """
        refs = [
            SceneRef.offered(name, split, partial(self._fingerprint, name))
            for name, split in sorted(self._splits().items())
        ]
        self._digests.save()
        return refs

    def load(self, scene_id: str) -> Scene:
        """Reads one scene; every image and depth map is decoded once, so that a corrupt one shows here.

        Raises:
            DatasetInvalid: it cannot be read; the error names the scene and the file.
            FrameInvalid: a frame cannot be read.
            UnknownName: no such scene; or `scene_labels.txt` names a class that the label set does not have.
        """
        splits = self._splits()
        if scene_id not in splits:
            raise DatasetInvalid(
                f"{self._root.name} holds no scene {scene_id!r}; it holds: {', '.join(sorted(splits))}"
            )
        capture = self._capture(scene_id)
        stored = self._stored_cloud(capture)
        taken = read_frames(self._root, capture, self._digests, self._fusion, fuse_points=stored is None)
        self._digests.save()
        cloud = stored or Cloud(taken.points_m, taken.colours)
        if not len(cloud.points_m):
            raise DatasetInvalid(f"scene {scene_id}: no point could be made of its depth maps", scene=scene_id)
        return Scene(
            scene_id,
            splits[scene_id],
            cloud.points_m,
            cloud.colours,
            taken.frames,
            self._scene_labels(capture, cloud.labels, splits[scene_id]),
            cloud.labels,
            taken.skipped,
        )

    def _splits(self) -> dict[str, Split]:
        check_there(self._root)
        if (self._root / "color").is_dir():
            return {self._root.resolve().name: "train"}
        names = sorted(path.parent.name for path in self._root.glob("*/color") if path.is_dir())
        if not names:
            raise DatasetInvalid(
                f"the dataset folder {self._root} holds no scene: expected color/, depth/, pose/ and intrinsic/ in it "
                "or in folders of their own, as ScanNet's exporter writes them"
            )
        return splits_of(self._root, names)

    def _capture(self, scene_id: str) -> Capture:
        single = (self._root / "color").is_dir()
        return Capture.found(self._root, "" if single else scene_id, scene_id, self._options.frame_step)

    def _fingerprint(self, scene_id: str) -> str:
        """Of paths relative to the dataset's folder, as frames are named: a capture and the folder around it differ."""
        capture = self._capture(scene_id)
        names = [*capture.files(), *(capture.path(n) for n in (SCENE_LABELS, POINTS) if self._has(capture, n))]
        files = []
        for name in sorted(names):
            try:
                files.append([name, self._digests.size(name), self._digests.of(name)])
            except OSError as error:
                raise DatasetInvalid(
                    f"scene {scene_id}: {name} cannot be read ({error.strerror})", scene=scene_id
                ) from error
        return digest(files)

    def _has(self, capture: Capture, name: str) -> bool:
        return (self._root / capture.path(name)).is_file()

    def _stored_cloud(self, capture: Capture) -> Cloud | None:
        if not self._has(capture, POINTS):
            return None
        name = capture.path(POINTS)
        try:
            with (self._root / name).open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                points, colours = arrays["points"], arrays["colours"]
                labels = arrays.get("labels")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetInvalid(
                f"scene {capture.scene}: {name} cannot be read ({error})", scene=capture.scene
            ) from error
        if not fit_together(points, colours, labels) or not np.isfinite(points).all():
            raise DatasetInvalid(
                f"scene {capture.scene}: {name} must hold finite points (N,3), colours (N,3) and, where known, labels "
                f"(N,); got {points.shape}, {colours.shape} and {None if labels is None else labels.shape}",
                scene=capture.scene,
            )
        classes = len(self._label_set.classes)
        if labels is not None and len(labels) and not (labels.min() >= IGNORE and labels.max() < classes):
            raise DatasetInvalid(
                f"scene {capture.scene}: {name} has labels from {labels.min()} to {labels.max()}, expected {IGNORE} to "
                f"{classes - 1} (label set {self._label_set.name})",
                scene=capture.scene,
            )
        return Cloud(
            points.astype(np.float32), colours.astype(np.uint8), None if labels is None else labels.astype(np.int16)
        )

    def _scene_labels(self, capture: Capture, labels: NDArray[np.int16] | None, split: Split) -> tuple[int, ...]:
        """Classes present: those of the ground truth where there is one, else those that scene_labels.txt names."""
        if labels is not None:
            return classes_present(labels)
        name = capture.path(SCENE_LABELS)
        if not self._has(capture, SCENE_LABELS):
            if split == "test":
                return ()
            raise DatasetInvalid(
                f"scene {capture.scene}: {name} is missing; write the names of the classes present, one a line",
                scene=capture.scene,
            )
        known, found = self._label_set.classes, set()
        for line in read_names(self._root, name):
            if line not in known:
                raise UnknownName.among(f"class in {name} (label set {self._label_set.name})", line, known)
            found.add(known.index(line))
        if not found:
            raise DatasetInvalid(f"scene {capture.scene}: {name} names no class", scene=capture.scene)
        return tuple(sorted(found))

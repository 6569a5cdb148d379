"""ScanNet v2 as it is released.

    scans/<id>/        <id>_vh_clean_2.ply  <id>_vh_clean_2.labels.ply  <id>.txt (axisAlignment)  <id>.sens
    scans_test/<id>/   the same for the test set, without labels
    scannetv2_train.txt, scannetv2_val.txt, scannetv2_test.txt: here, or in tasks/, Benchmark/ or tasks/Benchmark/
    scannetv2-labels.combined.tsv: only where labels hold other ids than NYU40's

In place of the stream a scene's folder may hold what ScanNet's exporter makes of it: color/, depth/, pose/, intrinsic/.
Where both are there, the stream is read. A scene without either has no frames, which is enough for work in 3D alone.

Scenes on offer are those that a split list names and whose folder is here, so that a part of the release can be
used as it is, and a shorter list makes a smaller dataset. Scenes that no list names are not offered. `train` trains;
`val` and `test` are held out. Only scenes of the test list may lack ground truth; their scene-level labels are empty.

Points and poses are both turned by `axisAlignment`. Source: the ScanNet v2 release. Knows files; knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid
from storage.keys import digest
from storage.labels import LabelSet
from storage.specs.parts import DepthFusion, ScanNetOptions
from workers.scenes.captures import read_frames
from workers.scenes.digests import DigestCache
from workers.scenes.ply import read_vertices
from workers.scenes.point_cloud import classes_present
from workers.scenes.scannet_labels import LABEL_TABLE, needs_table, read_ids, to_scannet20
from workers.scenes.scannet_layout import Release, SceneFiles, axis_alignment
from workers.scenes.scene import Frame, Scene, SceneRef
from workers.scenes.sens import read_stream, stream_fingerprint

LABEL_SET = "scannet20"


class ScanNetSource:
    """The scenes of a copy of ScanNet v2, whole or in part."""

    def __init__(self, root: Path, options: ScanNetOptions, label_set: LabelSet, cache_dir: Path) -> None:
        """Opens a folder; nothing is read yet.

        Args:
            root: the folder that holds scans/.
            options: how frames are taken.
            label_set: must be ScanNet-20.
            cache_dir: where digests of files are remembered.

        Raises:
            DatasetInvalid: another label set.
        """
        if label_set.name != LABEL_SET:
            raise DatasetInvalid(
                f"got the label set {label_set.name} for ScanNet, whose classes are those of {LABEL_SET}; ingest with "
                f"label_set: {LABEL_SET}"
            )
        self._root = root
        self._release = Release(root)
        self._options = options
        self._digests = DigestCache(root, cache_dir)

    @property
    def root(self) -> Path:
        """The folder that frames' paths are relative to."""
        return self._root

    def scenes(self) -> Sequence[SceneRef]:
        """The scenes on offer, sorted by id: those that a split list names and whose folder is here.

        A scene that lacks a file, or whose labels or stream cannot be read, is among them, with its fault.

        Raises:
            DatasetInvalid: no split list, or none of its scenes is here.
        """
        found = sorted(self._release.found().items())
        refs = [SceneRef.offered(name, files.split, partial(self._fingerprint, files)) for name, files in found]
        self._digests.save()
        return refs

    def load(self, scene_id: str) -> Scene:
        """Reads one scene; every image and depth map that is taken is decoded once, so that a corrupt one shows here.

        Raises:
            DatasetInvalid: no such scene on offer, or it cannot be read; the error names the scene and the file.
            FrameInvalid: a frame cannot be read.
        """
        files = self._release.scene(scene_id)
        if files is None:
            raise DatasetInvalid(
                f"{self._root.name} offers no scene {scene_id!r}: expected one that a split list names and whose "
                f"folder is in scans/ or scans_test/, such as {min(self._release.found())}"
            )
        vertices = read_vertices(self._root, files.points, scene_id)
        points, colours = vertices.points_m(), vertices.colours()
        if not len(points):
            raise DatasetInvalid(f"scene {scene_id}: {files.points} holds no vertex; fetch it again", scene=scene_id)
        labels = self._labels(files, len(points))
        frames, skipped = self._frames(files)
        self._digests.save()
        turn = axis_alignment(self._root, files.name(".txt"), scene_id)
        aligned = points.astype(np.float64) @ turn[:3, :3].T + turn[:3, 3]
        return Scene(
            scene_id,
            files.split,
            aligned.astype(np.float32),
            colours,
            tuple(replace(frame, camera_to_world=turn @ frame.camera_to_world) for frame in frames),
            classes_present(labels),
            labels,
            skipped,
        )

    def _frames(self, files: SceneFiles) -> tuple[tuple[Frame, ...], Mapping[str, int]]:
        if files.stream is not None:
            return read_stream(self._root, files.stream, files.id, self._options.frame_step)
        capture = files.capture(self._options.frame_step)
        if capture is None:
            return (), {}
        taken = read_frames(self._root, capture, self._digests, DepthFusion(), fuse_points=False)
        return taken.frames, taken.skipped

    def _labels(self, files: SceneFiles, num_points: int) -> NDArray[np.int16] | None:
        if files.labels is None:
            return None
        ids = read_ids(self._root, files.labels, files.id)
        if len(ids) != num_points:
            raise DatasetInvalid(
                f"scene {files.id}: {files.labels} labels {len(ids)} points, expected the {num_points} of "
                f"{files.points}; fetch both again",
                scene=files.id,
            )
        return to_scannet20(ids, self._root, files.labels, files.id)

    def _fingerprint(self, files: SceneFiles) -> str:
        names = [files.points, *([files.labels] if files.labels else [])]
        names += [files.name(".txt")] if files.has(".txt") else []
        step, stream = self._options.frame_step, files.stream
        try:
            if files.labels and self._digests.derived(files.labels, "ids", lambda: _kind_of_ids(files)) == "table":
                names += [LABEL_TABLE]
            if stream is None:
                capture = files.capture(step)
                names += [] if capture is None else capture.files()
            described = [[name, self._digests.size(name), self._digests.of(name)] for name in sorted(names)]
            if stream is not None:
                content = self._digests.derived(
                    stream, f"step={step}", lambda: stream_fingerprint(self._root, stream, files.id, step)
                )
                described.append([stream, self._digests.size(stream), content])
        except OSError as error:
            raise DatasetInvalid(
                f"scene {files.id}: {error.filename and Path(str(error.filename)).name} cannot be read "
                f"({error.strerror}); fetch it",
                scene=files.id,
            ) from error
        return digest(described)


def _kind_of_ids(files: SceneFiles) -> str:
    """What a scene's labels file holds: "table" ids or "nyu40" ids."""
    assert files.labels is not None
    return "table" if needs_table(read_ids(files.root, files.labels, files.id)) else "nyu40"

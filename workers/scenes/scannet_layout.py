"""Where ScanNet v2's release keeps a scene, which scenes are on offer, and how a scene is turned upright.

Scenes on offer are those that a split list names and whose folder is here, so that a part of the release can be used
as it is, and a shorter list makes a smaller dataset; scenes that no list names are not offered. Knows names of files
and the small text files; knows no point, no frame and no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid
from storage.specs.parts import Split
from workers.scenes.cameras import is_rigid
from workers.scenes.captures import Capture
from workers.scenes.dataset_folder import check_there

SPLIT_LISTS: Mapping[str, Split] = {
    "scannetv2_train.txt": "train",
    "scannetv2_val.txt": "test",
    "scannetv2_test.txt": "test",
}
"""Split list -> the split of its scenes."""
_TEST_LIST = "scannetv2_test.txt"
_LIST_FOLDERS = ("", "tasks", "Tasks", "Benchmark", "tasks/Benchmark", "Tasks/Benchmark")
_SCENE_FOLDERS = ("scans", "scans_test")
_EXPORTED = ("color", "depth", "pose", "intrinsic")


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """One scene's files, relative to the dataset's folder."""

    root: Path
    id: str
    listed_in: str
    """The split list that names it."""
    folder: str

    def name(self, end: str) -> str:
        """The file of the scene that ends so, relative to the dataset's folder."""
        return f"{self.folder}/{self.id}{end}"

    def has(self, end: str) -> bool:
        """Whether that file is there."""
        return (self.root / self.name(end)).is_file()

    @property
    def split(self) -> Split:
        """The split that its list stands for."""
        return SPLIT_LISTS[self.listed_in]

    @property
    def points(self) -> str:
        """The vertices."""
        return self.name("_vh_clean_2.ply")

    @property
    def labels(self) -> str | None:
        """The ground truth; None where the scene may lack it, and does."""
        end = "_vh_clean_2.labels.ply"
        return self.name(end) if self.listed_in != _TEST_LIST or self.has(end) else None

    @property
    def stream(self) -> str | None:
        """The `.sens` stream, where there is one."""
        return self.name(".sens") if self.has(".sens") else None

    def capture(self, step: int) -> Capture | None:
        """Every `step`-th frame of the exported folders, where there are any.

        Raises:
            DatasetInvalid: one of them is missing, or holds no image or no intrinsics.
            FrameInvalid: a frame lacks its depth map or pose.
        """
        there = [name for name in _EXPORTED if (self.root / self.folder / name).is_dir()]
        if not there:
            return None
        missing = [name for name in _EXPORTED if name not in there]
        if missing:
            raise DatasetInvalid(
                f"scene {self.id}: {self.folder}/ has {', '.join(there)} but not {', '.join(missing)}; export the "
                f"scene again, or put {self.id}.sens there",
                scene=self.id,
            )
        return Capture.found(self.root, self.folder, self.id, step)


@dataclass(frozen=True, slots=True)
class Release:
    """A copy of the release, whole or in part."""

    root: Path

    def listed(self) -> dict[str, str]:
        """Scene -> the split list that names it.

        Raises:
            DatasetInvalid: the folder or every list is missing, or two lists name one scene.
        """
        check_there(self.root)
        listed: dict[str, str] = {}
        lists = {name: self._split_list(name) for name in SPLIT_LISTS}
        if all(scenes is None for scenes in lists.values()):
            raise DatasetInvalid(
                f"{self.root.name} holds no split list: expected {', '.join(SPLIT_LISTS)} in it or in tasks/ or "
                "Benchmark/; they are part of ScanNet's repository, under Tasks/Benchmark"
            )
        for name, scenes in lists.items():
            for scene in scenes or ():
                if listed.setdefault(scene, name) != name:
                    raise DatasetInvalid(
                        f"{name} and {listed[scene]} both name the scene {scene}, expected one of them; fetch the "
                        "release's lists",
                        scene=scene,
                    )
        return listed

    def _split_list(self, name: str) -> list[str] | None:
        for folder in _LIST_FOLDERS:
            path = self.root / folder / name
            if path.is_file():
                try:
                    return path.read_text(encoding="utf-8").split()
                except (OSError, UnicodeDecodeError) as error:
                    raise DatasetInvalid(f"{name} of {self.root.name} cannot be read as text ({error})") from error
        return None

    def found(self) -> dict[str, SceneFiles]:
        """The scenes on offer, by id.

        Raises:
            DatasetInvalid: as `listed`; or none of the scenes is here.
        """
        listed = self.listed()
        found = {scene: files for scene, name in listed.items() if (files := self._files(scene, name)) is not None}
        if not found:
            raise DatasetInvalid(
                f"{self.root.name} holds none of the {len(listed)} scenes that its split lists name: expected folders "
                "such as scans/scene0000_00"
            )
        return found

    def scene(self, scene_id: str) -> SceneFiles | None:
        """One scene, None where it is not on offer.

        Raises:
            DatasetInvalid: as `listed`.
        """
        name = self.listed().get(scene_id)
        return None if name is None else self._files(scene_id, name)

    def _files(self, scene: str, listed_in: str) -> SceneFiles | None:
        for folder in _SCENE_FOLDERS:
            if (self.root / folder / scene).is_dir():
                return SceneFiles(self.root, scene, listed_in, f"{folder}/{scene}")
        return None


def axis_alignment(root: Path, name: str, scene: str) -> NDArray[np.float64]:
    """(4,4) turn and shift that a scene's text file calls `axisAlignment`; identity where there is none.

    Raises:
        DatasetInvalid: it is no rigid motion of 16 numbers, or the file cannot be read.
    """
    try:
        text = (root / name).read_text(encoding="utf-8") if (root / name).is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"scene {scene}: {name} cannot be read as text ({error})", scene=scene) from error
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "axisAlignment":
            return _rigid(value, name, scene)
    return np.eye(4)


def _rigid(value: str, name: str, scene: str) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(word) for word in value.split()])
    except ValueError:
        numbers = np.zeros(0)
    turn = numbers.reshape(4, 4) if len(numbers) == 16 else np.zeros((4, 4))
    if not is_rigid(turn):
        raise DatasetInvalid(
            f"scene {scene}: {name}: got axisAlignment = {value.strip()[:60]!r}, expected 16 numbers, row by row, of a "
            "turn and a shift; fetch the file again",
            scene=scene,
        )
    return turn

"""S3DIS: a scene a room, with the pictures of 2D-3D-S where they lie beside it.

    Stanford3dDataset_v1.2/Area_<k>/<room>/Annotations/<class>_<n>.txt    or Area_<k> without the folder around it
    area_1, area_2, area_3, area_4, area_5a, area_5b, area_6    2D-3D-S without global_xyz; any may be missing

A room is matched to its pictures by area and name. One without pictures is a scene without frames: enough for work in
3D alone. Rooms that only 2D-3D-S has are no scenes. The "Aligned_Version" of S3DIS turns every room to its own axes, so
that no pose fits: it is read only where no pictures lie beside it.

Source: S3DIS (Armeni et al., CVPR 2016), release v1.2; 2D-3D-S (Armeni et al., 2017). The paper's authors give no
loader; Area 5 is held out as in section 4.1. Knows files; knows no store and no network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import DatasetInvalid
from storage.keys import digest
from storage.labels import S3DIS13, LabelSet
from storage.specs.parts import S3disOptions, Split
from workers.scenes.annotations import annotation_files, read_room
from workers.scenes.dataset_folder import check_there
from workers.scenes.digests import DigestCache
from workers.scenes.point_cloud import classes_present
from workers.scenes.scene import Scene, SceneRef
from workers.scenes.two_d_three_d_s import Picture, pictures_by_room, read_frames

RELEASE, ALIGNED = "Stanford3dDataset_v1.2", "Stanford3dDataset_v1.2_Aligned_Version"
_AREA = re.compile(r"Area_([1-6])")
_ROOM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class _Place:
    """A room of S3DIS and its pictures."""

    area: int
    room: str
    annotations: str
    """Its `Annotations` folder, relative to the dataset's."""
    pictures: tuple[Picture, ...]
    """Those taken."""

    @property
    def scene(self) -> str:
        return f"Area_{self.area}_{self.room}"


class S3disSource:
    """Rooms of S3DIS."""

    def __init__(self, root: Path, options: S3disOptions, label_set: LabelSet, cache_dir: Path) -> None:
        """Opens a folder; nothing is read yet.

        Args:
            root: the folder that holds S3DIS and, beside it, the areas of 2D-3D-S.
            options: which area is held out, and how pictures are taken.
            label_set: must be S3DIS-13.
            cache_dir: where digests of files are remembered.

        Raises:
            DatasetInvalid: another label set.
        """
        if label_set != S3DIS13:
            raise DatasetInvalid(f"got the label set {label_set.name!r} for S3DIS, whose labels are {S3DIS13.name!r}")
        self._root = root
        self._options = options
        self._digests = DigestCache(root, cache_dir)
        self._found: Mapping[str, _Place] = {}

    @property
    def root(self) -> Path:
        """The folder that frames' paths are relative to."""
        return self._root

    def scenes(self) -> Sequence[SceneRef]:
        """The scenes on offer, sorted by id; a file that is missing or cannot be read is met when the room is loaded.

        Raises:
            DatasetInvalid: the folder is missing, or holds no room of S3DIS.
        """
        self._found = self._places()
        refs = [
            SceneRef(name, self._split(place), self._fingerprint(place)) for name, place in sorted(self._found.items())
        ]
        self._digests.save()
        return refs

    def load(self, scene_id: str) -> Scene:
        """Reads one room and the cameras of its pictures.

        `notes` tells of lines of points that were repaired or left out, and of objects of an unknown class.

        Raises:
            DatasetInvalid: no such room, or its points cannot be read; the error names the scene and the file.
            FrameInvalid: a frame cannot be read.
        """
        places = self._found = self._found or self._places()
        if scene_id not in places:
            raise DatasetInvalid(
                f"{self._root.name} holds no scene {scene_id!r}; it holds {len(places)}, from {min(places)} to "
                f"{max(places)}",
                scene=scene_id,
            )
        place = places[scene_id]
        room = read_room(self._root / place.annotations, scene_id)
        frames, skipped = read_frames(self._root, place.pictures, self._digests, scene_id)
        self._digests.save()
        return Scene(
            scene_id,
            self._split(place),
            room.points_m,
            room.colours,
            frames,
            classes_present(room.labels),
            room.labels,
            skipped,
            room.notes,
        )

    def _split(self, place: _Place) -> Split:
        return "test" if place.area == self._options.test_area else "train"

    def _places(self) -> Mapping[str, _Place]:
        """Scene id -> where its files are."""
        check_there(self._root)
        pictures = pictures_by_room(self._root)
        home = self._home(with_pictures=bool(pictures))
        places = {}
        for area in (path for path in home.iterdir() if path.is_dir() and _AREA.fullmatch(path.name)):
            number = int(area.name.removeprefix("Area_"))
            for room in (path for path in area.iterdir() if path.is_dir() and not path.name.startswith(".")):
                if not _ROOM.fullmatch(room.name):
                    raise DatasetInvalid(
                        f"{area.name} of {self._root.name}: got a room named {room.name!r}, expected letters, digits, "
                        "'_' and '-'; rename or remove the folder"
                    )
                folder = (room / "Annotations").relative_to(self._root).as_posix()
                taken = tuple(pictures.get((number, room.name), ())[:: self._options.frame_step])
                place = _Place(number, room.name, folder, taken)
                places[place.scene] = place
        if not places:
            raise DatasetInvalid(
                f"the dataset folder {self._root} holds no room of S3DIS: expected {RELEASE}/Area_<k>/<room>/"
                "Annotations/<class>_<n>.txt"
            )
        return places

    def _home(self, *, with_pictures: bool) -> Path:
        """The folder of the areas of S3DIS."""
        if (self._root / RELEASE).is_dir():
            return self._root / RELEASE
        if not (self._root / ALIGNED).is_dir():
            return self._root
        if with_pictures:
            raise DatasetInvalid(
                f"the dataset folder {self._root} holds {ALIGNED} beside pictures of 2D-3D-S: its rooms are turned to "
                f"their own axes and no pose fits them; put {RELEASE} there, or take the pictures away"
            )
        return self._root / ALIGNED

    def _fingerprint(self, place: _Place) -> str:
        try:
            objects = annotation_files(self._root / place.annotations)
        except OSError:
            objects = []
        names = [f"{place.annotations}/{name}" for name in objects]
        return digest(
            [place.scene, *(self._described(name) for name in [*names, *(f for p in place.pictures for f in p.files)])]
        )

    def _described(self, name: str) -> list[str | int | None]:
        """A file's path, size and content digest; None for both where it cannot be read."""
        try:
            return [name, self._digests.size(name), self._digests.of(name)]
        except OSError:
            return [name, None, None]

"""The pictures of 2D-3D-S: which belong to a room, and their cameras.

    area_<k>/data/{rgb,depth,pose}/camera_<id>_<room>_frame_<n>_domain_{rgb.png,depth.png,pose.json}

The pose file holds `camera_k_matrix` (3x3), `camera_rt_matrix` (3x4, world to camera; x right, y down, z ahead) and
`room`, written with its area ("office_3_1") or without; where it has none, the file's name decides. Areas 5a and 5b are
both Area 5; some rooms have pictures in either, and the poses of 5b are known to lie in coordinates of their own: they
are read as they stand, and `workers.scenes.inspect` finds them. Depth is 16-bit z in 1/512 m, 65535 = none.

Only headers of pictures are read here: 70,000 of them take minutes to open and hours to decode. A picture damaged
further in is met when it is used. Knows pictures and cameras; knows no point, no label and no split.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors import DatasetInvalid, FrameInvalid
from workers.scenes.cameras import NON_FINITE, OTHER_ROOM, is_pinhole, pose_fault, same_view
from workers.scenes.digests import DigestCache
from workers.scenes.scene import Frame

F64 = NDArray[np.float64]
DEPTH_SCALE, DEPTH_NONE = 512.0, 65535
_AREA = re.compile(r"area_(?P<number>[1-6])[ab]?")
_NAME = re.compile(r"(?P<stem>camera_(?P<camera>[^_]+)_(?P<room>.+)_frame_(?P<number>\d+))_domain_rgb\.png")


@dataclass(frozen=True, slots=True, order=True)
class Picture:
    """One picture: where its files are, relative to the dataset's folder. Sorts by area, camera and number."""

    area: str
    """Folder of the area, such as area_5a."""
    camera: str
    number: int
    room: str
    """The room that the file's name tells."""
    stem: str
    """What the names of its files begin with."""

    @property
    def image(self) -> str:
        """Its colour image."""
        return f"{self.area}/data/rgb/{self.stem}_domain_rgb.png"

    @property
    def depth(self) -> str:
        """Its depth map."""
        return f"{self.area}/data/depth/{self.stem}_domain_depth.png"

    @property
    def pose(self) -> str:
        """Its pose file."""
        return f"{self.area}/data/pose/{self.stem}_domain_pose.json"

    @property
    def files(self) -> tuple[str, str, str]:
        """All three."""
        return self.image, self.depth, self.pose


def pictures_by_room(root: Path) -> Mapping[tuple[int, str], Sequence[Picture]]:
    """(area, room) -> its pictures in order, for every area of 2D-3D-S in a folder; empty where there is none.

    Raises:
        DatasetInvalid: an area has no folder data/rgb, or pictures of which none has a name of this kind.
    """
    found: dict[tuple[int, str], list[Picture]] = defaultdict(list)
    for area in sorted(root.iterdir()):
        numbered = _AREA.fullmatch(area.name)
        if numbered is None or not area.is_dir():
            continue
        try:
            names = [path.name for path in (area / "data" / "rgb").iterdir() if path.suffix == ".png"]
        except OSError as error:
            raise DatasetInvalid(
                f"{area.name}/data/rgb of {root.name} cannot be read ({error.strerror}); unpack the area's rgb, depth "
                "and pose, or remove its folder"
            ) from error
        matched = [match for match in map(_NAME.fullmatch, names) if match]
        if names and not matched:
            raise DatasetInvalid(
                f"{area.name}/data/rgb of {root.name}: got {sorted(names)[0]!r} and the like, expected "
                "camera_<id>_<room>_frame_<n>_domain_rgb.png"
            )
        for match in matched:
            picture = Picture(area.name, match["camera"], int(match["number"]), match["room"], match["stem"])
            found[int(numbered["number"]), picture.room].append(picture)
    return {key: sorted(pictures) for key, pictures in found.items()}


def read_frames(
    root: Path, pictures: Sequence[Picture], digests: DigestCache, scene: str
) -> tuple[tuple[Frame, ...], Mapping[str, int]]:
    """The frames of a room's pictures, and reason -> how many were left out.

    Left out are pictures with a pose that is not finite or no rigid motion, and those whose pose file names another
    room than their name does.

    Raises:
        FrameInvalid: a file is missing or no picture, a pose file holds no camera, or depth and colour show different
            views; the message names scene and file.
    """
    frames: list[Frame] = []
    skipped: Counter[str] = Counter()
    for picture in pictures:
        try:
            read = _read_frame(root, picture, digests)
        except FrameInvalid as error:
            raise FrameInvalid(f"scene {scene}: {error.message}", scene=scene) from error
        if isinstance(read, str):
            skipped[read] += 1
        else:
            frames.append(read)
    return tuple(frames), dict(skipped)


def _read_frame(root: Path, picture: Picture, digests: DigestCache) -> Frame | str:
    """A frame, or the reason to leave it out."""
    values = _pose_file(root, picture.pose)
    if not _of_room(values.get("room"), picture):
        return OTHER_ROOM
    intrinsics = _matrix(values, "camera_k_matrix", (3, 3), picture.pose)
    world_to_camera = _matrix(values, "camera_rt_matrix", (3, 4), picture.pose)
    fault = pose_fault(np.vstack([world_to_camera, [0, 0, 0, 1]])) if np.isfinite(intrinsics).all() else NON_FINITE
    if fault is not None:
        return fault
    if not is_pinhole(intrinsics):
        raise FrameInvalid(
            f"{picture.pose}: camera_k_matrix holds no pinhole K: focal lengths must be positive, got "
            f"{intrinsics[0, 0]:g} and {intrinsics[1, 1]:g}"
        )
    size, _ = _header(root, picture.image)
    depth_size, mode = _header(root, picture.depth)
    if not mode.startswith("I"):
        raise FrameInvalid(f"{picture.depth}: got an image of mode {mode}, expected a 16-bit depth map")
    if not same_view(size, depth_size):
        raise FrameInvalid(
            f"{picture.depth}: got a depth map of {depth_size[0]} x {depth_size[1]} for an image of {size[0]} x "
            f"{size[1]} pixels; they must show the same view"
        )
    return Frame(
        name=f"{picture.area}/{picture.stem}",
        image=picture.image,
        depth=picture.depth,
        image_size=size,
        intrinsics=intrinsics,
        camera_to_world=_inverted(world_to_camera),
        image_digest=digests.of(picture.image),
        depth_digest=digests.of(picture.depth),
        depth_scale=DEPTH_SCALE,
        depth_none=DEPTH_NONE,
    )


def _of_room(room: object, picture: Picture) -> bool:
    """Whether what a pose file says of its room fits the picture's name; it may say the area too, or nothing."""
    if room is None:
        return True
    area = picture.area.removeprefix("area_")
    return room == picture.room or room in [
        f"{picture.room}_{of}" for of in (area, area[0], picture.area, f"area_{area[0]}")
    ]


def _pose_file(root: Path, name: str) -> dict[str, object]:
    try:
        values = json.loads((root / name).read_bytes())
    except OSError as error:
        raise FrameInvalid(
            f"{name}: cannot be read ({error.strerror}); unpack it again, or remove the picture"
        ) from error
    except ValueError as error:
        raise FrameInvalid(f"{name}: is no JSON ({error}); unpack it again, or remove the picture") from error
    if not isinstance(values, dict):
        raise FrameInvalid(f"{name}: got JSON of type {type(values).__name__}, expected an object with a camera")
    return values


def _matrix(values: Mapping[str, object], key: str, shape: tuple[int, int], name: str) -> F64:
    if key not in values:
        raise FrameInvalid(f"{name}: has no {key}; unpack it again, or remove the picture")
    try:
        matrix = np.array(values[key], np.float64)
    except (ValueError, TypeError) as error:
        raise FrameInvalid(f"{name}: {key} is no matrix of numbers ({error})") from error
    if matrix.shape != shape:
        raise FrameInvalid(f"{name}: got a {key} of shape {matrix.shape}, expected {shape}")
    return matrix


def _inverted(world_to_camera: F64) -> F64:
    """(4,4) camera-to-world of a (3,4) world-to-camera, a rigid motion."""
    turn, shift = world_to_camera[:, :3], world_to_camera[:, 3]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn.T, -turn.T @ shift
    return pose


def _header(root: Path, name: str) -> tuple[tuple[int, int], str]:
    """Width and height, and Pillow's mode, of a picture that is not decoded."""
    try:
        with Image.open(root / name) as opened:
            return opened.size, opened.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameInvalid(f"{name}: a picture that cannot be read ({error}); unpack it again") from error

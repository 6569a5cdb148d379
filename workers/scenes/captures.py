"""One scene's frames on disk: finding the files, reading cameras, checking images, fusing depth.

Knows ScanNet's exported layout within one scene; knows no label and no split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid, FrameInvalid
from storage.specs.parts import DepthFusion
from workers.geometry.camera import resize_nearest, scale_intrinsics
from workers.geometry.depth_fusion import DepthFrame, fuse
from workers.scenes.cameras import EMPTY_DEPTH, is_pinhole, pose_fault, same_view
from workers.scenes.digests import DigestCache
from workers.scenes.frames import decode_depth, decode_image
from workers.scenes.scene import Frame

F64 = NDArray[np.float64]
IMAGES = (".jpg", ".jpeg", ".png")
COLOUR_K, DEPTH_K = "intrinsic/intrinsic_color.txt", "intrinsic/intrinsic_depth.txt"


@dataclass(frozen=True, slots=True)
class Capture:
    """Names of the files of one scene, relative to the dataset's folder."""

    scene: str
    prefix: str
    """What stands before the scene's own file names: nothing, or its folder and a slash."""
    stems: tuple[str, ...]
    """Names of the frames, in the order of their numbers."""
    images: tuple[str, ...]
    """File name of each frame's image."""
    has_depth_intrinsics: bool

    @classmethod
    def found(cls, root: Path, folder: str, scene: str, step: int) -> Capture:
        """The capture in a folder of the dataset, every `step`-th frame of it.

        Raises:
            DatasetInvalid: no colour image, no intrinsics, or a folder that cannot be listed.
            FrameInvalid: a frame lacks its depth map or pose.
        """
        prefix = f"{folder}/" if folder else ""
        base = root / folder
        try:
            images = {p.stem: p.name for p in (base / "color").iterdir() if p.suffix.lower() in IMAGES}
        except OSError as error:
            raise DatasetInvalid(
                f"scene {scene}: {prefix}color/ cannot be listed ({error.strerror}); see its permissions", scene=scene
            ) from error
        stems = sorted(images, key=lambda s: (0, int(s), s) if s.isdecimal() else (1, 0, s))[::step]
        if not stems:
            raise DatasetInvalid(f"scene {scene}: {prefix}color/ holds no image ({', '.join(IMAGES)})", scene=scene)
        if not (base / COLOUR_K).is_file():
            raise DatasetInvalid(f"scene {scene}: {prefix}{COLOUR_K} is missing (the pinhole K, 4 x 4)", scene=scene)
        capture = cls(scene, prefix, tuple(stems), tuple(images[s] for s in stems), (base / DEPTH_K).is_file())
        for stem in stems:
            for name, what in ((capture.depth(stem), "depth map"), (capture.pose(stem), "pose")):
                if not (root / name).is_file():
                    raise FrameInvalid(
                        f"scene {scene}: frame {stem} has no {what}, {name} is missing; restore it or remove the frame",
                        scene=scene,
                    )
        return capture

    def path(self, name: str) -> str:
        """A file of the scene, relative to the dataset's folder."""
        return self.prefix + name

    def depth(self, stem: str) -> str:
        """The depth map of a frame."""
        return self.path(f"depth/{stem}.png")

    def pose(self, stem: str) -> str:
        """The pose of a frame."""
        return self.path(f"pose/{stem}.txt")

    def files(self) -> list[str]:
        """Every file of the frames and cameras."""
        names = [self.path(f"color/{image}") for image in self.images] + [self.path(COLOUR_K)]
        names += [self.path(DEPTH_K)] if self.has_depth_intrinsics else []
        return names + [f(stem) for stem in self.stems for f in (self.depth, self.pose)]


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What was read of a capture."""

    frames: tuple[Frame, ...]
    skipped: Mapping[str, int]
    points_m: NDArray[np.float32]
    """(N,3), fused where asked for, else empty."""
    colours: NDArray[np.uint8]


@dataclass(slots=True)
class _Reader:
    """Reads the frames of one capture one by one, checks them, and gathers those that can be used."""

    root: Path
    capture: Capture
    digests: DigestCache
    colour_k: F64
    depth_k: F64 | None
    upright: F64
    frames: list[Frame] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    size: tuple[int, int] | None = None
    depth_size: tuple[int, int] | None = None

    def frames_of(self, poses: Mapping[str, F64]) -> Iterator[DepthFrame]:
        """Each usable frame's depth and colours, decoded."""
        for stem, image in zip(self.capture.stems, self.capture.images, strict=True):
            fault = pose_fault(poses[stem])
            if fault is not None:
                self.skipped[fault] += 1
                continue
            try:
                decoded = self._frame(stem, self.capture.path(f"color/{image}"), self.upright @ poses[stem])
            except FrameInvalid as error:
                message = f"scene {self.capture.scene}: {error.message}"
                raise FrameInvalid(message, scene=self.capture.scene) from error
            if decoded is not None:
                yield decoded

    def _frame(self, stem: str, image_name: str, pose: F64) -> DepthFrame | None:
        depth_name = self.capture.depth(stem)
        image = decode_image(_bytes(self.root, image_name), image_name)
        depth = decode_depth(_bytes(self.root, depth_name), depth_name)
        size, depth_size = image.shape[1::-1], depth.shape[1::-1]
        self.size, self.depth_size = self.size or size, self.depth_size or depth_size
        _check_size(image_name, "image", size, self.size)
        _check_size(depth_name, "depth map", depth_size, self.depth_size)
        if not same_view(size, depth_size):
            raise FrameInvalid(
                f"{depth_name}: got a depth map of {depth_size[0]} x {depth_size[1]} for an image of {size[0]} x "
                f"{size[1]} pixels; they must show the same view"
            )
        if not depth.any():
            self.skipped[EMPTY_DEPTH] += 1
            return None
        digests = self.digests.of(image_name), self.digests.of(depth_name)
        self.frames.append(Frame(stem, image_name, depth_name, size, self.colour_k, pose, *digests))
        k = self.depth_k if self.depth_k is not None else scale_intrinsics(self.colour_k, size, depth_size)
        metres = (depth / np.float32(self.frames[-1].depth_scale)).astype(np.float32)
        return DepthFrame(metres, k, pose, np.asarray(resize_nearest(image, depth_size), np.uint8))


def read_frames(root: Path, capture: Capture, digests: DigestCache, fusion: DepthFusion, *, fuse_points: bool) -> Taken:
    """Reads and checks every frame; fuses their depth where asked for.

    Frames with a pose that is not finite or no rigid motion, or with an empty depth map, are left out and counted. The
    scene is turned by quarter turns so that z points up where it is fused, as the poses say.

    Raises:
        DatasetInvalid: intrinsics that cannot be read, or no usable frame.
        FrameInvalid: a frame that cannot be read; the message names scene and file.
    """
    poses = {stem: _matrix(root, capture, capture.pose(stem), (4, 4)) for stem in capture.stems}
    colour_k = _intrinsics(root, capture, COLOUR_K)
    depth_k = _intrinsics(root, capture, DEPTH_K) if capture.has_depth_intrinsics else None
    usable = [pose for pose in poses.values() if pose_fault(pose) is None]
    upright = upright_turn(np.array(usable)) if fuse_points else np.eye(4)
    reader = _Reader(root, capture, digests, colour_k, depth_k, upright)
    frames = reader.frames_of(poses)
    if fuse_points:
        try:
            points, colours = fuse(frames, fusion.voxel_m, fusion.max_depth_m)
        except ValueError as error:
            if isinstance(error, DatasetInvalid):
                raise
            raise DatasetInvalid(f"scene {capture.scene}: {error}", scene=capture.scene) from error
    else:
        points, colours = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
        for _ in frames:
            pass
    if not reader.frames:
        raise DatasetInvalid(
            f"scene {capture.scene}: none of its {len(capture.stems)} frames can be used ({dict(reader.skipped)})",
            scene=capture.scene,
        )
    return Taken(tuple(reader.frames), dict(reader.skipped), points, colours)


def upright_turn(poses: F64) -> F64:
    """(4,4) rotation by quarter turns after which the cameras' up is nearest to z.

    Captures differ in which axis points up; scenes here have z up. Where no axis is clearly up, nothing is turned.

    Args:
        poses: (F,4,4) camera-to-world, finite.
    """
    turn = np.eye(4)
    if not len(poses):
        return turn
    up, level = -poses[:, :3, 1].mean(axis=0), np.abs(poses[:, :3, 0]).mean(axis=0)
    # cameras are held level: what is up is no camera's right, whichever way it is tilted
    scores = np.abs(up) - level
    axis = int(np.argmax(scores))
    if scores[axis] < max(0.3, np.sign(up[2]) * np.abs(up[2]) - level[2] + 0.2):
        return turn
    rows = np.zeros((3, 3))
    rows[2, axis] = np.sign(up[axis])
    rows[0, (axis + 1) % 3 if axis == 2 else 1 - axis] = 1.0
    rows[1] = np.cross(rows[2], rows[0])
    turn[:3, :3] = rows
    return turn


def _check_size(name: str, what: str, got: tuple[int, int], expected: tuple[int, int]) -> None:
    if got != expected:
        raise FrameInvalid(
            f"{name}: got a {what} of {got[0]} x {got[1]} pixels, expected {expected[0]} x {expected[1]} as in the "
            "scene's first frame; export the frame again or remove it"
        )


def _bytes(root: Path, name: str) -> bytes:
    try:
        return (root / name).read_bytes()
    except OSError as error:
        raise FrameInvalid(f"{name} cannot be read ({error.strerror})") from error


def _matrix(root: Path, capture: Capture, name: str, shape: tuple[int, int]) -> F64:
    """A matrix of numbers from a text file."""
    try:
        values = [float(word) for word in (root / name).read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise FrameInvalid(
            f"scene {capture.scene}: {name} is no matrix of numbers ({error})", scene=capture.scene
        ) from error
    if len(values) != shape[0] * shape[1]:
        raise FrameInvalid(
            f"scene {capture.scene}: {name} holds {len(values)} numbers, expected {shape[0]} x {shape[1]}",
            scene=capture.scene,
        )
    return np.array(values).reshape(shape)


def _intrinsics(root: Path, capture: Capture, name: str) -> F64:
    path = capture.path(name)
    try:
        count = len((root / path).read_text(encoding="utf-8").split())
        k = _matrix(root, capture, path, (3, 3) if count == 9 else (4, 4))[:3, :3]
    except (OSError, UnicodeDecodeError, FrameInvalid) as error:
        raise DatasetInvalid(f"scene {capture.scene}: {path} cannot be read ({error})", scene=capture.scene) from error
    if not is_pinhole(k):
        raise DatasetInvalid(
            f"scene {capture.scene}: {path} holds no pinhole K: focal lengths must be positive, got {k[0, 0]:g} and "
            f"{k[1, 1]:g}",
            scene=capture.scene,
        )
    return k

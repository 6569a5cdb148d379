"""ScanNet's `.sens` streams, version 4: the header, where each frame's bytes lie, and frames made of them.

Nothing is exported, and no stream is read whole: indexing one seeks from frame to frame over their sizes, and a frame
names its image and depth map as ranges of the stream. Extrinsics stand in the header and are not applied, as in the
folders that ScanNet's exporter writes: a pose is the colour camera's. Knows the format; knows no layout and no label.

Layout, little endian: version u32; length of the name u64, the name; four 4x4 f32 matrices (colour intrinsic, colour
extrinsic, depth intrinsic, depth extrinsic); colour and depth compression i32; colour width and height, depth width
and height u32; depth units a metre f32; number of frames u64; then a frame each: camera-to-world 16 f32, two times
u64, sizes of colour and depth u64, their bytes.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid, FrameInvalid
from storage.keys import digest, digest_bytes
from workers.scenes.cameras import EMPTY_DEPTH, is_pinhole, pose_fault, same_view
from workers.scenes.frames import decode_frame_depth, decode_image, range_name, read_bytes
from workers.scenes.scene import DepthCoding, Frame

VERSION = 4
_COLOUR_CODINGS = {-1: "unknown", 0: "raw", 1: "png", 2: "jpeg"}
_DEPTH_CODINGS = {-1: "unknown", 0: "raw", 1: "zlib", 2: "occi"}
_COLOUR_READ = {1, 2}
_DEPTH_READ: dict[int, DepthCoding] = {0: "raw", 1: "zlib"}
_NAME_LIMIT = 4096
"""A longer name of the sensor than this is no name: the file is something else."""
_CAMERA = struct.Struct("<64f2i4IfQ")
_FRAME = struct.Struct("<16f4Q")


@dataclass(frozen=True, slots=True, eq=False)
class SensHeader:
    """What stands before the frames of a stream."""

    sensor: str
    colour_k: NDArray[np.float64]
    """(3,3) pinhole K of the colour images, pixels."""
    depth_k: NDArray[np.float64]
    """(3,3) pinhole K of the depth maps, pixels."""
    colour_extrinsic: NDArray[np.float64]
    """(4,4); recorded, not applied."""
    depth_extrinsic: NDArray[np.float64]
    """(4,4); recorded, not applied."""
    image_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_coding: DepthCoding
    depth_scale: float
    """Units of a depth map a metre."""
    num_frames: int
    size: int
    """Bytes of the header."""


@dataclass(frozen=True, slots=True, eq=False)
class SensFrame:
    """Where one frame lies in its stream."""

    number: int
    camera_to_world: NDArray[np.float64]
    """(4,4), metres; not finite where the scanner lost track."""
    offset: int
    """Where its record begins; the pose stands first."""
    image_offset: int
    image_bytes: int
    depth_bytes: int

    @property
    def depth_offset(self) -> int:
        """Where its depth map begins."""
        return self.image_offset + self.image_bytes

    @property
    def end(self) -> int:
        """Where the next frame begins."""
        return self.depth_offset + self.depth_bytes


@dataclass(frozen=True, slots=True, eq=False)
class SensIndex:
    """A stream's header and the frames taken of it."""

    name: str
    """The file, relative to the dataset's folder."""
    scene: str
    header: SensHeader
    frames: tuple[SensFrame, ...]

    def frame(self, root: Path, entry: SensFrame) -> tuple[Frame, NDArray[np.uint16]]:
        """One frame and its decoded depth map; its image is decoded too, so that a corrupt one shows here.

        Raises:
            FrameInvalid: either cannot be decoded, or is of another size than the header says.
        """
        image = range_name(self.name, entry.image_offset, entry.image_bytes)
        depth = range_name(self.name, entry.depth_offset, entry.depth_bytes)
        try:
            image_content, depth_content = read_bytes(root, image), read_bytes(root, depth)
            frame = Frame(
                str(entry.number), image, depth, self.header.image_size, self.header.colour_k, entry.camera_to_world,
                digest_bytes(image_content), digest_bytes(depth_content), self.header.depth_scale,
                depth_coding=self.header.depth_coding, depth_size=self.header.depth_size,
            )  # fmt: skip
            got = decode_image(image_content, image).shape[1::-1]
            if got != self.header.image_size:
                raise FrameInvalid(
                    f"{image}: got an image of {got[0]} x {got[1]} pixels, expected {self.header.image_size[0]} x "
                    f"{self.header.image_size[1]} as the stream's header says"
                )
            return frame, decode_frame_depth(depth_content, frame)
        except FrameInvalid as error:
            message = f"scene {self.scene}: frame {entry.number} of {self.name}: {error.message}"
            raise FrameInvalid(message, scene=self.scene) from error


def read_index(root: Path, name: str, scene: str, step: int = 1) -> SensIndex:
    """Reads a stream's header, and where every `step`-th frame lies, seeking over the images.

    Args:
        root: the dataset's folder.
        name: the stream, relative to it.
        scene: the scene that an error names.
        step: take every so many frames, the first included.

    Raises:
        DatasetInvalid: no stream of version 4, a compression that is not read, an impossible camera, no frame, or a
            file that ends within its header.
        FrameInvalid: it ends within a frame.
    """
    try:
        with (root / name).open("rb", buffering=0) as stream:
            return _Indexer(stream, name, scene).index(step)
    except OSError as error:
        raise DatasetInvalid(f"scene {scene}: {name} cannot be read ({error.strerror})", scene=scene) from error


def read_stream(root: Path, name: str, scene: str, step: int) -> tuple[tuple[Frame, ...], Mapping[str, int]]:
    """The usable frames among every `step`-th of a stream, and reason -> how many were left out.

    Frames with a pose that is not finite or no rigid motion, or with an empty depth map, are left out and counted; all
    others are decoded once.

    Raises:
        DatasetInvalid: as `read_index`; or no frame can be used.
        FrameInvalid: a frame cannot be read; the message names the stream and the frame.
    """
    index, frames, skipped = read_index(root, name, scene, step), list[Frame](), Counter[str]()
    for entry in index.frames:
        fault = pose_fault(entry.camera_to_world)
        if fault is not None:
            skipped[fault] += 1
            continue
        frame, depth = index.frame(root, entry)
        if depth.any():
            frames.append(frame)
        else:
            skipped[EMPTY_DEPTH] += 1
    if not frames:
        raise DatasetInvalid(
            f"scene {scene}: none of the {len(index.frames)} frames taken of {name} can be used ({dict(skipped)}); "
            "take more of them with a smaller frame_step",
            scene=scene,
        )
    return tuple(frames), dict(skipped)


def stream_fingerprint(root: Path, name: str, scene: str, step: int) -> str:
    """A digest of what is read of a stream at that step: its header and the records of the frames taken.

    Raises:
        DatasetInvalid, FrameInvalid: as `read_index`.
    """
    index = read_index(root, name, scene, step)
    ranges = [(0, index.header.size), *((f.offset, f.end - f.offset) for f in index.frames)]
    return digest([digest_bytes(read_bytes(root, range_name(name, *where))) for where in ranges])


@dataclass(slots=True)
class _Indexer:
    """Walks one open stream."""

    stream: BinaryIO
    name: str
    scene: str

    def index(self, step: int) -> SensIndex:
        length = os.fstat(self.stream.fileno()).st_size
        header = self._header()
        frames, offset = list[SensFrame](), header.size
        for number in range(header.num_frames):
            frame = self._frame(number, offset, header.num_frames)
            if frame.end > length:
                raise self._cut(number, header.num_frames, length, frame.end)
            if number % step == 0:
                frames.append(frame)
            offset = frame.end
        return SensIndex(self.name, self.scene, header, tuple(frames))

    def _header(self) -> SensHeader:
        (version,) = struct.unpack("<I", self._read(4, "version"))
        if version != VERSION:
            raise self._error(
                f"got a stream of version {version}, expected version {VERSION}; fetch the scene's .sens of the "
                "ScanNet v2 release, or export it to color/, depth/, pose/ and intrinsic/"
            )
        (length,) = struct.unpack("<Q", self._read(8, "the sensor's name"))
        if length > _NAME_LIMIT:
            raise self._error(
                f"the sensor's name would be {length} bytes long, so it is no .sens stream; fetch it again"
            )
        sensor = self._read(length, "the sensor's name").decode("utf-8", errors="replace")
        values = _CAMERA.unpack(self._read(_CAMERA.size, "its cameras"))
        matrices = np.array(values[:64], np.float64).reshape(4, 4, 4)
        colour, depth, width, height, depth_width, depth_height, shift, count = values[64:]
        self._check_codings(colour, depth)
        self._check_cameras(matrices, (width, height), (depth_width, depth_height), shift)
        if not count:
            raise self._error("the stream holds no frame; fetch it again")
        return SensHeader(
            sensor, matrices[0, :3, :3], matrices[2, :3, :3], matrices[1], matrices[3], (width, height),
            (depth_width, depth_height), _DEPTH_READ[depth], float(shift), count, 12 + length + _CAMERA.size,
        )  # fmt: skip

    def _check_codings(self, colour: int, depth: int) -> None:
        if colour not in _COLOUR_READ:
            raise self._error(
                f"got colour compression {colour} ({_COLOUR_CODINGS.get(colour, 'unknown')}), expected 1 (png) or "
                "2 (jpeg); export the scene to color/, depth/, pose/ and intrinsic/ instead"
            )
        if depth not in _DEPTH_READ:
            raise self._error(
                f"got depth compression {depth} ({_DEPTH_CODINGS.get(depth, 'unknown')}), expected 0 (raw u16) or "
                "1 (zlib u16); export the scene to color/, depth/, pose/ and intrinsic/ instead"
            )

    def _check_cameras(
        self, matrices: NDArray[np.float64], size: tuple[int, int], depth_size: tuple[int, int], shift: float
    ) -> None:
        for what, k in (("colour", matrices[0]), ("depth", matrices[2])):
            if not is_pinhole(k):
                raise self._error(
                    f"the {what} intrinsic is no pinhole K: focal lengths must be positive, got {k[0, 0]:g} and "
                    f"{k[1, 1]:g}; fetch the stream again"
                )
        if not (min(*size, *depth_size) > 0 and np.isfinite(shift) and shift > 0):
            raise self._error(
                f"got images of {size[0]} x {size[1]}, depth maps of {depth_size[0]} x {depth_size[1]} pixels and "
                f"{shift:g} depth units a metre; all must be positive: fetch the stream again"
            )
        if not same_view(size, depth_size):
            raise self._error(
                f"got depth maps of {depth_size[0]} x {depth_size[1]} for images of {size[0]} x {size[1]} pixels; they "
                "must show the same view"
            )

    def _frame(self, number: int, offset: int, total: int) -> SensFrame:
        self.stream.seek(offset)
        record = self.stream.read(_FRAME.size)
        if len(record) != _FRAME.size:
            raise self._cut(number, total, offset + len(record), offset + _FRAME.size)
        values = _FRAME.unpack(record)
        pose = np.array(values[:16], np.float64).reshape(4, 4)
        return SensFrame(number, pose, offset, offset + _FRAME.size, values[18], values[19])

    def _read(self, size: int, what: str) -> bytes:
        content = self.stream.read(size)
        if len(content) != size:
            raise self._error(
                f"the file ends within its header, at {what} (got {len(content)} of {size} bytes); fetch it again"
            )
        return content

    def _cut(self, number: int, total: int, got: int, expected: int) -> FrameInvalid:
        return FrameInvalid(
            f"scene {self.scene}: {self.name} ends within frame {number} of {total}: it has {got} bytes, and the frame "
            f"needs {expected}; fetch it again",
            scene=self.scene,
        )

    def _error(self, what: str) -> DatasetInvalid:
        return DatasetInvalid(f"scene {self.scene}: {self.name}: {what}", scene=self.scene)

"""Frames on disk: reading images and depth maps, and frames as JSON-like values beside arrays.

Knows image files, and ranges of bytes within larger ones; knows no dataset and no network.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors import FrameInvalid
from storage.keys import digest_bytes
from workers.scenes.scene import DepthCoding, Frame

_RANGE = re.compile(r"(?P<path>.+)#(?P<offset>\d+)\+(?P<size>\d+)")


class FrameDescription(TypedDict):
    """A frame without its matrices, JSON-like; the last keys stand only where they differ from `Frame`'s defaults."""

    name: str
    image: str
    depth: str
    image_size: list[int]
    image_digest: str
    depth_digest: str
    depth_scale: float
    depth_none: NotRequired[int]
    depth_coding: NotRequired[DepthCoding]
    depth_size: NotRequired[list[int]]


def describe_frames(frames: Sequence[Frame]) -> list[FrameDescription]:
    """Frames as JSON-like values; their matrices go into arrays, see `frame_matrices`."""
    return [_description(frame) for frame in frames]


def _description(frame: Frame) -> FrameDescription:
    described = FrameDescription(
        name=frame.name,
        image=frame.image,
        depth=frame.depth,
        image_size=list(frame.image_size),
        image_digest=frame.image_digest,
        depth_digest=frame.depth_digest,
        depth_scale=frame.depth_scale,
    )
    if frame.depth_none is not None:
        described["depth_none"] = frame.depth_none
    if frame.depth_coding != "image":
        described["depth_coding"] = frame.depth_coding
    if frame.depth_size is not None:
        described["depth_size"] = list(frame.depth_size)
    return described


def frame_matrices(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(F,3,3) intrinsics and (F,4,4) camera-to-world of frames, float64."""
    intrinsics = np.array([frame.intrinsics for frame in frames], np.float64).reshape(-1, 3, 3)
    return intrinsics, np.array([frame.camera_to_world for frame in frames], np.float64).reshape(-1, 4, 4)


def frames_from(
    descriptions: Sequence[Mapping[str, object]], intrinsics: NDArray[np.float64], poses: NDArray[np.float64]
) -> tuple[Frame, ...]:
    """Frames from what `describe_frames` and `frame_matrices` made of them, now or before a key was added.

    Raises:
        ValueError: not as many descriptions as matrices.
    """
    frames = []
    for values, k, pose in zip(descriptions, intrinsics, poses, strict=True):
        described = cast(FrameDescription, values)
        width, height = described["image_size"]
        depth_size = described.get("depth_size")
        frames.append(
            Frame(
                described["name"],
                described["image"],
                described["depth"],
                (int(width), int(height)),
                np.array(k, np.float64),
                np.array(pose, np.float64),
                described["image_digest"],
                described["depth_digest"],
                float(described["depth_scale"]),
                described.get("depth_none"),
                described.get("depth_coding", "image"),
                None if depth_size is None else (int(depth_size[0]), int(depth_size[1])),
            )
        )
    return tuple(frames)


def read_image(root: Path, frame: Frame, *, check: bool = True) -> NDArray[np.uint8]:
    """(H,W,3) RGB of a frame's image.

    Args:
        root: the dataset's folder.
        frame: the frame.
        check: whether the file must still have the content that the frame's digest names.

    Raises:
        FrameInvalid: the file is missing, corrupt, of another size, or has changed.
    """
    content = _content(root, frame.image, frame.image_digest if check else None)
    image = decode_image(content, frame.image)
    if image.shape[:2] != frame.image_size[::-1]:
        raise FrameInvalid(
            f"{frame.image}: got an image of {image.shape[1]} x {image.shape[0]} pixels, expected "
            f"{frame.image_size[0]} x {frame.image_size[1]}"
        )
    return image


def read_encoded(root: Path, frame: Frame) -> bytes:
    """The bytes of a frame's image, as they were ingested.

    Raises:
        FrameInvalid: they are missing, have changed, are no image, or one of another size.
    """
    content = _content(root, frame.image, frame.image_digest)
    try:
        size = Image.open(io.BytesIO(content)).size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameInvalid(f"{frame.image}: a colour image that cannot be read ({error})") from error
    if size != frame.image_size:
        raise FrameInvalid(f"{frame.image}: got an image of {size} pixels, expected {frame.image_size}")
    return content


def read_depth_m(root: Path, frame: Frame, *, check: bool = True) -> NDArray[np.float32]:
    """(h,w) depth of a frame in metres, 0 = no reading.

    Args:
        root: the dataset's folder.
        frame: the frame.
        check: whether the file must still have the content that the frame's digest names.

    Raises:
        FrameInvalid: the file is missing, corrupt, no 16-bit map or of another size, or has changed.
    """
    content = _content(root, frame.depth, frame.depth_digest if check else None)
    depth = decode_frame_depth(content, frame)
    metres = (depth / np.float32(frame.depth_scale)).astype(np.float32)
    if frame.depth_none is not None:
        metres[depth == frame.depth_none] = 0
    return metres


def range_name(path: str, offset: int, size: int) -> str:
    """What names `size` bytes from `offset` on of a file, as a frame's `image` or `depth`.

    Examples:
        >>> range_name("scans/a/a.sens", 64, 10)
        'scans/a/a.sens#64+10'
    """
    return f"{path}#{offset}+{size}"


def decode_frame_depth(content: bytes, frame: Frame) -> NDArray[np.uint16]:
    """(h,w) units of a frame's depth map, from its bytes, as the frame says that they are coded.

    Raises:
        FrameInvalid: they cannot be decoded, or are not of the frame's depth size.
    """
    if frame.depth_coding == "image":
        depth = decode_depth(content, frame.depth)
        if frame.depth_size is not None and depth.shape != frame.depth_size[::-1]:
            raise FrameInvalid(
                f"{frame.depth}: got a depth map of {depth.shape[1]} x {depth.shape[0]} pixels, expected "
                f"{frame.depth_size[0]} x {frame.depth_size[1]}"
            )
        return depth
    if frame.depth_size is None:
        raise FrameInvalid(f"{frame.depth}: a depth map kept as {frame.depth_coding} needs its size; none is given")
    return decode_depth_rows(content, frame.depth, frame.depth_size, packed=frame.depth_coding == "zlib")


def decode_depth_rows(content: bytes, name: str, size: tuple[int, int], *, packed: bool) -> NDArray[np.uint16]:
    """(h,w) units of a depth map kept as rows of little-endian u16.

    Args:
        content: its bytes.
        name: what an error calls it.
        size: width and height, pixels.
        packed: whether zlib packed them.

    Raises:
        FrameInvalid: they cannot be unpacked, or are not of that size.
    """
    expected = size[0] * size[1] * 2
    if packed:
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(content, expected + 1)
        except zlib.error as error:
            raise FrameInvalid(
                f"{name}: a depth map that zlib cannot unpack ({error}); restore the file or remove the frame"
            ) from error
    if len(content) != expected:
        got = f"more than {expected}" if packed and len(content) > expected else f"{len(content)}"
        raise FrameInvalid(
            f"{name}: got a depth map of {got} bytes, expected {expected} (u16, {size[0]} x {size[1]} pixels); "
            "restore the file or remove the frame"
        )
    return np.frombuffer(content, "<u2").reshape(size[::-1]).astype(np.uint16)


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """(H,W,3) RGB of an encoded image.

    Raises:
        FrameInvalid: it cannot be decoded; the message names `name`.
    """
    return np.asarray(_decoded(content, name, "a colour image").convert("RGB"))


def decode_depth(content: bytes, name: str) -> NDArray[np.uint16]:
    """(h,w) units of an encoded depth map.

    Raises:
        FrameInvalid: it cannot be decoded, or is no 16-bit map; the message names `name`.
    """
    picture = _decoded(content, name, "a depth map")
    if not picture.mode.startswith("I"):
        raise FrameInvalid(f"{name}: got an image of mode {picture.mode}, expected a 16-bit depth map")
    return np.asarray(picture).astype(np.uint16)


def _decoded(content: bytes, name: str, what: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameInvalid(f"{name}: {what} that cannot be decoded ({error}); replace or remove the frame") from error
    return picture


def read_bytes(root: Path, name: str) -> bytes:
    """The bytes that a frame's `image` or `depth` names: a whole file, or a range within one.

    Raises:
        FrameInvalid: the file is missing, or ends before the range does.
    """
    found = _RANGE.fullmatch(name)
    try:
        if found is None:
            return (root / name).read_bytes()
        with (root / found["path"]).open("rb") as stream:
            stream.seek(int(found["offset"]))
            content = stream.read(int(found["size"]))
    except OSError as error:
        raise FrameInvalid(f"{name}: cannot be read under {root.name} ({error.strerror})") from error
    if len(content) != int(found["size"]):
        raise FrameInvalid(
            f"{name}: the file ends in the middle of the frame (got {len(content)} bytes of {found['size']}); fetch it "
            "again"
        )
    return content


def _content(root: Path, name: str, digest: str | None) -> bytes:
    content = read_bytes(root, name)
    if digest is not None and digest_bytes(content) != digest:
        raise FrameInvalid(
            f"{name}: its content is not what was ingested (digest {digest_bytes(content)}, expected {digest}); "
            "restore the file, or ingest the dataset again"
        )
    return content

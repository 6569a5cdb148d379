"""Frames on disk: reading images and depth maps, and frames as JSON-like values beside arrays.

Knows image files; knows no dataset and no network.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors import FrameInvalid
from storage.keys import digest_bytes
from workers.scenes.scene import Frame


class FrameDescription(TypedDict):
    """A frame without its matrices, JSON-like."""

    name: str
    image: str
    depth: str
    image_size: list[int]
    image_digest: str
    depth_digest: str
    depth_scale: float


def describe_frames(frames: Sequence[Frame]) -> list[FrameDescription]:
    """Frames as JSON-like values; their matrices go into arrays, see `frame_matrices`."""
    return [
        FrameDescription(
            name=frame.name,
            image=frame.image,
            depth=frame.depth,
            image_size=list(frame.image_size),
            image_digest=frame.image_digest,
            depth_digest=frame.depth_digest,
            depth_scale=frame.depth_scale,
        )
        for frame in frames
    ]


def frame_matrices(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(F,3,3) intrinsics and (F,4,4) camera-to-world of frames, float64."""
    intrinsics = np.array([frame.intrinsics for frame in frames], np.float64).reshape(-1, 3, 3)
    return intrinsics, np.array([frame.camera_to_world for frame in frames], np.float64).reshape(-1, 4, 4)


def frames_from(
    descriptions: Sequence[Mapping[str, object]], intrinsics: NDArray[np.float64], poses: NDArray[np.float64]
) -> tuple[Frame, ...]:
    """Frames from what `describe_frames` and `frame_matrices` made of them.

    Raises:
        ValueError: not as many descriptions as matrices.
    """
    frames = []
    for values, k, pose in zip(descriptions, intrinsics, poses, strict=True):
        described = cast(FrameDescription, values)
        width, height = described["image_size"]
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


def read_depth_m(root: Path, frame: Frame, *, check: bool = True) -> NDArray[np.float32]:
    """(h,w) depth of a frame in metres, 0 = no reading.

    Args:
        root: the dataset's folder.
        frame: the frame.
        check: whether the file must still have the content that the frame's digest names.

    Raises:
        FrameInvalid: the file is missing, corrupt or no 16-bit map, or has changed.
    """
    content = _content(root, frame.depth, frame.depth_digest if check else None)
    return (decode_depth(content, frame.depth) / np.float32(frame.depth_scale)).astype(np.float32)


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


def _content(root: Path, name: str, digest: str | None) -> bytes:
    try:
        content = (root / name).read_bytes()
    except OSError as error:
        raise FrameInvalid(f"{name}: cannot be read under {root.name} ({error.strerror})") from error
    if digest is not None and digest_bytes(content) != digest:
        raise FrameInvalid(
            f"{name}: its content is not what was ingested (digest {digest_bytes(content)}, expected {digest}); "
            "restore the file, or ingest the dataset again"
        )
    return content

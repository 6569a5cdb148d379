"""What a scene and its frames are, and what a source of scenes does.

Pixel, point and pose conventions, for the whole of vlglab: metres; z up in the world; a camera looks along +z with x to
the right and y down; pixel (u, v) = (column, row) with the centre of the first pixel at (0, 0); depth is z in the
camera frame, not the distance along the ray; 0 = no reading. Knows no store, no SQL and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidInput
from storage.keys import digest
from storage.specs.parts import Split

DepthCoding = Literal["image", "zlib", "raw"]
"""How a depth map is kept: an image file (16-bit PNG), or rows of little-endian u16, packed by zlib or bare."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One posed RGB-D frame; the images stay where they are, named relative to the dataset's folder.

    `image` and `depth` name a file, or a range of bytes within one as `path#offset+size` (frames of a `.sens` stream);
    the digests are of those bytes.
    """

    name: str
    image: str
    depth: str
    image_size: tuple[int, int]
    """Width and height of the colour image, pixels; the intrinsics are for this size."""
    intrinsics: NDArray[np.float64]
    """(3,3) pinhole K of the colour image, pixels. Depth is registered to colour."""
    camera_to_world: NDArray[np.float64]
    """(4,4), metres; always a rigid motion."""
    image_digest: str
    depth_digest: str
    depth_scale: float = 1000.0
    """Units of the 16-bit depth map a metre."""
    depth_none: int | None = None
    """A unit besides 0 that means "no reading", such as 65535 in 2D-3D-S."""
    depth_coding: DepthCoding = "image"
    depth_size: tuple[int, int] | None = None
    """Width and height of the depth map, pixels; needed where its coding does not tell."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A point cloud, its frames, and what is known of its classes."""

    id: str
    split: Split
    points_m: NDArray[np.float32]
    """(N,3) world coordinates, metres."""
    colours: NDArray[np.uint8]
    """(N,3) RGB."""
    frames: tuple[Frame, ...]
    scene_labels: tuple[int, ...]
    """Labels of the classes present (scene-level labels), ascending."""
    labels: NDArray[np.int16] | None = None
    """(N,) ground truth, IGNORE where a point has none; None where the whole scene has none."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Why frames were left out -> how many, such as {"non-finite pose": 2}; the reasons are those of `cameras`."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What else was repaired, left out or taken otherwise -> how often."""


@dataclass(frozen=True, slots=True)
class SceneRef:
    """A scene that a source offers: enough to key it without reading it."""

    id: str
    split: Split
    fingerprint: str
    """Digest of every file that makes the scene (relative path, size, content), images included; of the fault where
    there is one."""
    fault: InvalidInput | None = field(default=None, compare=False)
    """Why the scene cannot be taken, where that shows before it is loaded; it names the scene."""

    @classmethod
    def offered(cls, scene_id: str, split: Split, fingerprint: Callable[[], str]) -> SceneRef:
        """A scene with its fingerprint; where that cannot be made the reference says why, so that a walk goes on."""
        try:
            return cls(scene_id, split, fingerprint())
        except InvalidInput as error:
            error.scene = error.scene or scene_id
            return cls(scene_id, split, digest(["fault", scene_id, error.code, error.message]), error)


class SceneSource(Protocol):
    """Where raw scenes come from."""

    @property
    def root(self) -> Path:
        """The folder that frames' paths are relative to."""

    def scenes(self) -> Sequence[SceneRef]:
        """The scenes on offer, sorted by id; one that cannot be taken is among them, with its fault.

        Raises:
            DatasetInvalid: the folder is missing or empty, or holds nothing of this kind.
        """

    def load(self, scene_id: str) -> Scene:
        """Reads one scene.

        Raises:
            DatasetInvalid: it cannot be read; the error names the scene and the file.
        """

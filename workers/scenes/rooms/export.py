"""A room on disk, in the layout in which ScanNet's frames are exported, with its points and their ground truth.

Equal options give equal bytes, in any process and however many there are. Knows one room's folder; knows no dataset.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from storage.labels import IGNORE
from storage.specs.parts import Split, SynthRoomsOptions
from workers.scenes.rooms.cameras import viewpoints
from workers.scenes.rooms.render import View, render_view
from workers.scenes.rooms.room import make_room
from workers.scenes.rooms.solids import F64
from workers.scenes.rooms.surface import sample_surface

JPEG_QUALITY = 92
DEPTH_UNITS_A_METRE = 1000


def export_room(folder: Path, options: SynthRoomsOptions, split: Split, index: int) -> str:
    """Draws a room of a dataset and writes it to `folder`/<room's id>, which must not exist; returns the id.

    Args:
        folder: the dataset's folder.
        options: of the dataset.
        split: which series the room belongs to.
        index: its place in it, from 0.
    """
    room = make_room(options.domain, "site", options.seed, split, index)
    target, wanted = folder / room.id, options.views
    for name in ("color", "depth", "pose", "intrinsic"):
        (target / name).mkdir(parents=True)
    cameras = viewpoints(room, wanted.count, room.rng("cameras"))
    for number, camera in enumerate(cameras):
        view = render_view(room, camera, wanted.width, wanted.height, room.rng("view", number))
        _write_images(target, f"{number:06d}", view)
        _write_matrix(target / "pose" / f"{number:06d}.txt", camera.camera_to_world)
    k = np.eye(4)
    k[:3, :3] = cameras[0].intrinsics(wanted.width, wanted.height)
    for name in ("intrinsic_color.txt", "intrinsic_depth.txt"):
        _write_matrix(target / "intrinsic" / name, k)
    cloud = sample_surface(room, options.points, room.rng("points"))
    np.savez(target / "points.npz", points=cloud.points_m, colours=cloud.colours, labels=cloud.labels)
    present = [room.label_set.classes[label] for label in np.unique(cloud.labels) if label != IGNORE]
    (target / "scene_labels.txt").write_text("".join(f"{name}\n" for name in present), encoding="utf-8")
    return room.id


def _write_images(target: Path, stem: str, view: View) -> None:
    Image.fromarray(view.rgb).save(target / "color" / f"{stem}.jpg", quality=JPEG_QUALITY)
    units = np.rint(np.minimum(view.depth_m * np.float32(DEPTH_UNITS_A_METRE), 65535)).astype(np.uint16)
    Image.fromarray(units).save(target / "depth" / f"{stem}.png", compress_level=1)


def _write_matrix(path: Path, matrix: F64) -> None:
    path.write_text("".join(" ".join(repr(float(v)) for v in row) + "\n" for row in matrix), encoding="utf-8")

"""Furnished rooms of many classes, written as datasets are released, read back to the same arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.labels import IGNORE, S3DIS13, SCANNET20
from storage.specs.parts import CloudsOptions, S3disOptions, ScanNetOptions, SynthRoomsOptions, Views
from tests.fixtures.ply_writer import write_ply
from tests.fixtures.s3dis_writer import DEPTH_UNITS_PER_M, RELEASE, object_text
from tests.fixtures.scannet_release import TABLE
from tests.fixtures.sens_writer import Sens
from workers.scenes.clouds import CloudsSource
from workers.scenes.frames import read_depth_m, read_image
from workers.scenes.rooms.export import export_room
from workers.scenes.s3dis import S3disSource
from workers.scenes.scannet import ScanNetSource
from workers.scenes.scene import Scene

NYU40 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
"""Of ScanNet's twenty classes, in order, as its benchmark lists them."""


@dataclass(frozen=True)
class Drawn:
    """A room as it was drawn."""

    points: np.ndarray
    colours: np.ndarray
    labels: np.ndarray
    images: list[np.ndarray]
    depths_mm: list[np.ndarray]
    poses: list[np.ndarray]
    k: np.ndarray


def drawn(folder: Path, options: SynthRoomsOptions) -> Drawn:
    room = folder / export_room(folder, options, "train", 0)
    names = [f"{number:06d}" for number in range(options.views.count)]
    with np.load(room / "points.npz") as arrays:
        return Drawn(
            arrays["points"].astype(np.float32),
            arrays["colours"],
            arrays["labels"].astype(np.int16),
            [np.asarray(Image.open(room / "color" / f"{name}.jpg")) for name in names],
            [np.asarray(Image.open(room / "depth" / f"{name}.png")).astype(np.uint16) for name in names],
            [np.loadtxt(room / "pose" / f"{name}.txt") for name in names],
            np.loadtxt(room / "intrinsic" / "intrinsic_color.txt")[:3, :3],
        )


@pytest.fixture(scope="module")
def home_room(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    views = Views(count=2, width=64, height=48)
    return drawn(
        tmp_path_factory.mktemp("homes"), SynthRoomsOptions(domain="homes", points=3000, views=views, train_rooms=1)
    )


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    views = Views(count=2, width=64, height=64)
    return drawn(tmp_path_factory.mktemp("offices"), SynthRoomsOptions(points=3000, views=views, train_rooms=1))


def assert_the_same_views(root: Path, scene: Scene, room: Drawn, depth_step_m: float) -> None:
    assert len(scene.frames) == len(room.images)
    for n, frame in enumerate(scene.frames):
        np.testing.assert_array_equal(read_image(root, frame), room.images[n])
        got, expected = read_depth_m(root, frame), room.depths_mm[n] / 1000
        np.testing.assert_allclose(got, expected, atol=depth_step_m / 2 + 1e-6)
        np.testing.assert_allclose(frame.camera_to_world, room.poses[n], atol=1e-6)
        np.testing.assert_allclose(frame.intrinsics, room.k, atol=1e-4)


def test_a_home_as_a_scannet_scene(tmp_path: Path, home_room: Drawn) -> None:
    root, name = tmp_path / "scannet", "scene0000_00"
    here = root / "scans" / name
    here.mkdir(parents=True)
    vertices = {n: home_room.points[:, i] for i, n in enumerate("xyz")}
    vertices |= {n: home_room.colours[:, i] for i, n in enumerate(("red", "green", "blue"))}
    write_ply(here / f"{name}_vh_clean_2.ply", vertices, triangles=1)
    nyu = np.where(home_room.labels == IGNORE, 0, np.array(NYU40)[home_room.labels]).astype(np.uint16)
    write_ply(here / f"{name}_vh_clean_2.labels.ply", vertices | {"label": nyu}, triangles=1)
    (here / f"{name}.txt").write_text("sceneType = Apartment\n")
    (root / "scannetv2-labels.combined.tsv").write_text(TABLE)
    for split, listed in (("train", f"{name}\n"), ("val", ""), ("test", "")):
        (root / f"scannetv2_{split}.txt").write_text(listed)
    stream = Sens(
        home_room.k, home_room.k, home_room.images, home_room.depths_mm, home_room.poses, colour_compression=1
    )
    stream.write(here / f"{name}.sens")

    scene = ScanNetSource(root, ScanNetOptions(frame_step=1), SCANNET20, tmp_path / "cache").load(name)

    np.testing.assert_array_equal(scene.points_m, home_room.points)
    np.testing.assert_array_equal(scene.colours, home_room.colours)
    assert scene.labels is not None
    np.testing.assert_array_equal(scene.labels, home_room.labels)
    present = np.unique(home_room.labels[home_room.labels != IGNORE])
    assert scene.scene_labels == tuple(present)
    assert len(present) >= 4
    assert_the_same_views(root, scene, home_room, depth_step_m=0)


def test_an_office_as_a_room_of_s3dis_with_pictures_of_2d_3d_s(tmp_path: Path, office: Drawn) -> None:
    root = tmp_path / "s3dis"
    folder = root / RELEASE / "Area_1" / "office_1" / "Annotations"
    folder.mkdir(parents=True)
    order = []
    for name in sorted(S3DIS13.classes):
        rows = np.flatnonzero(office.labels == S3DIS13.classes.index(name))
        if len(rows):
            (folder / f"{name}_1.txt").write_bytes(object_text(office.points[rows], office.colours[rows]))
            order.append(rows)
    rows = np.concatenate(order)
    whole = b"".join((folder / f.name).read_bytes() for f in sorted(folder.iterdir()))
    (folder.parent / "office_1.txt").write_bytes(whole)
    for n, (image, depth, pose) in enumerate(zip(office.images, office.depths_mm, office.poses, strict=True)):
        put_picture(root / "area_1" / "data", n, image, depth, pose, office.k)

    scene = S3disSource(root, S3disOptions(), S3DIS13, tmp_path / "cache").load("Area_1_office_1")

    np.testing.assert_allclose(scene.points_m, office.points[rows], atol=0.0005 + 1e-6)
    np.testing.assert_array_equal(scene.colours, office.colours[rows])
    assert scene.labels is not None
    np.testing.assert_array_equal(scene.labels, office.labels[rows])
    assert scene.scene_labels == tuple(np.unique(office.labels[rows]))
    assert len(scene.scene_labels) >= 4
    assert_the_same_views(root, scene, office, depth_step_m=1 / DEPTH_UNITS_PER_M)


def put_picture(
    data: Path, number: int, image: np.ndarray, depth_mm: np.ndarray, camera_to_world: np.ndarray, k: np.ndarray
) -> None:
    """Writes one picture of 2D-3D-S, its pose as world to camera, its depth in 1/512 m."""
    stem = f"camera_{number:032x}_office_1_frame_{number}_domain"
    for name in ("rgb", "depth", "pose"):
        (data / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(data / "rgb" / f"{stem}_rgb.png")
    units = np.rint(depth_mm / 1000 * DEPTH_UNITS_PER_M).astype(np.uint16)
    Image.fromarray(units).save(data / "depth" / f"{stem}_depth.png")
    pose = {
        "camera_k_matrix": k.tolist(),
        "camera_rt_matrix": np.linalg.inv(camera_to_world)[:3].tolist(),
        "room": "office_1_1",
    }
    (data / "pose" / f"{stem}_pose.json").write_text(json.dumps(pose))


@pytest.mark.parametrize("form", ["ply", "npy"])
def test_an_office_as_a_plain_cloud(tmp_path: Path, office: Drawn, form: str) -> None:
    root = tmp_path / "clouds"
    root.mkdir()
    if form == "ply":
        columns = {n: office.points[:, i] for i, n in enumerate("xyz")}
        columns |= {n: office.colours[:, i] for i, n in enumerate(("red", "green", "blue"))}
        write_ply(root / "office.ply", columns | {"label": office.labels})
    else:
        np.save(root / "office.npy", np.concatenate([office.points, office.colours, office.labels[:, None]], axis=1))
    scene = CloudsSource(root, CloudsOptions(), S3DIS13, tmp_path / "cache").load("office")
    np.testing.assert_array_equal(scene.points_m, office.points)
    np.testing.assert_array_equal(scene.colours, office.colours)
    assert scene.labels is not None
    np.testing.assert_array_equal(scene.labels, office.labels)

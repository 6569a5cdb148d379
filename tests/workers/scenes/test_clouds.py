"""Plain labelled point clouds: what is read, and every way in which a file can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import DatasetInvalid, UnknownName
from storage.labels import S3DIS13
from storage.specs.parts import CloudsOptions
from tests.conformance.scene_source import SceneSourceConformance
from tests.fixtures.ply_writer import write_ply
from workers.scenes.clouds import CloudsSource
from workers.scenes.scene import Scene, SceneSource

POINTS = np.array([[0, 0.5, 1], [-2, 3, 4], [5, 6, 7], [1, 1, 1]], np.float32)
COLOURS = np.array([[0, 1, 2], [255, 254, 253], [9, 9, 9], [7, 0, 7]], np.uint8)
LABELS = np.array([12, 0, -1, 3], np.int16)


def source(root: Path) -> CloudsSource:
    return CloudsSource(root, CloudsOptions(), S3DIS13, root.parent / "cache")


def put_ply(root: Path, name: str, labels: np.ndarray | None) -> None:
    columns = {n: POINTS[:, i] for i, n in enumerate("xyz")}
    columns |= {n: COLOURS[:, i] for i, n in enumerate(("red", "green", "blue"))}
    write_ply(root / f"{name}.ply", columns if labels is None else columns | {"label": labels})


def put_npz(root: Path, name: str, labels: np.ndarray | None) -> None:
    arrays = {"points": POINTS, "colours": COLOURS}
    np.savez(root / f"{name}.npz", **arrays if labels is None else arrays | {"labels": labels})


def put_npy(root: Path, name: str, labels: np.ndarray | None) -> None:
    columns = [POINTS, COLOURS] if labels is None else [POINTS, COLOURS, labels[:, None]]
    np.save(root / f"{name}.npy", np.concatenate(columns, axis=1))


WRITERS = (put_ply, put_npz, put_npy)
Writer = Callable[[Path, str, np.ndarray | None], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "clouds").mkdir()
    return tmp_path / "clouds"


class TestClouds(SceneSourceConformance):
    @pytest.fixture
    def open_again(self, root: Path) -> Callable[[], SceneSource]:
        for write, name in zip(WRITERS, ("b", "c", "a"), strict=True):
            write(root, name, LABELS)
        return lambda: source(root)

    def test_frames_can_be_read_and_are_where_they_are_said_to_be(
        self, open_again: Callable[[], SceneSource], loaded: list[Scene]
    ) -> None:
        assert all(scene.frames == () for scene in loaded)

    def test_points_lie_on_what_the_depth_maps_show(
        self, open_again: Callable[[], SceneSource], loaded: list[Scene]
    ) -> None:
        assert all(scene.skipped == {} for scene in loaded)


@pytest.mark.parametrize("write", WRITERS)
def test_a_cloud_comes_back(root: Path, write: Writer) -> None:
    write(root, "hall", LABELS)
    scene = source(root).load("hall")
    assert (scene.id, scene.split, scene.frames) == ("hall", "train", ())
    assert np.array_equal(scene.points_m, POINTS) and scene.points_m.dtype == np.float32
    assert np.array_equal(scene.colours, COLOURS) and scene.colours.dtype == np.uint8
    assert scene.labels is not None and np.array_equal(scene.labels, LABELS)
    assert scene.scene_labels == (0, 3, 12)


@pytest.mark.parametrize("write", WRITERS)
def test_the_largest_u16_means_no_label(root: Path, write: Writer) -> None:
    write(root, "hall", LABELS.astype(np.uint16))
    scene = source(root).load("hall")
    assert scene.labels is not None and scene.labels.tolist() == [12, 0, -1, 3]


@pytest.mark.parametrize("write", WRITERS)
def test_labels_outside_the_set_are_named(root: Path, write: Writer) -> None:
    write(root, "hall", np.array([12, 13, -2, 250], np.int16))
    with pytest.raises(DatasetInvalid, match=r"scene hall: hall.* has the labels -2, 13, 250, expected 0 to 12"):
        source(root).load("hall")


@pytest.mark.parametrize("write", WRITERS)
def test_only_held_out_scenes_may_lack_labels(root: Path, write: Writer) -> None:
    write(root, "hall", None)
    write(root, "room", LABELS)
    with pytest.raises(DatasetInvalid, match=r"scene hall: .*has no labels, and the scene trains"):
        source(root).load("hall")
    (root / "test.txt").write_text("hall\n\n")
    assert [(ref.id, ref.split) for ref in source(root).scenes()] == [("hall", "test"), ("room", "train")]
    hall = source(root).load("hall")
    assert hall.labels is None and hall.scene_labels == ()


def test_a_file_made_by_hand(root: Path) -> None:
    """A version 1.0 .npy of one row, (1,7) little-endian f4."""
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 7), }"
    (root / "hand.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00" + head + b" " * (117 - len(head)) + b"\n"
        b"\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x00\x00\x3f"  # 1 -2 0.5
        b"\x00\x00\x7f\x43\x00\x00\x00\x00\x00\x00\x00\x40"  # 255 0 2
        b"\x00\x00\x40\x40"  # 3
    )
    scene = source(root).load("hand")
    assert scene.points_m.tolist() == [[1, -2, 0.5]]
    assert scene.colours.tolist() == [[255, 0, 2]]
    assert scene.labels is not None and scene.labels.tolist() == [3]


def test_folders_that_hold_no_clouds(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DatasetInvalid, match="does not exist"):
        source(tmp_path / "gone").scenes()
    (root / "notes.md").write_text("nothing")
    with pytest.raises(DatasetInvalid, match="holds no point cloud"):
        source(root).scenes()
    put_npy(root, "a", LABELS)
    put_ply(root, "a", LABELS)
    with pytest.raises(DatasetInvalid, match=r"scene a: got both a\.npy and a\.ply"):
        source(root).scenes()
    (root / "a.npy").unlink()
    (root / "test.txt").write_text("aa\n")
    with pytest.raises(UnknownName, match=r"test\.txt.*'aa'"):
        source(root).scenes()


def test_another_content_is_another_fingerprint(root: Path) -> None:
    put_npy(root, "a", LABELS)
    before = source(root).scenes()
    put_npy(root, "a", LABELS[::-1])
    assert source(root).scenes() != before


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((4, 5)), r"shape \(4, 5\), expected \(N,7\)"),
        (np.zeros(7), r"shape \(7,\)"),
        (np.zeros((0, 7)), "N at least 1"),
        (np.full((1, 7), np.nan), "not finite"),
        (np.array([[0, 0, 0, 0.5, 0.1, 1, 1]]), r"colours from 0\.1 to 1, expected whole.*multiply"),
        (np.array([[0, 0, 0, 256, 0, 1, 1]]), "colours from 0 to 256"),
        (np.array([[0, 0, 0, 1, 1, 1, 1.5]]), r"has the labels 1\.5"),
        (np.array([[0, 0, 0, 1, 1, 1, np.nan]]), "has the labels nan"),
        (np.array([["0"] * 7]), "cannot be read.*<U1"),
        (np.array([[None] * 7]), "cannot be read.*pickle"),
    ],
)
def test_rows_that_are_refused(root: Path, rows: np.ndarray, words: str) -> None:
    np.save(root / "a.npy", rows, allow_pickle=True)
    with pytest.raises(DatasetInvalid, match=rf"scene a: a\.npy .*{words}"):
        source(root).load("a")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"points": POINTS}, "colours"),
        ({"points": POINTS[:3], "colours": COLOURS}, r"\(3, 3\), \(4, 3\)"),
        ({"points": POINTS, "colours": COLOURS, "labels": LABELS[:2]}, r"and \(2,\)"),
    ],
)
def test_archives_that_are_refused(root: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(root / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DatasetInvalid, match=rf"scene a: a\.npz .*{words}"):
        source(root).load("a")


@pytest.mark.parametrize("write", WRITERS)
def test_truncated_files_are_named(root: Path, write: Writer) -> None:
    write(root, "a", LABELS)
    (path,) = root.iterdir()
    path.write_bytes(path.read_bytes()[:-17])
    with pytest.raises(DatasetInvalid, match=rf"scene a: {path.name}"):
        source(root).load("a")


def test_an_archive_under_a_tables_name_and_the_other_way_round(root: Path) -> None:
    put_npz(root, "a", LABELS)
    (root / "a.npz").rename(root / "b.npy")
    put_npy(root, "a", LABELS)
    (root / "a.npy").rename(root / "c.npz")
    for name in ("b", "c"):
        with pytest.raises(DatasetInvalid, match=f"scene {name}: .*cannot be read"):
            source(root).load(name)

"""ScanNet's release, written small: what is read, which scenes are offered, and every way in which one can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import DatasetInvalid, FrameInvalid
from storage.labels import S3DIS13, SCANNET20
from storage.specs.parts import ScanNetOptions
from tests.conformance.scene_source import SceneSourceConformance
from tests.fixtures.ply_writer import write_ply
from tests.fixtures.scannet_release import ALIGNMENT, TABLE, Room, floor_points, write_release
from workers.scenes.frames import read_depth_m, read_image
from workers.scenes.scannet import ScanNetSource
from workers.scenes.scannet_layout import Release
from workers.scenes.scene import SceneSource

N = len(floor_points())
TRAIN, OTHER, VAL, TEST = "scene0000_00", "scene0001_00", "scene0011_00", "scene0707_00"


def ids(*values: int) -> np.ndarray:
    """(N,) label ids, the values given in turn."""
    return np.resize(np.array(values), N)


def source(root: Path, step: int = 1) -> ScanNetSource:
    return ScanNetSource(root, ScanNetOptions(frame_step=step), SCANNET20, root.parent / "cache")


def files(root: Path, scene: str = TRAIN, folder: str = "scans") -> Path:
    return root / folder / scene


@pytest.fixture
def rooms() -> dict[str, Room]:
    return {
        TRAIN: Room(TRAIN, ids(0, 1, 2, 5)),
        OTHER: Room(OTHER, ids(2, 40, 39), exported=True),
        VAL: Room(VAL, ids(2, 3), aligned=False),
        TEST: Room(TEST),
    }


@pytest.fixture
def root(tmp_path: Path, rooms: dict[str, Room]) -> Path:
    return write_release(tmp_path / "scannet", [rooms[TRAIN], rooms[OTHER]], [rooms[VAL]], [rooms[TEST]])


class TestScanNet(SceneSourceConformance):
    @pytest.fixture
    def open_again(self, root: Path) -> Callable[[], SceneSource]:
        return lambda: source(root)


def test_val_and_test_are_held_out_and_only_test_lacks_labels(root: Path) -> None:
    opened = source(root)
    assert [(ref.id, ref.split) for ref in opened.scenes()] == [
        (TRAIN, "train"), (OTHER, "train"), (VAL, "test"), (TEST, "test"),
    ]  # fmt: skip
    test = opened.load(TEST)
    assert test.labels is None and test.scene_labels == () and test.split == "test"
    assert opened.load(VAL).labels is not None


def test_points_and_poses_are_both_turned_upright(root: Path, rooms: dict[str, Room]) -> None:
    room, scene = rooms[TRAIN], source(root).load(TRAIN)
    turned = np.stack([-room.points[:, 1] + 0.5, room.points[:, 0] - 2, room.points[:, 2] + 0.25], axis=1)
    assert np.allclose(scene.points_m, turned, atol=1e-5)
    assert np.array_equal(scene.colours, room.colours)
    for frame, pose in zip(scene.frames, room.poses, strict=True):
        assert np.allclose(frame.camera_to_world, ALIGNMENT @ pose, atol=1e-5)


def test_without_an_alignment_nothing_is_turned(root: Path, rooms: dict[str, Room]) -> None:
    scene = source(root).load(VAL)
    assert np.array_equal(scene.points_m, rooms[VAL].points)
    assert np.allclose(scene.frames[1].camera_to_world, rooms[VAL].poses[1], atol=1e-6)
    (files(root) / f"{TRAIN}.txt").unlink()
    assert np.array_equal(source(root).load(TRAIN).points_m, rooms[TRAIN].points)


def test_nyu40_ids_become_labels(root: Path) -> None:
    """0 is not annotated; wall, floor and chair are 1, 2 and 5 of NYU40, and 0, 1 and 4 of ScanNet-20."""
    scene = source(root).load(TRAIN)
    assert scene.labels is not None and scene.labels[:5].tolist() == [-1, 0, 1, 4, -1]
    assert scene.scene_labels == (0, 1, 4)
    other = source(root).load(OTHER)
    assert other.labels is not None and other.labels[:3].tolist() == [1, -1, 19]


@pytest.mark.parametrize("scene", [TRAIN, OTHER])
def test_frames_come_from_the_stream_or_the_exported_folders(root: Path, rooms: dict[str, Room], scene: str) -> None:
    """TRAIN has a stream, OTHER the folders."""
    frames = source(root, step=2).load(scene).frames
    assert [frame.name for frame in frames] == ["0", "2"]
    assert (".sens#" in frames[0].image) == (scene == TRAIN)
    for frame in frames:
        n = int(frame.name)
        assert np.array_equal(read_image(root, frame), rooms[scene].images[n])
        assert np.allclose(read_depth_m(root, frame), rooms[scene].depths[n] / 1000, atol=1e-6)
    assert not list(root.glob(f"scans/{TRAIN}/color"))


def test_a_scene_without_pictures_has_no_frames(tmp_path: Path) -> None:
    root = write_release(tmp_path / "scannet", [Room(TRAIN, ids(1), frames=0)])
    opened = source(root)
    assert opened.load(opened.scenes()[0].id).frames == ()


@pytest.mark.parametrize("exported", [False, True])
def test_lost_poses_are_counted(tmp_path: Path, exported: bool) -> None:
    room = Room(TRAIN, ids(1), exported=exported)
    room.poses[1:] = [np.full((4, 4), -np.inf), np.zeros((4, 4))]
    scene = source(write_release(tmp_path / "scannet", [room])).load(TRAIN)
    assert scene.skipped == {"non-finite pose": 1, "pose that is no rigid motion": 1}
    assert [f.name for f in scene.frames] == ["0"]


@pytest.mark.parametrize("lists", ["tasks", "Benchmark", "Tasks/Benchmark"])
def test_a_part_of_the_release_can_be_used(tmp_path: Path, lists: str) -> None:
    root = write_release(tmp_path / "scannet", [Room(TRAIN, ids(1))], [Room(VAL, ids(2))], lists=lists)
    Room("scene0500_00", ids(1)).write(root / "scans")
    with (root / lists / "scannetv2_train.txt").open("a") as file:
        file.write(f"{OTHER}\nscene0002_00\n")
    (root / lists / "scannetv2_test.txt").unlink()
    opened = source(root)
    assert [ref.id for ref in opened.scenes()] == [TRAIN, VAL]
    release = Release(root)
    assert set(release.listed()) - set(release.found()) == {OTHER, "scene0002_00"}
    with pytest.raises(DatasetInvalid, match="no scene 'scene0500_00'"):
        opened.load("scene0500_00")


def test_ids_beyond_nyu40_go_through_the_table(tmp_path: Path) -> None:
    """Raw ids: 3 is the floor, 2 a chair, 1163 an object (no class of the twenty), 82 other furniture."""
    root = write_release(tmp_path / "scannet", [Room(TRAIN, ids(3, 2, 1163, 82, 0))])
    (ref,) = source(root).scenes()
    assert ref.fault is not None and ref.fault.message.startswith("scene scene0000_00: scannetv2-labels.combined.tsv")
    with pytest.raises(DatasetInvalid, match=r"labels\.ply has label ids beyond 40.*combined\.tsv"):
        source(root).load(TRAIN)
    table = root / "scannetv2-labels.combined.tsv"
    table.write_text(TABLE)
    scene = source(root).load(TRAIN)
    assert scene.labels is not None and scene.labels[:5].tolist() == [1, 4, -1, 19, -1]
    before = source(root).scenes()
    table.write_text(TABLE.replace("1163", "1164"))
    assert source(root).scenes() != before
    with pytest.raises(DatasetInvalid, match="got the label ids 1163, which neither NYU40"):
        source(root).load(TRAIN)
    for broken in ("id\tname\n1\twall\n", "id\tnyu40id\n1\twall\n", "id\tnyu40id\n1\n"):
        table.write_text(broken)
        with pytest.raises(DatasetInvalid, match="expected tab-separated rows"):
            source(root).load(TRAIN)


def test_the_table_does_not_enter_where_it_is_not_needed(root: Path) -> None:
    before = source(root).scenes()
    (root / "scannetv2-labels.combined.tsv").write_text(TABLE)
    assert source(root).scenes() == before


def test_every_file_of_a_scene_enters_its_fingerprint(root: Path) -> None:
    def fingerprints() -> dict[str, str]:
        return {ref.id: ref.fingerprint for ref in source(root).scenes()}

    before = fingerprints()
    for end in ("_vh_clean_2.ply", "_vh_clean_2.labels.ply", ".txt", ".sens"):
        path = files(root) / f"{TRAIN}{end}"
        content = path.read_bytes()
        at = content.rindex(b"Office") if end == ".txt" else len(content) - 40
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        after = fingerprints()
        assert after[TRAIN] != before[TRAIN], end
        assert {k: v for k, v in after.items() if k != TRAIN} == {k: v for k, v in before.items() if k != TRAIN}
        path.write_bytes(content)
    assert fingerprints() == before
    assert source(root, step=2).scenes()[0].fingerprint != before[TRAIN]
    (files(root, OTHER) / "pose" / "1.txt").write_text("1 " * 16)
    assert fingerprints()[OTHER] != before[OTHER]


def test_another_label_set_is_refused(root: Path) -> None:
    with pytest.raises(DatasetInvalid, match="s3dis13 for ScanNet.*label_set: scannet20"):
        ScanNetSource(root, ScanNetOptions(), S3DIS13, root)


def test_folders_that_hold_no_release(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DatasetInvalid, match="does not exist"):
        source(tmp_path / "gone").scenes()
    with pytest.raises(DatasetInvalid, match=r"no split list: expected scannetv2_train\.txt"):
        source(tmp_path).scenes()
    (tmp_path / "scannetv2_train.txt").write_text(f"{TRAIN}\n{OTHER}\n")
    with pytest.raises(DatasetInvalid, match="none of the 2 scenes"):
        source(tmp_path).scenes()
    (root / "scannetv2_val.txt").write_text(TRAIN)
    with pytest.raises(DatasetInvalid, match=rf"scannetv2_val.* and scannetv2_train.* both name the scene {TRAIN}"):
        source(root).scenes()
    (root / "scannetv2_val.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DatasetInvalid, match="cannot be read as text"):
        source(root).scenes()


@pytest.mark.parametrize("end", ["_vh_clean_2.ply", "_vh_clean_2.labels.ply"])
def test_a_missing_or_truncated_file_is_named(root: Path, end: str) -> None:
    path = files(root, VAL) / f"{VAL}{end}"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatasetInvalid, match=rf"scene {VAL}: scans/{VAL}/{VAL}{end}: it ends after \d+ of the {N}"):
        source(root).load(VAL)
    path.unlink()
    with pytest.raises(DatasetInvalid, match=rf"scene {VAL}: .*{end}.* cannot be read"):
        source(root).load(VAL)
    faults = {ref.id: ref.fault for ref in source(root).scenes()}
    assert end in str(faults.pop(VAL)) and set(faults.values()) == {None}


def test_labels_of_other_points_are_refused(root: Path) -> None:
    path = files(root) / f"{TRAIN}_vh_clean_2.labels.ply"
    write_ply(path, {"label": np.ones(N - 1, np.uint16)})
    with pytest.raises(DatasetInvalid, match=rf"labels\.ply labels {N - 1} points, expected the {N} of .*clean_2\.ply"):
        source(root).load(TRAIN)
    write_ply(path, {"objectId": np.ones(N, np.uint16)})
    with pytest.raises(DatasetInvalid, match="no property label, found objectId"):
        source(root).load(TRAIN)
    write_ply(path, {"label": -np.ones(N, np.int16)})
    with pytest.raises(DatasetInvalid, match="got the label id -1"):
        source(root).load(TRAIN)


@pytest.mark.parametrize(
    "value", ["1 0 0 0", "x " * 16, "nan " * 16, "2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 1 1"]
)
def test_an_alignment_must_be_a_turn_and_a_shift(root: Path, value: str) -> None:
    (files(root) / f"{TRAIN}.txt").write_text(f"numDepthFrames = 3\naxisAlignment = {value}\n")
    with pytest.raises(DatasetInvalid, match=rf"scene {TRAIN}: .*{TRAIN}\.txt: got axisAlignment = '.*16 numbers"):
        source(root).load(TRAIN)


def test_a_stream_that_ends_early_names_scene_file_and_frame(root: Path) -> None:
    path = files(root) / f"{TRAIN}.sens"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(
        FrameInvalid, match=rf"scene {TRAIN}: scans/{TRAIN}/{TRAIN}\.sens ends within frame 2 of 3"
    ) as got:
        source(root).load(TRAIN)
    faults = {ref.id: ref.fault for ref in source(root).scenes()}
    assert isinstance(faults[TRAIN], FrameInvalid) and str(faults.pop(TRAIN)) == got.value.message
    assert set(faults.values()) == {None}


def test_images_without_poses_are_refused(root: Path) -> None:
    (files(root, OTHER) / "pose" / "1.txt").unlink()
    with pytest.raises(FrameInvalid, match=rf"scene {OTHER}: frame 1 has no pose"):
        source(root).load(OTHER)
    for path in (files(root, OTHER) / "pose").iterdir():
        path.unlink()
    (files(root, OTHER) / "pose").rmdir()
    with pytest.raises(DatasetInvalid, match=rf"scene {OTHER}: .*has color, depth, intrinsic but not pose"):
        source(root).load(OTHER)

"""Folders of posed RGB-D frames: what is read, what is skipped, and every way in which one can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import DatasetInvalid, FrameInvalid, UnknownName
from storage.labels import SCANNET20
from storage.specs.parts import DepthFusion, RgbdOptions
from tests.conformance.scene_source import SceneSourceConformance
from tests.workers.scenes.captured import HEIGHT, WIDTH, K, floor_depth, pose_above, write_capture
from workers.scenes.captures import upright_turn
from workers.scenes.rgbd import RgbdSource
from workers.scenes.scene import Scene, SceneSource

LOUNGE = Path(__file__).resolve().parents[4] / "shared" / "data" / "lounge-rgbd"
needs_lounge = pytest.mark.skipif(not LOUNGE.is_dir(), reason="the capture ../shared/data/lounge-rgbd is not here")


def source(root: Path, options: RgbdOptions | None = None) -> RgbdSource:
    return RgbdSource(root, options or RgbdOptions(), SCANNET20, DepthFusion(), root.parent / "cache")


def load(root: Path, options: RgbdOptions | None = None) -> Scene:
    opened = source(root, options)
    return opened.load(opened.scenes()[0].id)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_capture(tmp_path / "room")


class TestOneScene(SceneSourceConformance):
    @pytest.fixture
    def open_again(self, capture: Path) -> Callable[[], SceneSource]:
        return lambda: source(capture)


class TestSeveralScenes(SceneSourceConformance):
    @pytest.fixture
    def open_again(self, tmp_path: Path) -> Callable[[], SceneSource]:
        for name, frames in (("scene0002", 2), ("scene0001", 3)):
            write_capture(tmp_path / "many" / name, frames)
        (tmp_path / "many" / "test.txt").write_text("scene0002\n")
        return lambda: source(tmp_path / "many")


def test_a_single_scene_is_named_after_its_folder_and_trains(capture: Path) -> None:
    (ref,) = source(capture).scenes()
    assert (ref.id, ref.split) == ("room", "train")
    scene = load(capture)
    assert scene.labels is None
    assert [SCANNET20.classes[label] for label in scene.scene_labels] == ["floor", "chair"]
    assert [frame.name for frame in scene.frames] == ["0", "1", "2", "3"]


def test_the_fused_floor_is_flat_and_coloured(capture: Path) -> None:
    scene = load(capture)
    assert len(scene.points_m) > 300
    assert np.abs(scene.points_m[:, 2]).max() < 0.01
    assert scene.colours.std() > 5


def test_listed_scenes_are_held_out_and_unlisted_ones_train(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_capture(tmp_path / "many" / name, 1)
    assert {r.id: r.split for r in source(tmp_path / "many").scenes()} == {"a": "train", "b": "train"}
    (tmp_path / "many" / "test.txt").write_text("\nb \n")
    assert {r.id: r.split for r in source(tmp_path / "many").scenes()} == {"a": "train", "b": "test"}
    (tmp_path / "many" / "test.txt").write_text("bb\n")
    with pytest.raises(UnknownName, match=r"test\.txt.*'bb'"):
        source(tmp_path / "many").scenes()


def test_frames_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = write_capture(tmp_path / "room", 12, stride=20)
    assert [frame.name for frame in load(root).frames] == [str(20 * n) for n in range(12)]
    assert [frame.name for frame in load(root, RgbdOptions(frame_step=5)).frames] == ["0", "100", "200"]
    assert source(root).scenes() != source(root, RgbdOptions(frame_step=5)).scenes()


def test_depth_of_another_size_than_colour_is_fused_with_its_own_intrinsics(tmp_path: Path) -> None:
    """ScanNet: colour 1296 x 968, depth 640 x 480; here colour is three times as large and a little narrower."""
    root = write_capture(tmp_path / "room")
    large = (WIDTH * 3 - 1, HEIGHT * 3)
    for path in (root / "color").iterdir():
        Image.open(path).resize(large).save(path)
    k = np.eye(4)
    k[:2, :3] = K[:2] * 3
    np.savetxt(root / "intrinsic" / "intrinsic_color.txt", k)
    scene = load(root)
    assert scene.frames[0].image_size == large
    assert np.allclose(scene.frames[0].intrinsics, k[:3, :3])
    assert np.abs(scene.points_m[:, 2]).max() < 0.01
    (root / "intrinsic" / "intrinsic_depth.txt").unlink()
    assert np.abs(load(root).points_m[:, 2]).max() < 0.05


def test_intrinsics_may_be_three_by_three(capture: Path) -> None:
    np.savetxt(capture / "intrinsic" / "intrinsic_color.txt", K)
    assert np.allclose(load(capture).frames[0].intrinsics, K)


def test_non_finite_poses_and_empty_depth_are_skipped_and_counted(capture: Path) -> None:
    (capture / "pose" / "1.txt").write_text("-inf " * 16)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(capture / "depth" / "2.png")
    scene = load(capture)
    assert scene.skipped == {"non-finite pose": 1, "empty depth": 1}
    assert [frame.name for frame in scene.frames] == ["0", "3"]


@pytest.mark.parametrize("stored", [False, True], ids=["fused", "stored points"])
def test_a_pose_that_is_no_rigid_motion_is_skipped_and_counted(capture: Path, stored: bool) -> None:
    if stored:
        np.savez(capture / "points.npz", points=np.zeros((1, 3)), colours=np.zeros((1, 3)))
    (capture / "pose" / "1.txt").write_text("0 " * 16)
    np.savetxt(capture / "pose" / "2.txt", np.diag([1.0, 1.0, 0.0, 1.0]))
    scene = load(capture)
    assert scene.skipped == {"pose that is no rigid motion": 2}
    assert [frame.name for frame in scene.frames] == ["0", "3"]


def test_a_capture_without_a_usable_frame_is_an_error(capture: Path) -> None:
    for path in (capture / "pose").iterdir():
        path.write_text("nan " * 16)
    with pytest.raises(DatasetInvalid, match="none of its 4 frames"):
        load(capture)


def test_stored_points_are_taken_instead_of_fused_ones(capture: Path) -> None:
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(capture / "points.npz", points=points, colours=np.zeros((4, 3), np.uint8), labels=np.array([1, -1, 4, 1]))
    scene = load(capture)
    assert np.array_equal(scene.points_m, points)
    assert scene.scene_labels == (1, 4)
    assert scene.labels is not None and scene.labels.tolist() == [1, -1, 4, 1]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"points": np.zeros((4, 3)), "colours": np.zeros((3, 3))}, "colours"),
        ({"points": np.full((1, 3), np.nan), "colours": np.zeros((1, 3))}, "finite"),
        ({"points": np.zeros((1, 3))}, "colours"),
        ({"points": np.zeros((1, 3)), "colours": np.zeros((1, 3)), "labels": np.array([20])}, "scannet20"),
    ],
)
def test_stored_points_that_do_not_fit_are_an_error(capture: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(capture / "points.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DatasetInvalid, match=words):
        load(capture)


def test_a_points_file_that_is_no_archive_is_an_error(capture: Path) -> None:
    (capture / "points.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DatasetInvalid, match=r"points\.npz"):
        load(capture)


# ---- bad input


def test_a_missing_an_empty_and_a_strange_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="does not exist"):
        source(tmp_path / "nowhere").scenes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetInvalid, match="holds no scene"):
        source(tmp_path / "empty").scenes()
    (tmp_path / "hollow" / "color").mkdir(parents=True)
    assert "holds no image" in str(source(tmp_path / "hollow").scenes()[0].fault)
    with pytest.raises(DatasetInvalid, match="holds no image"):
        source(tmp_path / "hollow").load("hollow")


@pytest.mark.parametrize(("lost", "words"), [("pose/2.txt", "no pose"), ("depth/2.png", "no depth map")])
def test_a_missing_file_of_a_frame_is_an_error_that_names_it(capture: Path, lost: str, words: str) -> None:
    (capture / lost).unlink()
    with pytest.raises(FrameInvalid, match=words) as caught:
        load(capture)
    assert lost in caught.value.message and caught.value.scene == "room"
    (ref,) = source(capture).scenes()
    assert isinstance(ref.fault, FrameInvalid) and ref.fault.message == caught.value.message


def test_a_bad_scene_is_offered_with_its_fault_among_the_sound_ones(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_capture(tmp_path / "many" / name, 2)
    sound = source(tmp_path / "many").scenes()
    lost = tmp_path / "many" / "b" / "pose" / "1.txt"
    content = lost.read_text()
    lost.unlink()
    a, b, c = source(tmp_path / "many").scenes()
    assert [a, c] == [sound[0], sound[2]] and a.fault is None and c.fault is None
    assert b.fault is not None and b.fault.scene == "b" and b.fingerprint != sound[1].fingerprint
    lost.write_text(content)
    assert list(source(tmp_path / "many").scenes()) == list(sound)


def test_a_capture_and_the_folder_around_it_do_not_share_a_fingerprint(tmp_path: Path) -> None:
    """Their frames are named relative to different folders."""
    root = write_capture(tmp_path / "caps" / "lounge", 2)
    (alone,), (among,) = source(root).scenes(), source(tmp_path / "caps").scenes()
    assert alone.id == among.id == "lounge"
    assert load(root).frames[0].image != load(tmp_path / "caps").frames[0].image
    assert alone.fingerprint != among.fingerprint


def garble_image(root: Path) -> None:
    path = root / "color" / "2.jpg"
    path.write_bytes(path.read_bytes()[:300])


def replace_image(root: Path) -> None:
    (root / "color" / "2.jpg").write_bytes(b"no picture at all")


def garble_depth(root: Path) -> None:
    path = root / "depth" / "2.png"
    path.write_bytes(path.read_bytes()[:100])


def smaller_depth(root: Path) -> None:
    Image.fromarray(np.ones((15, 20), np.uint16)).save(root / "depth" / "2.png")


def smaller_image(root: Path) -> None:
    Image.fromarray(np.ones((15, 20, 3), np.uint8)).save(root / "color" / "2.jpg")


def eight_bit_depth(root: Path) -> None:
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(root / "depth" / "2.png")


def words_for_a_pose(root: Path) -> None:
    (root / "pose" / "2.txt").write_text("left of the sofa")


def half_a_pose(root: Path) -> None:
    (root / "pose" / "2.txt").write_text("1 0 0 0 0 1 0 0")


@pytest.mark.parametrize(
    ("harm", "name", "words"),
    [
        (garble_image, "color/2.jpg", "cannot be decoded"),
        (replace_image, "color/2.jpg", "cannot be decoded"),
        (garble_depth, "depth/2.png", "cannot be decoded"),
        (smaller_depth, "depth/2.png", "20 x 15 pixels, expected 40 x 30"),
        (smaller_image, "color/2.jpg", "20 x 15 pixels, expected 40 x 30"),
        (eight_bit_depth, "depth/2.png", "16-bit"),
        (words_for_a_pose, "pose/2.txt", "no matrix"),
        (half_a_pose, "pose/2.txt", "8 numbers"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
@pytest.mark.parametrize("stored", [False, True], ids=["fused", "stored points"])
def test_a_frame_that_cannot_be_used_is_an_error_that_names_scene_and_file(
    capture: Path, harm: Callable[[Path], None], name: str, words: str, stored: bool
) -> None:
    if stored:
        np.savez(capture / "points.npz", points=np.zeros((1, 3)), colours=np.zeros((1, 3)))
    harm(capture)
    with pytest.raises(FrameInvalid, match=words) as caught:
        load(capture)
    assert name in caught.value.message and "scene room" in caught.value.message
    assert caught.value.scene == "room"


def test_depth_maps_of_another_shape_than_the_images_are_an_error(capture: Path) -> None:
    for path in (capture / "depth").iterdir():
        Image.fromarray(np.ones((HEIGHT, HEIGHT), np.uint16)).save(path)
    with pytest.raises(FrameInvalid, match="same view"):
        load(capture)


def test_an_unknown_class_is_an_error_that_names_the_file_and_the_nearest(tmp_path: Path) -> None:
    root = write_capture(tmp_path / "room", labels="floor\nchairs\n")
    with pytest.raises(UnknownName, match=r"scene_labels\.txt.*'chairs'.*chair"):
        load(root)


def test_a_training_scene_needs_its_labels(tmp_path: Path) -> None:
    root = write_capture(tmp_path / "room", labels="\n")
    with pytest.raises(DatasetInvalid, match="names no class"):
        load(root)
    (root / "scene_labels.txt").unlink()
    with pytest.raises(DatasetInvalid, match=r"scene_labels\.txt is missing"):
        load(root)


@pytest.mark.parametrize("text", ["", "a b c", "0 0 0 " * 3, "nan " * 16])
def test_intrinsics_that_are_none_are_an_error(capture: Path, text: str) -> None:
    (capture / "intrinsic" / "intrinsic_color.txt").write_text(text)
    with pytest.raises(DatasetInvalid, match=r"intrinsic_color\.txt"):
        load(capture)


def test_missing_intrinsics_are_an_error(capture: Path) -> None:
    (capture / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(DatasetInvalid, match=r"intrinsic_color\.txt is missing"):
        load(capture)


def test_poses_in_millimetres_are_an_error_that_says_so(capture: Path) -> None:
    pose = pose_above(0.0)
    pose[:3, 3] = 1e8
    np.savetxt(capture / "pose" / "2.txt", pose)
    with pytest.raises(DatasetInvalid, match="metres"):
        load(capture)


# ---- which way is up


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_capture_with_another_axis_up_is_turned_by_quarter_turns(axis: int, sign: float) -> None:
    up = np.zeros(3)
    up[axis] = sign
    right = np.roll(up, 1)
    ahead = np.cross(up, right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = np.cross(-up, ahead), -up, ahead
    turn = upright_turn(pose[None])
    assert np.allclose(turn[:3, :3] @ up, [0, 0, 1])
    assert np.allclose(turn[:3, :3] @ turn[:3, :3].T, np.eye(3)) and np.isclose(np.linalg.det(turn), 1)
    assert set(np.unique(np.abs(turn))) <= {0.0, 1.0}


def test_a_capture_with_y_up_comes_out_with_z_up(tmp_path: Path) -> None:
    root, plain = write_capture(tmp_path / "room"), load(write_capture(tmp_path / "plain" / "room"))
    to_y_up = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    for path in (root / "pose").iterdir():
        np.savetxt(path, to_y_up @ np.loadtxt(path))
    scene = load(root)
    assert np.abs(scene.points_m[:, 2]).max() < 0.01
    assert np.isclose(len(scene.points_m), len(plain.points_m), rtol=0.05)
    heights = [frame.camera_to_world[2, 3] for frame in scene.frames]
    assert np.allclose(heights, 1.5)


def test_the_synthetic_floor_is_what_the_oracle_says() -> None:
    depth, pose = floor_depth(pose_above(0.0)), pose_above(0.0)
    ray = np.array([(10 - K[0, 2]) / K[0, 0], (20 - K[1, 2]) / K[1, 1], 1.0]) * depth[20, 10]
    assert abs((pose[:3, :3] @ ray + pose[:3, 3])[2]) < 1e-9


@needs_lounge
def test_the_lounge_is_read_whole(tmp_path: Path) -> None:
    opened = RgbdSource(LOUNGE, RgbdOptions(), SCANNET20, DepthFusion(), tmp_path)
    (ref,) = opened.scenes()
    scene = opened.load(ref.id)
    assert ref.id == "lounge-rgbd" and ref.split == "train"
    assert len(scene.frames) == 63 and not scene.skipped
    assert 500_000 < len(scene.points_m) < 600_000
    assert len(scene.scene_labels) == 11 and scene.labels is None
    # z is up: the floor is the most crowded height, and it is below the cameras
    counts, edges = np.histogram(scene.points_m[:, 2], 40)
    cameras = np.array([frame.camera_to_world[:3, 3] for frame in scene.frames])
    assert 1.0 < np.median(cameras[:, 2]) - edges[counts.argmax()] < 2.2

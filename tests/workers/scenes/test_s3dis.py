"""S3DIS with 2D-3D-S: what is written reads back, what the release gets wrong is borne, all else is an error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import DatasetInvalid, FrameInvalid
from storage.labels import S3DIS13, SCANNET20
from storage.specs.parts import S3disOptions
from tests.conformance.scene_source import SceneSourceConformance
from tests.fixtures.s3dis_writer import BOX, RELEASE, object_text, write_picture, write_room
from workers.scenes.annotations import CUT, LEFT_OUT, REPAIRED, label_of, parse_points
from workers.scenes.frames import read_depth_m
from workers.scenes.s3dis import S3disSource
from workers.scenes.scene import Scene, SceneSource

HERE, THERE = (-12.5, 30.25, 0.0), (3.0, -7.0, 1.0)


def source(root: Path, **options: int) -> S3disSource:
    return S3disSource(root, S3disOptions(**options), S3DIS13, root.parent / "cache")


def load(root: Path, scene: str = "Area_1_office_1", **options: int) -> Scene:
    return source(root, **options).load(scene)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two rooms: three pictures of Area_1/office_1, one in each half of Area_5/hallway_6."""
    root = tmp_path / "s3dis"
    write_room(root / RELEASE, 1, "office_1", origin=HERE, seed=1)
    write_room(root / RELEASE, 5, "hallway_6", origin=THERE, seed=2)
    for number in range(3):
        write_picture(root, "area_1", "office_1", number, origin=HERE, yaw=0.5 + 2 * number)
    write_picture(root, "area_5a", "hallway_6", 7, origin=THERE)
    write_picture(root, "area_5b", "hallway_6", 3, origin=THERE, yaw=1.0)
    return root


def annotations(root: Path, room: str = "Area_1/office_1") -> Path:
    return root / RELEASE / room / "Annotations"


def pose_of(root: Path, number: int = 1) -> Path:
    (path,) = (root / "area_1" / "data" / "pose").glob(f"*_frame_{number}_*")
    return path


class TestConformance(SceneSourceConformance):
    @pytest.fixture
    def open_again(self, root: Path) -> Callable[[], SceneSource]:
        return lambda: source(root)


# ---- what is written reads back


def test_points_colours_and_labels_read_back_in_the_order_of_file_names(tmp_path: Path) -> None:
    written = write_room(tmp_path / "s3dis" / RELEASE, 1, "office_1", origin=HERE)
    scene = load(tmp_path / "s3dis")
    names = ["ceiling_1", "floor_1", "wall_1", "wall_2", "wall_3", "wall_4"]
    assert sorted(written.objects) == names
    assert np.array_equal(
        scene.points_m, np.concatenate([written.objects[name][0] for name in names]).astype(np.float32)
    )
    assert np.array_equal(scene.colours, np.concatenate([written.objects[name][1] for name in names]))
    expected = np.concatenate(
        [np.full(len(written.objects[name][0]), {"c": 0, "f": 1, "w": 2}[name[0]]) for name in names]
    )
    assert scene.labels is not None and np.array_equal(scene.labels, expected)
    assert scene.scene_labels == (0, 1, 2)


def test_a_known_point_falls_on_the_pixel_that_the_written_camera_gives(tmp_path: Path) -> None:
    root = tmp_path / "s3dis"
    written = write_room(root / RELEASE, 1, "office_1", origin=HERE)
    picture = write_picture(root, "area_1", "office_1", 4, origin=HERE, yaw=0.3)
    (frame,) = load(root).frames
    assert frame.image_size == (108, 108) and np.array_equal(frame.intrinsics, picture.intrinsics)
    depth = read_depth_m(root, frame)
    for point in written.objects["wall_2"][0][::17]:  # the wall ahead
        x, y, z = np.linalg.inv(frame.camera_to_world)[:3] @ [*point, 1.0]
        a, b, w = picture.intrinsics @ picture.world_to_camera @ [*point, 1.0]
        u, v = frame.intrinsics[0, 0] * x / z + 54, frame.intrinsics[1, 1] * y / z + 54
        assert np.allclose([u, v, z], [a / w, b / w, w])
        if 6 < u < 101 and 0 < v < 107:
            assert abs(depth[round(v), round(u)] - z) < 0.06
    assert np.allclose(frame.camera_to_world[:3, 3], np.array(HERE) + np.array(BOX) / 2)


def test_65535_is_no_reading_and_a_unit_is_a_512th_of_a_metre(root: Path) -> None:
    frame = load(root).frames[0]
    units = np.asarray(Image.open(root / frame.depth)).astype(np.int64)
    depth = read_depth_m(root, frame)
    assert (units == 65535).sum() == 25 and (depth[units == 65535] == 0).all()
    assert np.allclose(depth[units != 65535] * 512, units[units != 65535])


def test_bytes_made_by_hand(tmp_path: Path) -> None:
    """One room of three objects, one picture; every number here is written out."""
    room = tmp_path / "s3dis" / "Area_2" / "WC_1" / "Annotations"
    room.mkdir(parents=True)
    (room / "chair_2.txt").write_bytes(b"1.5 -2.25 0.5 10 20 30\r\n-0.001 0 2 255 0 1\r\n")
    (room / "board_1.txt").write_bytes(b"3 4 5 103.000000 98.0 0")
    (room / "chair_10.txt").write_bytes(b"  7.125\t8 9 1  2 3 \n\n")
    data = tmp_path / "s3dis" / "area_2" / "data"
    for name in ("rgb", "depth", "pose"):
        (data / name).mkdir(parents=True)
    stem = "camera_0a1b_WC_1_frame_12_domain"
    (data / "pose" / f"{stem}_pose.json").write_bytes(
        b'{"camera_k_matrix": [[863.9, 0.0, 540.0], [0.0, 863.9, 540.0], [0.0, 0.0, 1.0]], "room": "WC_1_2", '
        b'"camera_rt_matrix": [[0.0, -1.0, 0.0, 0.5], [0.0, 0.0, -1.0, 1.5], [1.0, 0.0, 0.0, -2.0]]}'
    )
    Image.new("RGB", (2, 2)).save(data / "rgb" / f"{stem}_rgb.png")
    Image.fromarray(np.array([[512, 65535], [0, 256]], np.uint16)).save(data / "depth" / f"{stem}_depth.png")
    scene = load(tmp_path / "s3dis", "Area_2_WC_1")
    assert scene.points_m.tolist() == np.float32([[3, 4, 5], [7.125, 8, 9], [1.5, -2.25, 0.5], [-0.001, 0, 2]]).tolist()
    assert scene.colours.tolist() == [[103, 98, 0], [1, 2, 3], [10, 20, 30], [255, 0, 1]]
    assert scene.labels is not None and scene.labels.tolist() == [11, 8, 8, 8]
    (frame,) = scene.frames
    assert frame.camera_to_world.tolist() == [[0, 0, 1, 2], [-1, 0, 0, 0.5], [0, -1, 0, 1.5], [0, 0, 0, 1]]
    assert frame.intrinsics[0].tolist() == [863.9, 0, 540] and not scene.skipped
    assert read_depth_m(tmp_path / "s3dis", frame).tolist() == [[1, 0], [0, 0.5]]


# ---- splits and matching


def test_area_5_is_held_out_unless_another_is_named(root: Path) -> None:
    assert {ref.id: ref.split for ref in source(root).scenes()} == {
        "Area_1_office_1": "train",
        "Area_5_hallway_6": "test",
    }
    assert {ref.id: ref.split for ref in source(root, test_area=1).scenes()} == {
        "Area_1_office_1": "test",
        "Area_5_hallway_6": "train",
    }
    assert load(root, "Area_5_hallway_6").split == "test"


def test_both_halves_of_area_5_give_pictures_of_one_room(root: Path) -> None:
    frames = load(root, "Area_5_hallway_6").frames
    assert [frame.name.split("/")[0] for frame in frames] == ["area_5a", "area_5b"]


def test_every_so_many_pictures_are_taken_in_the_order_of_camera_and_number(root: Path) -> None:
    write_picture(root, "area_1", "office_1", 10, origin=HERE)
    assert [f.name.rsplit("_", 1)[1] for f in load(root).frames] == ["0", "1", "2", "10"]
    assert [f.name.rsplit("_", 1)[1] for f in load(root, frame_step=2).frames] == ["0", "2"]
    assert source(root).scenes()[0] != source(root, frame_step=2).scenes()[0]


def test_a_room_of_another_area_or_of_a_longer_name_lends_no_pictures(root: Path) -> None:
    write_picture(root, "area_2", "office_1", 20, origin=HERE)
    write_picture(root, "area_1", "office_11", 21, origin=HERE)
    assert len(load(root).frames) == 3
    assert len(source(root).scenes()) == 2  # rooms that only 2D-3D-S has are no scenes


def test_a_room_without_pictures_is_a_scene_without_frames(root: Path) -> None:
    write_room(root / RELEASE, 3, "lounge_1", origin=HERE)
    scene = load(root, "Area_3_lounge_1")
    assert scene.frames == () and scene.skipped == scene.notes == {} and len(scene.points_m) > 1000


@pytest.mark.parametrize("room", ["office_1", "office_1_1", "office_1_area_1", None, ...])
def test_a_pose_may_write_its_room_with_the_area_or_not_at_all(root: Path, room: object) -> None:
    if room is ...:
        path = pose_of(root)
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "room"}))
    else:
        rewritten(room=room)(pose_of(root))
    scene = load(root)
    assert len(scene.frames) == 3 and not scene.skipped


@pytest.mark.parametrize("room", ["office_2", "office_1_2", "office_11", 7, ["office_1"]])
def test_a_pose_of_another_room_is_left_out_and_counted(root: Path, room: object) -> None:
    rewritten(room=room)(pose_of(root))
    scene = load(root)
    assert len(scene.frames) == 2 and scene.skipped == {"pose of another room": 1}


def test_a_non_finite_pose_is_left_out_and_counted(root: Path) -> None:
    write_picture(root, "area_1", "office_1", 1, origin=HERE, camera_rt_matrix=[[float("nan")] * 4] * 3)
    scene = load(root)
    assert len(scene.frames) == 2 and scene.skipped == {"non-finite pose": 1}


@pytest.mark.parametrize("turn", [np.zeros((3, 3)), np.diag([2, 1, 1]), np.diag([1, 1, -1])])
def test_a_pose_that_is_no_rigid_motion_is_left_out_and_counted(root: Path, turn: np.ndarray) -> None:
    write_picture(root, "area_1", "office_1", 1, origin=HERE, camera_rt_matrix=np.pad(turn, ((0, 0), (0, 1))).tolist())
    scene = load(root)
    assert len(scene.frames) == 2 and scene.skipped == {"pose that is no rigid motion": 1}


def test_the_areas_may_lie_in_the_folder_itself(root: Path) -> None:
    before = load(root)
    for area in (root / RELEASE).iterdir():
        area.rename(root / area.name)
    (root / RELEASE).rmdir()
    after = load(root)
    assert np.array_equal(before.points_m, after.points_m) and len(after.frames) == 3


def test_the_aligned_version_is_read_alone_and_refused_beside_pictures(root: Path, tmp_path: Path) -> None:
    aligned = f"{RELEASE}_Aligned_Version"
    write_room(tmp_path / "alone" / aligned, 1, "office_1", origin=(0, 0, 0))
    assert load(tmp_path / "alone").frames == ()
    (root / RELEASE).rename(root / aligned)
    with pytest.raises(DatasetInvalid, match="turned to their own axes"):
        source(root).scenes()


def test_a_fingerprint_changes_with_every_kind_of_file_and_with_no_other(root: Path) -> None:
    def fingerprint() -> str:
        return source(root).scenes()[0].fingerprint

    seen = [fingerprint()]
    (root / RELEASE / "Area_1" / "office_1" / "office_1.txt").write_text("not read")
    (annotations(root) / ".DS_Store").write_text("no object")
    (annotations(root) / "._wall_1.txt").write_text("no object either")
    assert fingerprint() == seen[0] and load(root).scene_labels == (0, 1, 2)
    for path in (annotations(root) / "wall_1.txt", pose_of(root), *(root / "area_1").rglob("*_frame_2_*.png")):
        path.write_bytes(path.read_bytes() + b"\n")
        seen.append(fingerprint())
    (annotations(root) / "wall_4.txt").rename(annotations(root) / "door_4.txt")
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen) == 6


# ---- what the release gets wrong


def test_the_known_malformed_line_is_repaired_and_counted(root: Path) -> None:
    path = annotations(root, "Area_5/hallway_6") / "ceiling_1.txt"
    clean = load(root, "Area_5_hallway_6")
    lines = path.read_bytes().splitlines(keepends=True)
    fields = lines[600].split()
    lines[600] = b" ".join(fields[:3]) + b" " + fields[3] + b"\x10" + fields[4] + b" " + fields[5] + b"\n"
    path.write_bytes(b"".join(lines))
    scene = load(root, "Area_5_hallway_6")
    assert scene.skipped == {} and scene.notes == {f"{REPAIRED} (ceiling_1.txt, line 601)": 1}
    assert np.array_equal(scene.points_m, clean.points_m) and np.array_equal(scene.colours, clean.colours)


@pytest.mark.parametrize(
    "line",
    [b"19.302 -9.1\x100 1.785 146 137 106", b"1 2 3 4 5", b"1 2 3 4 5 256", b"nan 2 3 4 5 6", b"1 2 3 4 5 6 7", b"a"],
)
def test_a_line_that_no_reading_makes_whole_is_left_out_and_counted(root: Path, line: bytes) -> None:
    path = annotations(root) / "floor_1.txt"
    clean = load(root)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:700], line + b"\n", *lines[700:]]))
    scene = load(root)
    assert scene.skipped == {} and scene.notes == {f"{LEFT_OUT} (floor_1.txt, line 701)": 1}
    assert np.array_equal(scene.points_m, clean.points_m)


def test_a_long_file_with_a_bad_line_in_each_block_reads_all_others() -> None:
    rng = np.random.default_rng(0)
    points, colours = rng.uniform(-9, 9, (9_000, 3)).round(3), rng.integers(0, 256, (9_000, 3))
    lines = object_text(points, colours).splitlines(keepends=True)
    for at in (0, 4_095, 4_096, 8_998):
        lines[at] = b"x" + lines[at]
    notes: Counter[str] = Counter()
    got, got_colours = parse_points(b"".join(lines), notes, "wall_1.txt")
    kept = np.setdiff1d(np.arange(9_000), [0, 4_095, 4_096, 8_998])
    assert notes == {f"{LEFT_OUT} (wall_1.txt, line {at})": 1 for at in (1, 4_096, 4_097, 8_999)}
    assert np.array_equal(got, points[kept].astype(np.float32)) and np.array_equal(got_colours, colours[kept])


def test_a_file_with_many_bad_lines_is_an_error_that_shows_one(root: Path) -> None:
    path = annotations(root) / "floor_1.txt"
    path.write_bytes(path.read_bytes().replace(b" ", b",", 15))
    with pytest.raises(DatasetInvalid, match=r"_1: Area_1/office_1/Annotations/floor_1\.txt: line 3 is"):
        load(root)


def test_a_file_cut_within_its_last_line_is_an_error(root: Path) -> None:
    path = annotations(root) / "floor_1.txt"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DatasetInvalid, match="ends within line 1200"):
        load(root)


@pytest.mark.parametrize("lost", [1, 2], ids=["the last line's end", "and a digit of its blue"])
def test_a_file_cut_at_its_last_number_is_told_by_what_the_others_end_with(root: Path, lost: int) -> None:
    path = annotations(root) / "floor_1.txt"
    path.write_bytes(path.read_bytes()[:-1].rstrip(b"0123456789") + b"14\n")
    assert load(root).notes == {}
    path.write_bytes(path.read_bytes()[:-lost])
    assert load(root).notes == {f"{CUT} (floor_1.txt)": 1}
    for other in annotations(root).iterdir():
        other.write_bytes(other.read_bytes().rstrip(b"\n"))
    assert load(root).notes == {}, "a copy of which no file ends with a line's end"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \r\n", "is empty"),
        (b"\x1c\n", "not one line"),
        (b"one\n", "not one line"),
        (b"\x89PNG\x00\n", "not one line"),
    ],
)
def test_a_file_without_a_point_is_an_error(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_points(content, Counter(), "a.txt")


def test_stairs_and_unknown_classes_are_clutter_and_the_unknown_ones_are_told(root: Path) -> None:
    for name in ("stairs_1", "lamp_3"):
        (annotations(root) / f"{name}.txt").write_text("0 0 0 1 2 3\n")
    scene = load(root)
    assert scene.labels is not None and (scene.labels == S3DIS13.index("clutter")).sum() == 2
    assert scene.notes == {"object of the unknown class 'lamp', taken for clutter": 1}


def test_labels_of_file_names() -> None:
    for label, name in enumerate(S3DIS13.classes):
        assert label_of(f"{name}_17.txt") == (label, None)
    assert label_of("clutter.txt") == (12, None)


# ---- bad input


def test_a_label_set_that_is_not_its_own_is_refused(root: Path) -> None:
    with pytest.raises(DatasetInvalid, match=r"scannet20.*s3dis13"):
        S3disSource(root, S3disOptions(), SCANNET20, root.parent)


def test_a_missing_an_empty_and_a_strange_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="does not exist"):
        source(tmp_path / "nowhere").scenes()
    (tmp_path / "empty" / "Area_7" / "office_1").mkdir(parents=True)
    with pytest.raises(DatasetInvalid, match="no room of S3DIS"):
        source(tmp_path / "empty").scenes()
    (tmp_path / "odd" / "Area_1" / "office 1 (copy)").mkdir(parents=True)
    with pytest.raises(DatasetInvalid, match=r"office 1 \(copy\)"):
        source(tmp_path / "odd").scenes()


def test_a_room_without_annotations_is_listed_and_its_loading_names_it(root: Path) -> None:
    (root / RELEASE / "Area_4" / "office_9").mkdir(parents=True)
    assert [ref.id for ref in source(root).scenes()][1] == "Area_4_office_9"
    with pytest.raises(DatasetInvalid, match="Area_4/office_9/Annotations cannot be read") as caught:
        load(root, "Area_4_office_9")
    assert caught.value.scene == "Area_4_office_9"
    (root / RELEASE / "Area_4" / "office_9" / "Annotations").mkdir()
    with pytest.raises(DatasetInvalid, match="holds no file"):
        load(root, "Area_4_office_9")


def test_an_area_of_pictures_that_is_none_is_an_error(root: Path) -> None:
    (root / "area_6" / "data").mkdir(parents=True)
    with pytest.raises(DatasetInvalid, match="area_6/data/rgb"):
        source(root).scenes()
    (root / "area_6" / "data" / "rgb").mkdir()
    source(root).scenes()
    (root / "area_6" / "data" / "rgb" / "holiday.png").write_bytes(b"")
    with pytest.raises(DatasetInvalid, match=r"holiday\.png"):
        source(root).scenes()


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def eight_bit(path: Path) -> None:
    Image.fromarray(np.ones((108, 108), np.uint8)).save(path)


def narrow(path: Path) -> None:
    Image.fromarray(np.ones((108, 60), np.uint16)).save(path)


def rewritten(**values: object) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return harm


@pytest.mark.parametrize(
    ("what", "harm", "words"),
    [
        ("pose", lose, "cannot be read"),
        ("depth", lose, "cannot be read"),
        ("pose", cut, "no JSON"),
        ("rgb", cut, "cannot be read"),
        ("depth", cut, "cannot be read"),
        ("depth", eight_bit, "16-bit"),
        ("depth", narrow, "60 x 108 for an image of 108 x 108"),
        ("pose", lambda path: path.write_text("[1]"), "of type list"),
        ("pose", rewritten(camera_rt_matrix=[[1, 0, 0, 0]]), r"\(1, 4\), expected \(3, 4\)"),
        ("pose", rewritten(camera_rt_matrix=[[1, 0, 0, 0], [0, 1]]), "no matrix"),
        ("pose", rewritten(camera_k_matrix=[[0, 0, 1], [0, 9, 1], [0, 0, 1]]), "focal"),
        ("pose", lambda path: path.write_text('{"camera_k_matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}'), "has no cam"),
    ],
)
def test_a_frame_that_cannot_be_used_is_an_error_that_names_scene_and_file(
    root: Path, what: str, harm: Callable[[Path], None], words: str
) -> None:
    (path,) = (root / "area_1" / "data" / what).glob("*_frame_1_*")
    harm(path)
    assert len(source(root).scenes()) == 2  # the other room can still be read
    with pytest.raises(FrameInvalid, match=words) as caught:
        load(root)
    assert path.name in caught.value.message and caught.value.scene == "Area_1_office_1"
    assert caught.value.message.startswith("scene Area_1_office_1: area_1/data/")
    assert load(root, "Area_5_hallway_6").frames

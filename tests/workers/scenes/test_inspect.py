"""Looking a dataset over: counts as they are, misaligned poses found, a bad scene reported and the walk going on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import DatasetInvalid
from storage.labels import S3DIS13, SCANNET20, LabelSet
from storage.specs.parts import DepthFusion, Lifting, RgbdOptions, S3disOptions, SynthRoomsOptions, Views
from tests.fixtures.s3dis_writer import RELEASE, write_picture, write_room
from tests.oracles.lifting_oracle import look
from tests.workers.scenes.captured import HEIGHT, WIDTH, floor_depth, pose_above, write_capture
from workers.scenes.frames import read_depth_m
from workers.scenes.inspect import SceneReport, inspect_scene, without_pictures
from workers.scenes.rgbd import RgbdSource
from workers.scenes.s3dis import S3disSource
from workers.scenes.scene import SceneSource
from workers.scenes.synthrooms import SynthRoomsSource, make_dataset

SMALL = Lifting(width=WIDTH, height=HEIGHT, border_px=1)
HERE = (-12.5, 30.25, 0.0)


def walk(source: SceneSource, lifting: Lifting, label_set: LabelSet, most_frames: int = 32) -> list[SceneReport]:
    """Every scene's report, as the stage `inspect` asks for them."""
    return [inspect_scene(source, ref, lifting, label_set, most_frames=most_frames) for ref in source.scenes()]


def inspect(root: Path, **keywords: int) -> list[SceneReport]:
    source = RgbdSource(root, RgbdOptions(), SCANNET20, DepthFusion(), root.parent / "cache")
    return walk(source, SMALL, SCANNET20, **keywords)


def inspect_s3dis(root: Path) -> dict[str, SceneReport]:
    source = S3disSource(root, S3disOptions(), S3DIS13, root.parent / "cache")
    return {report.scene: report for report in walk(source, Lifting(), S3DIS13)}


def write_floor(root: Path, frames: int = 4) -> Path:
    """A capture whose points are stored: a pose that is moved later does not move them."""
    write_capture(root, frames)
    x, y = np.meshgrid(np.arange(-0.3, 1.0, 0.05), np.arange(1.0, 2.5, 0.05))
    points = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3).astype(np.float32)
    np.savez(root / "points.npz", points=points, colours=np.zeros(points.shape, np.uint8))
    return root


def test_a_sound_capture_is_counted_and_raises_no_warning(tmp_path: Path) -> None:
    (report,) = inspect(write_floor(tmp_path / "room"))
    assert (report.scene, report.split, report.num_points, report.num_frames) == ("room", "train", 780, 4)
    assert report.classes == ("floor", "chair") and report.missing == ("ground truth",)
    assert report.frames_sampled == 4 and report.points_sampled == 780
    assert report.warnings == () and report.error is None and report.doubtful_frames == ()
    readings = [np.rint(floor_depth(pose_above(0.2 * n)) * 1000) > 0 for n in range(4)]
    assert report.depth_coverage == pytest.approx(np.mean(readings))


def test_the_visible_share_is_what_the_oracle_counts(tmp_path: Path) -> None:
    root = write_floor(tmp_path / "room", 2)
    source = RgbdSource(root, RgbdOptions(), SCANNET20, DepthFusion(), tmp_path / "cache")
    scene, lifting = source.load("room"), SMALL.model_copy(update={"border_px": 9})
    seen = [
        any(
            look(
                point.tolist(),
                read_depth_m(root, frame).tolist(),
                frame.intrinsics.tolist(),
                frame.camera_to_world.tolist(),
                size=(WIDTH, HEIGHT),
                tolerance=lifting.depth_tolerance,
                border=lifting.border_px,
            ).seen
            for frame in scene.frames
        )
        for point in scene.points_m
    ]
    (report,) = walk(source, lifting, SCANNET20)
    assert 0.1 < np.mean(seen) < 0.9
    assert report.visible_share == pytest.approx(np.mean(seen), abs=0.005)


@pytest.mark.parametrize("turned", [False, True], ids=["moved", "turned about"])
def test_one_misaligned_pose_is_found_among_sound_ones(tmp_path: Path, turned: bool) -> None:
    root = write_floor(tmp_path / "room")
    pose = pose_above(0.4)
    if turned:
        pose[:2, :3] *= -1
    else:
        pose[:3, 3] += (0, -0.4, 3)  # the floor stays in view, at another depth
    np.savetxt(root / "pose" / "2.txt", pose)
    (report,) = inspect(root)
    assert report.doubtful_frames == ("2",) and report.visible_share is not None and report.visible_share > 0.5
    (warning,) = report.warnings
    assert "scene room: 1 of 4 frames" in warning and "misaligned: 2" in warning


def test_a_scene_of_which_next_to_nothing_is_visible_is_a_warning_that_names_it(tmp_path: Path) -> None:
    root = write_floor(tmp_path / "room")
    for n in range(4):
        np.savetxt(root / "pose" / f"{n}.txt", pose_above(50.0 + n))
    (report,) = inspect(root)
    assert report.visible_share == 0 and len(report.doubtful_frames) == 4
    assert "scene room: 0.0% of its points are visible in 4 frames; its poses may be misaligned" in report.warnings[0]
    assert "misaligned: 0, 1, 2 and 1 more" in report.warnings[1]


def test_an_area_in_coordinates_of_its_own_is_found_room_by_room(tmp_path: Path) -> None:
    """As in 5b of the release: one room has pictures in both halves, one in 5b alone, one in none."""
    root = tmp_path / "s3dis"
    for room in ("office_1", "office_2", "office_3"):
        write_room(root / RELEASE, 5, room, origin=HERE)
    for n in range(3):
        write_picture(root, "area_5a", "office_1", n, origin=HERE, yaw=2.0 * n)
    for n, room in ((5, "office_1"), (6, "office_2")):
        write_picture(root, "area_5b", room, n, origin=(-HERE[1], HERE[0], 0.0))
    reports = inspect_s3dis(root)
    both, alone, none = (reports[f"Area_5_office_{n}"] for n in (1, 2, 3))
    assert both.visible_share is not None and both.visible_share > 0.2
    assert len(both.doubtful_frames) == 1 and both.doubtful_frames[0].startswith("area_5b/")
    assert alone.visible_share == 0 and "Area_5_office_2" in alone.warnings[0]
    assert none.skipped == {} and none.missing == ("frames",)
    assert none.visible_share is None and none.depth_coverage is None and none.warnings == ()
    warned = without_pictures([both, alone, none])
    assert [one.warnings for one in warned[:2]] == [both.warnings, alone.warnings]
    assert len(warned[2].warnings) == 1 and "scene Area_5_office_3: no picture" in warned[2].warnings[0]
    assert without_pictures([none, none]) == [none, none], "3D-only work: no scene is the odd one"
    assert both.classes == ("ceiling", "floor", "wall") and both.missing == () and both.split == "test"
    assert both.depth_coverage == pytest.approx(1 - 25 / 108**2)


def test_depth_without_a_reading_is_a_warning_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "s3dis"
    write_room(root / RELEASE, 1, "office_1", origin=HERE)
    write_picture(root, "area_1", "office_1", 0, origin=HERE)
    (path,) = (root / "area_1" / "data" / "depth").iterdir()
    Image.fromarray(np.full((108, 108), 65535, np.uint16)).save(path)
    report = inspect_s3dis(root)["Area_1_office_1"]
    assert report.depth_coverage == 0 and report.doubtful_frames == ()
    assert len(report.warnings) == 1 and "not one depth reading" in report.warnings[0]


def test_frames_are_sampled_evenly_and_the_report_says_how_many(tmp_path: Path) -> None:
    root = write_floor(tmp_path / "room", 9)
    np.savetxt(root / "pose" / "4.txt", pose_above(60.0))
    (report,) = inspect(root, most_frames=3)  # 0, 4 and 8
    assert report.num_frames == 9 and report.frames_sampled == 3 and report.doubtful_frames == ("4",)
    (report,) = inspect(root, most_frames=2)
    assert report.frames_sampled == 2 and report.doubtful_frames == ()


def test_points_are_sampled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.scenes.inspect.MOST_POINTS", 100)
    (report,) = inspect(write_floor(tmp_path / "room"))
    assert report.num_points == 780 and report.points_sampled == 100
    assert report.visible_share is not None and 0.5 < report.visible_share <= 1


def test_a_scene_that_cannot_be_read_is_reported_and_the_walk_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for name in ("a", "b", "c", "d"):
        write_floor(root / name)
    (root / "b" / "points.npz").write_bytes(b"no archive")
    (root / "c" / "scene_labels.txt").write_text("flour\n")
    (root / "test.txt").write_text("b\n")
    a, b, c, d = inspect(root)
    assert a.error is None and d.error is None and d.num_points == 780
    assert b.error is not None and b.error.startswith("scene b: ") and b.error.count("scene b") == 1
    assert "points.npz" in b.error and b.split == "test" and b.num_points is None
    assert c.error is not None and "'flour'" in c.error


def test_a_frame_that_is_damaged_within_becomes_the_scene_s_error(tmp_path: Path) -> None:
    """The reader of S3DIS looks at headers only: what is damaged further in shows here."""
    root = tmp_path / "s3dis"
    write_room(root / RELEASE, 1, "office_1", origin=HERE)
    write_picture(root, "area_1", "office_1", 0, origin=HERE)
    (path,) = (root / "area_1" / "data" / "rgb").iterdir()
    path.write_bytes(path.read_bytes()[:2000])
    report = inspect_s3dis(root)["Area_1_office_1"]
    assert report.error is not None and path.name in report.error
    assert report.error.startswith("scene Area_1_office_1: ") and report.error.count("Area_1_office_1: ") == 1
    assert report.num_frames == 1 and report.visible_share is None


def test_skipped_frames_and_missing_labels_are_told(tmp_path: Path) -> None:
    root = write_floor(tmp_path / "many" / "room")
    (tmp_path / "many" / "test.txt").write_text("room\n")
    (root / "scene_labels.txt").unlink()
    (root / "pose" / "1.txt").write_text("nan " * 16)
    (report,) = inspect(tmp_path / "many")
    assert report.skipped == {"non-finite pose": 1} and report.invalid_poses == 1 and report.num_frames == 3
    assert report.missing == ("ground truth", "scene labels") and report.classes == ()


def test_synthrooms_is_sound(tmp_path: Path) -> None:
    options = SynthRoomsOptions(
        seed=7, train_rooms=1, test_rooms=1, points=4000, views=Views(count=3, width=64, height=48)
    )
    make_dataset(tmp_path / "rooms", options, threads=1)
    source = SynthRoomsSource(tmp_path / "rooms", options, S3DIS13, tmp_path / "cache")
    reports = walk(source, Lifting(width=64, height=48, border_px=2), S3DIS13)
    assert [report.split for report in reports] == ["train", "test"]
    for report in reports:
        assert report.error is None and report.warnings == () and report.missing == ()
        assert report.visible_share is not None and report.visible_share > 0.2


def test_a_report_is_json(tmp_path: Path) -> None:
    (report,) = inspect(write_floor(tmp_path / "room"))
    values = json.loads(json.dumps(report.to_dict()))
    assert values["classes"] == ["floor", "chair"] and values["skipped"] == {} and values["error"] is None
    assert set(values) == set(SceneReport.__dataclass_fields__)


def test_a_dataset_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid):
        inspect(tmp_path / "nowhere")

"""Reading single frames: contents are checked against their digests, and errors name the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import FrameInvalid
from storage.keys import digest_bytes
from workers.scenes.frames import describe_frames, frames_from, range_name, read_depth_m, read_image
from workers.scenes.scene import Frame


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    picture = np.arange(24 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(picture).save(tmp_path / "image.png")
    Image.fromarray(np.array([[0, 1500], [40000, 65535]], np.uint16)).save(tmp_path / "depth.png")
    contents = [digest_bytes((tmp_path / name).read_bytes()) for name in ("image.png", "depth.png")]
    return Frame("0", "image.png", "depth.png", (6, 4), np.eye(3), np.eye(4), contents[0], contents[1])


def test_an_image_is_read_as_rgb(tmp_path: Path, frame: Frame) -> None:
    assert np.array_equal(read_image(tmp_path, frame), np.arange(72, dtype=np.uint8).reshape(4, 6, 3))


def test_a_grey_image_is_read_as_rgb(tmp_path: Path, frame: Frame) -> None:
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path, frame, check=False), np.full((4, 6, 3), 9))


def test_depth_is_in_metres(tmp_path: Path, frame: Frame) -> None:
    assert np.allclose(read_depth_m(tmp_path, frame), [[0, 1.5], [40, 65.535]])
    assert np.allclose(read_depth_m(tmp_path, replace(frame, depth_scale=4000.0)), [[0, 0.375], [10, 16.38375]])


def test_a_changed_image_or_depth_is_an_error_where_it_is_checked(tmp_path: Path, frame: Frame) -> None:
    changed = replace(frame, image_digest="0" * 32, depth_digest="0" * 32)
    for read, name in ((read_image, "image.png"), (read_depth_m, "depth.png")):
        with pytest.raises(FrameInvalid, match=f"{name}.*not what was ingested"):
            read(tmp_path, changed)
        assert read(tmp_path, changed, check=False).size


def test_a_missing_file_and_another_size_are_errors(tmp_path: Path, frame: Frame) -> None:
    with pytest.raises(FrameInvalid, match=r"gone\.jpg"):
        read_image(tmp_path, replace(frame, image="gone.jpg"))
    with pytest.raises(FrameInvalid, match="6 x 4 pixels, expected 8 x 4"):
        read_image(tmp_path, replace(frame, image_size=(8, 4)))


def test_a_colour_image_is_no_depth_map(tmp_path: Path, frame: Frame) -> None:
    with pytest.raises(FrameInvalid, match="16-bit"):
        read_depth_m(tmp_path, replace(frame, depth="image.png"), check=False)


def test_frames_need_a_matrix_each(frame: Frame) -> None:
    with pytest.raises(ValueError):
        frames_from(describe_frames([frame]), np.zeros((2, 3, 3)), np.zeros((1, 4, 4)))


def test_a_second_value_may_mean_no_reading(tmp_path: Path, frame: Frame) -> None:
    """2D-3D-S: depth in 1/512 m, 65535 where there is none."""
    depth = read_depth_m(tmp_path, replace(frame, depth_scale=512.0, depth_none=65535))
    assert np.allclose(depth, [[0, 1500 / 512], [40000 / 512, 0]])


def test_new_fields_survive_being_described_and_old_descriptions_stay_readable(frame: Frame) -> None:
    new = replace(frame, depth_none=65535, depth_coding="zlib", depth_size=(2, 3))
    (described,) = describe_frames([new])
    assert json.loads(json.dumps(described)) == described
    (back,) = frames_from([described], frame.intrinsics[None], frame.camera_to_world[None])
    assert (back.depth_none, back.depth_coding, back.depth_size) == (65535, "zlib", (2, 3))
    (old,) = describe_frames([frame])
    assert not {"depth_none", "depth_coding", "depth_size"} & set(old)
    (back,) = frames_from([old], frame.intrinsics[None], frame.camera_to_world[None])
    assert (back.depth_none, back.depth_coding, back.depth_size) == (None, "image", None)


def test_a_frame_may_name_ranges_of_a_larger_file(tmp_path: Path, frame: Frame) -> None:
    image, depth = ((tmp_path / name).read_bytes() for name in (frame.image, frame.depth))
    (tmp_path / "all.bin").write_bytes(b"head" + depth + image + b"tail")
    within = replace(
        frame,
        image=range_name("all.bin", 4 + len(depth), len(image)),
        depth=range_name("all.bin", 4, len(depth)),
        depth_size=(2, 2),
    )
    assert np.array_equal(read_image(tmp_path, within), read_image(tmp_path, frame))
    assert np.array_equal(read_depth_m(tmp_path, within), read_depth_m(tmp_path, frame))
    with pytest.raises(FrameInvalid, match="2 x 2 pixels, expected 3 x 2"):
        read_depth_m(tmp_path, replace(within, depth_size=(3, 2)))
    beyond = replace(within, image=range_name("all.bin", 4 + len(depth), len(image) + 9))
    with pytest.raises(FrameInvalid, match=r"all\.bin#\d+\+\d+: the file ends in the middle"):
        read_image(tmp_path, beyond)
    with pytest.raises(FrameInvalid, match=r"gone\.bin#0\+4: cannot be read"):
        read_depth_m(tmp_path, replace(within, depth="gone.bin#0+4"))
    with pytest.raises(FrameInvalid, match="needs its size"):
        read_depth_m(tmp_path, replace(within, depth_coding="raw", depth_size=None))

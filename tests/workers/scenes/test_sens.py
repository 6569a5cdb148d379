"""ScanNet's streams: what is written comes back, one made by hand, and every way in which one can be wrong."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.errors import DatasetInvalid, FrameInvalid
from storage.keys import digest_bytes
from tests.fixtures.sens_writer import Sens
from workers.scenes.frames import describe_frames, frame_matrices, frames_from, read_depth_m, read_image
from workers.scenes.sens import read_index, read_stream, stream_fingerprint

COLOUR_K = np.array([[70.0, 0, 31.5], [0, 71.0, 23.5], [0, 0, 1]])
DEPTH_K = np.array([[35.0, 0, 15.5], [0, 35.5, 11.5], [0, 0, 1]])


def pose_of(values: np.ndarray) -> np.ndarray:
    """(4,4) of (3,4) random numbers: a turn (their orthogonal part) and a shift."""
    turn = np.linalg.qr(values[:, :3])[0]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn * np.sign(np.linalg.det(turn)), values[:, 3]
    return pose.astype(np.float32)


def sens(frames: int = 5, **changes: object) -> Sens:
    """A stream of random images; PNG, so that they come back as they were."""
    rng = np.random.default_rng(1)
    poses = [pose_of(rng.normal(size=(3, 4))) for _ in range(frames)]
    made = Sens(
        COLOUR_K,
        DEPTH_K,
        [rng.integers(0, 256, (48, 64, 3)).astype(np.uint8) for _ in range(frames)],
        [rng.integers(0, 5000, (24, 32)).astype(np.uint16) for _ in range(frames)],
        poses,
        colour_compression=1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("depth_compression", [0, 1])
def test_a_stream_comes_back(tmp_path: Path, depth_compression: int) -> None:
    written = sens(depth_compression=depth_compression, depth_shift=500.0)
    written.write(tmp_path / "a.sens")
    header = read_index(tmp_path, "a.sens", "a").header
    assert (header.sensor, header.num_frames, header.size) == ("StructureSensor", 5, written.ends[0])
    assert (header.image_size, header.depth_size, header.depth_scale) == ((64, 48), (32, 24), 500.0)
    assert np.array_equal(header.colour_k, COLOUR_K) and np.array_equal(header.depth_k, DEPTH_K)
    frames, skipped = read_stream(tmp_path, "a.sens", "a", 1)
    assert skipped == {} and [f.name for f in frames] == ["0", "1", "2", "3", "4"]
    for n, frame in enumerate(frames):
        assert np.array_equal(read_image(tmp_path, frame), written.images[n])
        assert np.array_equal(read_depth_m(tmp_path, frame), written.depths[n] / np.float32(500))
        assert np.array_equal(frame.camera_to_world, written.poses[n].astype(np.float32))
        assert np.array_equal(frame.intrinsics, COLOUR_K)
        assert frame.image_size == (64, 48)


def test_jpeg_images_are_near(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 3, 48, axis=0).repeat(3, axis=2)
    sens(1, colour_compression=2, images=[ramp]).write(tmp_path / "a.sens")
    (frame,), _ = read_stream(tmp_path, "a.sens", "a", 1)
    assert np.abs(read_image(tmp_path, frame).astype(int) - ramp).max() < 8


def test_every_so_many_frames_are_taken(tmp_path: Path) -> None:
    sens(7).write(tmp_path / "a.sens")
    frames, _ = read_stream(tmp_path, "a.sens", "a", 3)
    assert [f.name for f in frames] == ["0", "3", "6"]


def test_frames_name_ranges_and_survive_being_described(tmp_path: Path) -> None:
    written = sens(2)
    content = written.write(tmp_path / "a.sens").read_bytes()
    frames, _ = read_stream(tmp_path, "a.sens", "a", 1)
    back = frames_from(describe_frames(frames), *frame_matrices(frames))
    for n, frame in enumerate(back):
        path, _, where = frame.depth.partition("#")
        offset, size = map(int, where.split("+"))
        assert path == "a.sens" and offset + size == written.ends[n + 1]
        assert frame.depth_digest == digest_bytes(content[offset : offset + size])
        assert zlib.decompress(content[offset : offset + size]) == written.depths[n].tobytes()
        assert np.array_equal(read_depth_m(tmp_path, frame), written.depths[n] / np.float32(1000))
        assert np.array_equal(read_image(tmp_path, frame), written.images[n])


BY_HAND = (
    b"\x04\x00\x00\x00"  # version
    b"\x03\x00\x00\x00\x00\x00\x00\x00abc"  # name
    + 2 * (
        b"\x00\x00\x80\x3f\x00\x00\x00\x00\x00\x00\x00\x3f\x00\x00\x00\x00"  # 1 0 0.5 0
        b"\x00\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x00"  # 0 2 0 0
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x3f\x00\x00\x00\x00"  # 0 0 1 0
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x3f"  # 0 0 0 1
        + b"\x00" * 64  # an extrinsic, not applied
    )
    + b"\x01\x00\x00\x00\x00\x00\x00\x00"  # png, raw u16
    b"\x02\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00"  # 2 x 1 and 2 x 1
    b"\x00\x00\x7a\x44"  # 1000
    b"\x01\x00\x00\x00\x00\x00\x00\x00"  # one frame
    b"\x00\x00\x80\x3f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40\xc0"  # 1 0 0 -3
    b"\x00\x00\x00\x00\x00\x00\x80\x3f\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x3f\x00\x00\xc0\x3f"  # 0 0 1 1.5
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x3f"
    + b"\x07" * 16  # two times
    + b"\x4b\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00"  # 75 and 4 bytes
    b"\x89PNG\r\n\x1a\n"
    b"\x00\x00\x00\x0dIHDR\x00\x00\x00\x02\x00\x00\x00\x01\x08\x02\x00\x00\x00\x7b\x40\xe8\xdd"
    # one stored deflate block: filter 0, then (1,2,3) and (250,251,252)
    b"\x00\x00\x00\x12IDAT\x78\x01\x01\x07\x00\xf8\xff\x00\x01\x02\x03\xfa\xfb\xfc\x06\x03\x02\xf8\x0c\x82\xc0\x49"
    b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
    b"\xe8\x03\x00\x00"  # 1000 and 0: one metre, and no reading
)  # fmt: skip


def test_a_stream_made_by_hand(tmp_path: Path) -> None:
    (tmp_path / "hand.sens").write_bytes(BY_HAND)
    index = read_index(tmp_path, "hand.sens", "hand")
    assert index.header.sensor == "abc"
    assert not index.header.colour_extrinsic.any() and not index.header.depth_extrinsic.any()
    (frame,), skipped = read_stream(tmp_path, "hand.sens", "hand", 1)
    assert skipped == {}
    assert frame.intrinsics.tolist() == [[1, 0, 0.5], [0, 2, 0], [0, 0, 1]]
    assert frame.camera_to_world.tolist() == [[1, 0, 0, -3], [0, 1, 0, 0], [0, 0, 1, 1.5], [0, 0, 0, 1]]
    assert read_image(tmp_path, frame).tolist() == [[[1, 2, 3], [250, 251, 252]]]
    assert read_depth_m(tmp_path, frame).tolist() == [[1.0, 0.0]]


def test_lost_poses_and_empty_depth_are_left_out_and_counted(tmp_path: Path) -> None:
    written = sens(4)
    written.poses = [np.full((4, 4), -np.inf), written.poses[1], written.poses[2], np.zeros((4, 4))]
    written.depths = [*written.depths[:2], np.zeros((24, 32), np.uint16), written.depths[3]]
    written.write(tmp_path / "a.sens")
    frames, skipped = read_stream(tmp_path, "a.sens", "a", 1)
    assert [f.name for f in frames] == ["1"]
    assert skipped == {"non-finite pose": 1, "empty depth": 1, "pose that is no rigid motion": 1}
    with pytest.raises(DatasetInvalid, match=r"scene a: none of the 1 frames taken of a\.sens.*non-finite pose.: 1"):
        read_stream(tmp_path, "a.sens", "a", 9)


def test_the_fingerprint_is_of_what_is_taken(tmp_path: Path) -> None:
    written = sens(4)
    content = bytearray(written.write(tmp_path / "a.sens").read_bytes())
    every, even = (stream_fingerprint(tmp_path, "a.sens", "a", step) for step in (1, 2))
    assert every != even
    content[written.ends[1] + 70] ^= 1  # a time of frame 1, which a step of two passes over
    (tmp_path / "a.sens").write_bytes(content)
    assert stream_fingerprint(tmp_path, "a.sens", "a", 1) != every
    assert stream_fingerprint(tmp_path, "a.sens", "a", 2) == even
    content[written.ends[2] + 1] ^= 1  # the pose of frame 2
    (tmp_path / "a.sens").write_bytes(content)
    assert stream_fingerprint(tmp_path, "a.sens", "a", 2) != even


def test_a_stream_that_ends_early_names_the_frame(tmp_path: Path) -> None:
    written = sens(4)
    content = written.write(tmp_path / "a.sens").read_bytes()
    for size, frame in ((written.ends[2] + 40, 2), (written.ends[2] + 200, 2), (written.ends[4] - 1, 3)):
        (tmp_path / "a.sens").write_bytes(content[:size])
        for step in (1, 3):
            with pytest.raises(FrameInvalid, match=rf"scene s: a\.sens ends within frame {frame} of 4.*{size} bytes"):
                read_index(tmp_path, "a.sens", "s", step)
    for size in (0, 3, 9, 20, 100, written.ends[0] - 1):
        (tmp_path / "a.sens").write_bytes(content[:size])
        with pytest.raises(DatasetInvalid, match=r"scene s: a\.sens: the file ends within its header"):
            read_index(tmp_path, "a.sens", "s")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 3}, "version 3, expected version 4"),
        ({"colour_compression": 0}, r"colour compression 0 \(raw\), expected 1 \(png\) or 2 \(jpeg\)"),
        ({"colour_compression": -1}, r"colour compression -1 \(unknown\)"),
        ({"depth_compression": 2}, r"depth compression 2 \(occi\), expected 0 .* or 1"),
        ({"sensor": "x" * 5000}, "name would be 5000 bytes"),
        ({"colour_k": np.zeros((3, 3))}, "colour intrinsic is no pinhole"),
        ({"depth_k": np.full((3, 3), np.nan)}, "depth intrinsic is no pinhole"),
        ({"depth_shift": 0.0}, "0 depth units a metre"),
        ({"images": [], "depths": [], "poses": []}, "holds no frame"),
        ({"depths": [np.ones((24, 40), np.uint16)] * 5}, "must show the same view"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    sens(**changes).write(tmp_path / "a.sens")  # type: ignore[arg-type]
    with pytest.raises(DatasetInvalid, match=rf"scene s: a\.sens: .*{words}"):
        read_index(tmp_path, "a.sens", "s")


def test_frames_that_cannot_be_decoded(tmp_path: Path) -> None:
    written = sens(3)
    content = written.write(tmp_path / "a.sens").read_bytes()
    entries = read_index(tmp_path, "a.sens", "s").frames
    for at, words in ((entries[1].image_offset, "cannot be decoded"), (entries[1].depth_offset, "zlib cannot unpack")):
        (tmp_path / "a.sens").write_bytes(content[:at] + b"\xff" * 9 + content[at + 9 :])
        with pytest.raises(FrameInvalid, match=rf"scene s: frame 1 of a\.sens: .*{words}"):
            read_stream(tmp_path, "a.sens", "s", 1)


@pytest.mark.parametrize("depth_compression", [0, 1])
def test_frames_of_another_size_than_the_header_says(tmp_path: Path, depth_compression: int) -> None:
    written = sens(2, depth_compression=depth_compression)
    for other in (np.ones((24, 31), np.uint16), np.ones((25, 32), np.uint16)):
        written.depths = [written.depths[0], other]
        written.write(tmp_path / "a.sens")
        with pytest.raises(FrameInvalid, match=r"frame 1 of a\.sens: .*expected 1536 \(u16, 32 x 24"):
            read_stream(tmp_path, "a.sens", "s", 1)
    written = sens(2)
    written.images = [written.images[0], written.images[0][:40]]
    written.write(tmp_path / "a.sens")
    with pytest.raises(FrameInvalid, match="frame 1 of .*64 x 40 pixels, expected 64 x 48"):
        read_stream(tmp_path, "a.sens", "s", 1)


def test_a_stream_that_is_cut_or_changed_after_it_was_indexed(tmp_path: Path) -> None:
    content = sens(2).write(tmp_path / "a.sens").read_bytes()
    frames, _ = read_stream(tmp_path, "a.sens", "s", 1)
    at = int(frames[1].depth.partition("#")[2].split("+")[0])
    (tmp_path / "a.sens").write_bytes(content[: at + 5])
    with pytest.raises(FrameInvalid, match="ends in the middle of the frame"):
        read_depth_m(tmp_path, frames[1])
    (tmp_path / "a.sens").write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    with pytest.raises(FrameInvalid, match="not what was ingested"):
        read_depth_m(tmp_path, frames[1])
    assert read_image(tmp_path, frames[1]).size


def test_a_missing_stream(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match=r"scene s: gone\.sens cannot be read"):
        read_index(tmp_path, "gone.sens", "s")

"""Vertices of PLY files: every coding, any order, and every way in which a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.errors import DatasetInvalid
from tests.fixtures.ply_writer import write_ply
from workers.scenes.ply import read_vertices

CODINGS = ("binary_little_endian", "binary_big_endian", "ascii")


def columns(n: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    named: dict[str, np.ndarray] = {c: rng.normal(size=n).astype(np.float32) for c in "xyz"}
    named |= {c: rng.integers(0, 256, n).astype(np.uint8) for c in ("red", "green", "blue", "alpha")}
    return named | {"label": rng.integers(0, 41, n).astype(np.uint16)}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("order", [1, -1])
def test_vertices_come_back_in_every_coding_and_order(tmp_path: Path, coding: str, order: int) -> None:
    written = columns()
    write_ply(tmp_path / "a.ply", dict(list(written.items())[::order]), coding, triangles=4)
    read = read_vertices(tmp_path, "a.ply")
    assert np.array_equal(read.points_m(), np.stack([written[c] for c in "xyz"], axis=1))
    assert read.points_m().dtype == np.float32
    assert np.array_equal(read.colours(), np.stack([written[c] for c in ("red", "green", "blue")], axis=1))
    labels = read.labels()
    assert labels is not None and np.array_equal(labels, written["label"])


BY_HAND = (
    b"ply\r\nformat binary_big_endian 1.0\r\nobj_info by hand\r\n"
    b"element camera 1\r\nproperty list uchar short rows\r\nproperty uchar n\r\n"
    b"element vertex 2\r\nproperty uchar blue\r\nproperty double z\r\nproperty float x\r\nproperty float y\r\n"
    b"property int8 label\r\nproperty uint8 red\r\nproperty uint8 green\r\nend_header\r\n"
    b"\x02\x00\x07\x00\x08\x63"  # the camera: a list of two shorts, and a byte
    b"\x03\x3f\xf8\x00\x00\x00\x00\x00\x00\x3f\x80\x00\x00\xc0\x00\x00\x00\xff\x01\x02"
    b"\x06\xbf\xe0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40\x40\x00\x00\x05\xfe\xff"
)  # fmt: skip


def test_a_file_made_by_hand(tmp_path: Path) -> None:
    (tmp_path / "hand.ply").write_bytes(BY_HAND)
    read = read_vertices(tmp_path, "hand.ply")
    assert read.points_m().tolist() == [[1.0, -2.0, 1.5], [0.0, 3.0, -0.5]]
    assert read.colours().tolist() == [[1, 2, 3], [254, 255, 6]]
    labels = read.labels()
    assert labels is not None and labels.tolist() == [-1, 5]


def test_a_text_file_made_by_hand(tmp_path: Path) -> None:
    (tmp_path / "hand.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
        "end_header\n0 0.5 1\n-1e1 2 3\n"
    )
    read = read_vertices(tmp_path, "hand.ply")
    assert read.points_m().tolist() == [[0, 0.5, 1], [-10, 2, 3]]
    assert read.labels() is None
    with pytest.raises(DatasetInvalid, match="no colours: red, green, blue missing, found the properties x, y, z"):
        read.colours()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_truncated_file_says_how_many_vertices_are_there(tmp_path: Path, coding: str) -> None:
    path = write_ply(tmp_path / "a.ply", columns(20), coding)
    content = path.read_bytes()
    start = content.index(b"end_header\n") + 11
    half = content[: start + (len(content) - start) // 2]
    path.write_bytes(half if coding != "ascii" else half[: half.rindex(b"\n") + 1])
    with pytest.raises(DatasetInvalid, match=r"scene s: a\.ply.*ends after (9|1\d) of the 20 vertices"):
        read_vertices(tmp_path, "a.ply", "s")
    path.write_bytes(content[: start - 20])
    with pytest.raises(DatasetInvalid, match=r"a\.ply.*within its header"):
        read_vertices(tmp_path, "a.ply", "s")


def test_a_line_cut_in_its_middle_is_an_error(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", columns(3), "ascii")
    path.write_bytes(path.read_bytes().rsplit(b" ", 2)[0])
    with pytest.raises(DatasetInvalid, match="vertex 2 has 6 numbers, expected 8"):
        read_vertices(tmp_path, "a.ply")


def test_properties_that_are_missing_or_of_another_type(tmp_path: Path) -> None:
    without = columns()
    del without["y"], without["blue"]
    read = read_vertices(write_ply(tmp_path / "a.ply", without).parent, "a.ply", "scene7")
    with pytest.raises(DatasetInvalid, match=r"scene7: a\.ply.*no positions: y missing, found .*x, z, red"):
        read.points_m()
    with pytest.raises(DatasetInvalid, match="no colours: blue missing"):
        read.colours()
    floats = columns() | {"red": np.ones(5, np.float32), "label": np.ones(5, np.float32)}
    read = read_vertices(write_ply(tmp_path / "b.ply", floats).parent, "b.ply")
    with pytest.raises(DatasetInvalid, match="red is of type float32, expected uchar"):
        read.colours()
    with pytest.raises(DatasetInvalid, match="label is of type float32, expected a whole number"):
        read.labels()


def test_positions_must_be_finite(tmp_path: Path) -> None:
    for bad in (np.nan, np.inf, 1e300):
        broken = columns() | {"z": np.array([0, 0, bad, 0, 0], np.float64)}
        write_ply(tmp_path / "a.ply", broken)
        with pytest.raises(DatasetInvalid, match="vertex 2 lies at"):
            read_vertices(tmp_path, "a.ply").points_m()


HEADER = "ply\nformat ascii 1.0\nelement vertex 1\nproperty uchar red\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("solid stl\n", "no PLY file"),
        ("", "no PLY file"),
        ("ply\nformat ascii 2.0 x y\n", "none that PLY"),
        ("ply\nformat packed 1.0\n", "'format packed 1.0'"),
        ("ply\nelement vertex 1\nend_header\n", "no line 'format'"),
        ("ply\nformat ascii 1.0\nelement vertex -1\n", "'element vertex -1'"),
        ("ply\nformat ascii 1.0\nproperty float x\n", "'property float x'"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\n", "'property quad x'"),
        ("ply\nformat ascii 1.0\nelement face 0\nproperty uchar n\nend_header\n", "no element vertex, only: face"),
        ("ply\nformat ascii 1.0\nelement face 2\nproperty uchar n\nelement vertex 1\nend_header\n1\n", "element face"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nend_header\n", "expected each once"),
        ("ply\nformat ascii 1.0\n" + "comment\n" * 1000, "longer than 1000"),
        (HEADER + "property uchar red\nend_header\n1 2\n", "expected each once"),
        (HEADER + "property list uchar int ids\nend_header\n1 0\n", "list"),
        (HEADER + "end_header\nred\n", "no number"),
        (HEADER + "end_header\n256\n", "red has the value 256, which is no uint8"),
        (HEADER + "end_header\n1.5\n", "red has the value 1.5"),
        (HEADER + "end_header\nnan\n", "red has the value nan"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.ply").write_text(content)
    with pytest.raises(DatasetInvalid, match=words):
        read_vertices(tmp_path, "a.ply")


def test_an_element_before_the_vertices_that_ends_early(tmp_path: Path) -> None:
    (tmp_path / "hand.ply").write_bytes(BY_HAND[: BY_HAND.index(b"end_header\r\n") + 14])
    with pytest.raises(DatasetInvalid, match="ends within its element camera"):
        read_vertices(tmp_path, "hand.ply")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match=r"scene s: gone\.ply.*cannot be read \(No such file"):
        read_vertices(tmp_path, "gone.ply", "s")

"""The lists in a dataset's folder: what they name, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import DatasetInvalid, UnknownName
from workers.scenes.dataset_folder import check_there, read_names, splits_of


def test_names_stand_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("  chair\r\n\n office chair \nété".encode())
    assert read_names(tmp_path, "names.txt") == ["chair", "office chair", "été"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"], ids=["missing", "no UTF-8"])
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(DatasetInvalid, match=f"names.txt of {tmp_path.name} cannot be read as text"):
        read_names(tmp_path, "names.txt")


def test_listed_scenes_are_held_out(tmp_path: Path) -> None:
    assert splits_of(tmp_path, ["b", "a"]) == {"a": "train", "b": "train"}
    (tmp_path / "test.txt").write_text("b\nb\n")
    assert splits_of(tmp_path, ["b", "a"]) == {"a": "train", "b": "test"}
    with pytest.raises(UnknownName, match=r"scene in test\.txt of .*'b', which is not known.*: bb"):
        splits_of(tmp_path, ["bb"])


def test_a_folder_must_be_one(tmp_path: Path) -> None:
    check_there(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("file", "gone"):
        with pytest.raises(DatasetInvalid, match="does not exist or is no folder"):
            check_there(tmp_path / name)

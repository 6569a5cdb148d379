from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.settings import Settings


@pytest.fixture
def root(settings: Settings) -> Path:
    """The folder under which datasets may always lie."""
    root = settings.home_path / "datasets"
    root.mkdir(parents=True)
    return root


def capture(root: Path, name: str = "lounge") -> Path:
    folder = root / name
    (folder / "color").mkdir(parents=True)
    return folder


def test_synthrooms_without_a_path_lies_where_its_options_say(api: Any, settings: Settings) -> None:
    def add(name: str, **options: Any) -> Any:
        return api.post("/datasets", {"name": name, "kind": "synthrooms", "options": options})

    one, same, other = add("a"), add("b", seed=0), add("c", seed=1)
    assert one["path"] == same["path"] != other["path"]
    assert Path(one["path"]).parent == settings.home_path / "datasets"
    assert Path(one["path"]).name.startswith("synthrooms-")
    assert (one["label_set"], one["splits"]) == ("s3dis13", ["train", "test"])
    assert add("d", test_rooms=0)["splits"] == ["train"]
    assert one["options"]["views"]["count"] == 8
    assert [d["name"] for d in api.get("/datasets")["items"]] == ["a", "b", "c", "d"]
    assert api.get("/datasets/c") == other


def test_a_capture_under_an_allowed_root(api: Any, root: Path) -> None:
    folder = capture(root)
    added = api.post("/datasets", {"name": "lounge", "kind": "rgbd", "path": str(folder)})
    assert (added["path"], added["label_set"], added["splits"]) == (str(folder), "scannet20", ["train"])
    (folder / "test.txt").write_text("scene0001_00\n")
    more = api.post("/datasets", {"name": "more", "kind": "rgbd", "path": str(folder), "options": {"frame_step": 3}})
    assert (more["splits"], more["options"]) == (["train", "test"], {"frame_step": 3})


def test_registering_the_same_again_is_no_error(api: Any, root: Path) -> None:
    body = {"name": "lounge", "kind": "rgbd", "path": str(capture(root))}
    assert api.post("/datasets", body) == api.post("/datasets", body)
    problem = api.post("/datasets", {**body, "label_set": "s3dis13"}, status=409)
    assert problem["code"] == "name_taken"


def test_registering_again_after_the_folder_changed_tells_its_splits_anew(api: Any, root: Path) -> None:
    folder = capture(root)
    body = {"name": "lounge", "kind": "rgbd", "path": str(folder)}
    before = api.post("/datasets", body)
    (folder / "test.txt").write_text("scene0001_00\n")
    assert api.post("/datasets", body) == {**before, "splits": ["train", "test"]} == api.get("/datasets/lounge")
    (folder / "test.txt").unlink()
    assert api.post("/datasets", body) == before == api.get("/datasets/lounge")


def test_paths_outside_the_roots_are_refused_whether_they_exist_or_not(api: Any, root: Path, tmp_path: Path) -> None:
    outside = capture(tmp_path, "outside")
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    for path in (outside, "/etc", "/nowhere/at/all", root / ".." / "..", root / "link", root / "link" / "color", "/"):
        problem = api.post("/datasets", {"name": "x", "kind": "rgbd", "path": str(path)}, status=403)
        assert problem["code"] == "path_not_allowed"
        assert str(root) in problem["detail"]
    sideways = f"{root}-else"
    Path(sideways).mkdir()
    assert api.post("/datasets", {"name": "x", "kind": "rgbd", "path": sideways}, status=403)
    made = {"name": "x", "kind": "synthrooms", "path": str(outside)}
    assert api.post("/datasets", made, status=403)["code"] == "path_not_allowed"
    assert api.get("/datasets")["items"] == []


def test_a_link_within_the_roots_is_followed(api: Any, root: Path) -> None:
    folder = capture(root)
    (root / "link").symlink_to(folder)
    assert api.post("/datasets", {"name": "x", "kind": "rgbd", "path": str(root / "link")})["path"] == str(folder)


def test_folders_that_cannot_be_datasets(api: Any, root: Path) -> None:
    (root / "empty").mkdir()
    (root / "file").write_text("x")
    for path, said in (
        (root / "missing", "there is no folder"),
        (root / "empty", "is empty"),
        (root / "file", "there is no folder"),
        ("lounge", "expected an absolute one"),
        ("", "expected an absolute one"),
        (f"{root}/a\0b", "expected an absolute one"),
    ):
        problem = api.post("/datasets", {"name": "x", "kind": "rgbd", "path": str(path)}, status=422)
        assert problem["code"] == "dataset_invalid"
        assert said in problem["detail"]
    assert "needs the field 'path'" in api.post("/datasets", {"name": "x", "kind": "rgbd"}, status=422)["detail"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"options": {"rooms": 3}}, "spec_invalid", "rooms"),
        ({"options": {"train_rooms": 0}}, "spec_invalid", "train_rooms"),
        ({"kind": "scanet"}, "request_invalid", "kind"),
        ({"label_set": "ade20k"}, "request_invalid", "label_set"),
        ({"name": "../x"}, "request_invalid", "name"),
        ({"name": ""}, "request_invalid", "name"),
        ({"colour": 1}, "request_invalid", "colour: this field is not known here"),
    ],
)
def test_wrong_fields_are_named(api: Any, changes: dict[str, Any], code: str, said: str) -> None:
    problem = api.post("/datasets", {"name": "x", "kind": "synthrooms", **changes}, status=422)
    assert (problem["code"], said in problem["detail"]) == (code, True)


def test_a_dataset_that_is_not_there(api: Any, offices: str) -> None:
    problem = api.get("/datasets/ofices", status=404)
    assert problem["code"] == "not_found"
    assert offices in problem["detail"]

"""`vlglab runs files`: which files it lists, and where it puts those that it fetches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import examples
from tests.service.fake_api import FakeApi
from tests.service.test_cli import vlglab

API = "/api/v1"
FILES = [
    ("K1", "figures", "scene0707_00.txt"),
    ("K1", "figures", "scene0708_00.txt"),
    ("K1", "figures", "scene0011_00_ours.ply"),
    ("K1", "figures", "more/overview.png"),
    ("K2", "extra", "overview.png"),
]


@pytest.fixture
def api() -> FakeApi:
    listed = [
        {**examples.FILE, "artifact_key": key, "output": output, "name": name, "scene": "", "num_bytes": 2_000_000}
        for key, output, name in FILES
    ]
    contents: dict[tuple[str, str], Any] = {
        ("GET", f"{API}/artifacts/{key}/files/{name}"): httpx.Response(200, content=f"{key} {name}".encode())
        for key, _, name in FILES
    }
    return FakeApi({("GET", f"{API}/runs/r1/files"): {"items": listed, "next": None}, **contents})


def test_a_run_s_files_are_listed(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result, text = vlglab(api, "runs", "files", "r1")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in text.splitlines()] == ["name", *(name for _, _, name in FILES)]
    assert list(tmp_path.iterdir()) == [], "nothing is fetched"
    _, text = vlglab(api, "runs", "files", "r1", "--name", "*.txt", "--name", "more/*", "--json")
    assert [file["name"] for file in json.loads(text)] == [FILES[0][2], FILES[1][2], FILES[3][2]]


def test_those_that_fit_are_fetched(api: FakeApi, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "submission"
    result, text = vlglab(api, "runs", "files", "r1", "--name", "*.txt", "--out", str(folder))
    assert result.exit_code == 0, result.output
    assert text.splitlines() == [str(folder / FILES[0][2]), str(folder / FILES[1][2])]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "scene0707_00.txt": "K1 scene0707_00.txt",
        "scene0708_00.txt": "K1 scene0708_00.txt",
    }


def test_files_of_one_name_lie_beside_each_other(api: FakeApi, tmp_path: Path) -> None:
    _, text = vlglab(api, "runs", "files", "r1", "--out", str(tmp_path), "--json")
    document = json.loads(text)
    assert document["run"] == "r1" and len(document["files"]) == len(FILES)
    assert (tmp_path / "figures-more-overview.png").read_text() == "K1 more/overview.png"
    assert (tmp_path / "extra-overview.png").read_text() == "K2 overview.png"
    assert sorted(document["files"]) == sorted(str(path) for path in tmp_path.iterdir())


def test_what_fits_no_file_says_which_there_are(api: FakeApi, tmp_path: Path) -> None:
    result, text = vlglab(api, "runs", "files", "r1", "--name", "*.pth", "--out", str(tmp_path / "none"))
    assert (result.exit_code, text) == (5, "")
    assert "scene0707_00.txt" in result.stderr and not (tmp_path / "none").exists()

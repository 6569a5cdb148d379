"""ScanNet's release over HTTP: registered, checked and learnt from; and what `datasets check` says of a bad scene."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service import schemas
from service.cli.console import Shell
from service.cli.entry import app
from service.client import Client
from storage.specs import presets, recipes
from tests.fixtures.scannet_release import Room, write_release
from tests.journey.conftest import TINY, ended


@pytest.fixture(scope="module")
def release(captures: Path) -> Path:
    """Two training scenes, one of validation and one of the hidden test, half floor (NYU 2) and half wall (NYU 1)."""

    def room(name: str, labelled: bool = True) -> Room:
        made = Room(name)
        made.ids = np.where(made.points[:, 0] < 0, 1, 2).astype(np.uint16) if labelled else None
        return made

    return write_release(
        captures / "scannet",
        train=[room("scene0000_00"), room("scene0001_00")],
        val=[room("scene0002_00")],
        test=[room("scene0707_00", labelled=False)],
    )


@pytest.fixture(scope="module")
def dataset(client: Client, release: Path) -> str:
    body = schemas.DatasetRequest(
        name="scannet-mini", kind="scannet", path=str(release), label_set=None, options={"frame_step": 1}
    )
    added = client.add_dataset(body)
    assert added.label_set == "scannet20" and added.splits == ["train", "test"]
    return added.name


def check(client: Client, *arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    shell = Shell(client, out=Console(file=out, width=200), err=Console(file=io.StringIO(), width=200))
    result = CliRunner().invoke(app, ["datasets", "check", *arguments], obj=shell)
    return result.exit_code, out.getvalue() + result.stdout + result.stderr


def test_check_walks_a_release_and_says_what_is_missing(client: Client, dataset: str) -> None:
    status, out = check(client, dataset, "--json")
    scenes = {scene["scene"]: scene for scene in json.loads(out)}
    assert list(scenes) == ["scene0000_00", "scene0001_00", "scene0002_00", "scene0707_00"]
    assert scenes["scene0002_00"]["split"] == "test" and scenes["scene0000_00"]["classes"] == ["wall", "floor"]
    assert "ground truth" in scenes["scene0707_00"]["missing"] and not scenes["scene0000_00"]["missing"]
    assert status == int(any(scene["warnings"] or scene["error"] for scene in scenes.values()))
    seen = {name: (scene["num_frames"], scene["visible_share"]) for name, scene in scenes.items()}
    assert all(frames == 3 and 0 < share < 1 for frames, share in seen.values()), seen
    table = check(client, dataset)[1]
    assert "scene0707_00" in table and "visible %" in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "prediction"), [("3dss-vlg", "ours"), ("cam", "ours"), ("supervised", "supervised")]
)
def test_every_stage_runs_on_a_release_whose_test_scenes_hide_their_labels(
    client: Client, dataset: str, tmp_path: Path, recipe: str, prediction: str
) -> None:
    request = presets.Request(dataset, "scannet20", ("train", "test"), "demo")
    has = {run.name for run in recipes.build(recipe, request)}
    tiny = TINY | {path.replace("distill", "supervise"): value for path, value in TINY.items()}
    made = client.submit(
        schemas.ExperimentRequest(
            recipe=recipe,
            preset="demo",
            dataset=dataset,
            overrides={path: value for path, value in tiny.items() if path.partition(".")[0] in has}
            | {"report.submission": prediction},
            seed=0,
            name="mini",
        )
    )
    runs = ended(client, made.id)
    assert {run.state for run in runs.values()} <= {"succeeded", "cached"}, [
        (run.name, run.reason) for run in runs.values()
    ]
    points = len(Room("scene0002_00").points)
    predicted = client.artifact(runs["predict"].outputs["labels"])
    assert {part.scene for part in predicted.parts} == {"scene0002_00", "scene0707_00"}
    files = {file.name for file in client.run_files(runs["report"].id)}
    submitted = {name for name in files if name.endswith(".txt")}
    assert submitted == {"scene0707_00.txt"}, "the benchmark's server takes its hidden scenes alone"
    lines = (
        client.download(runs["report"].outputs["figures"], "scene0707_00.txt", tmp_path / "x.txt").read_text().split()
    )
    assert len(lines) == points and set(map(int, lines)) <= set(range(1, 41)) - {13, 15, 40}
    scored = [row for row in client.run_evaluations(runs["evaluate"].id) if row.prediction == prediction]
    assert {row.subset: row.num_points for row in scored}["all"] == points, "the hidden scene enters no score"


def test_a_scene_that_cannot_be_read_is_named(client: Client, release: Path, captures: Path) -> None:
    other = captures / "scannet-cut"
    shutil.copytree(release, other)
    labels = other / "scans" / "scene0001_00" / "scene0001_00_vh_clean_2.labels.ply"
    labels.write_bytes(labels.read_bytes()[:-40])
    body = schemas.DatasetRequest(name="cut", kind="scannet", path=str(other), options={"frame_step": 1})
    client.add_dataset(body)
    (other / "scans" / "scene0002_00" / "scene0002_00_vh_clean_2.ply").unlink()
    status, out = check(client, "cut", "--json")
    scenes = {scene["scene"]: scene for scene in json.loads(out)}
    assert status == 1 and list(scenes) == ["scene0000_00", "scene0001_00", "scene0002_00", "scene0707_00"]
    assert "scene0001_00_vh_clean_2.labels.ply" in scenes["scene0001_00"]["error"]
    assert "scene0002_00_vh_clean_2.ply" in scenes["scene0002_00"]["error"]
    for name in ("scene0000_00", "scene0707_00"):
        assert scenes[name]["error"] is None and scenes[name]["num_frames"] == 3, "the walk goes on beside them"
    status, out = check(client, "cut")
    assert status == 1 and all(name in out for name in scenes) and "labels.ply" in out

"""The picture and the clouds of any run by one command, and a published checkpoint over HTTP: both on an ablation."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from service import schemas
from service.cli.console import Shell
from service.cli.entry import app
from service.client import Client
from tests.journey.conftest import TINY, ended
from workers.nets.published import export_checkpoint

SMALL = {name: value for name, value in TINY.items() if not name.startswith("specialize")} | {
    "distill.training.repeats": 1,
    "distill.network.arch": "MinkUNet14A",
    "predict.voxelisations": 1,
}


@pytest.fixture(scope="module")
def ablation(client: Client) -> dict[str, schemas.Run]:
    """The runs of an experiment that ends without a report, all ended."""
    runs = ended(client, submitted(client, "ablation-b", **SMALL))
    assert {run.state for run in runs.values()} <= {"succeeded", "cached"}, [run.reason for run in runs.values()]
    return runs


def submitted(client: Client, recipe: str, **overrides: object) -> str:
    body = schemas.ExperimentRequest(recipe=recipe, preset="demo", dataset="tiny", overrides=overrides, name=recipe)
    return client.submit(body).id


def picture(client: Client, *arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    shell = Shell(client, out=Console(file=out, width=200), err=Console(file=io.StringIO(), width=200))
    result = CliRunner().invoke(app, ["runs", "picture", *arguments], obj=shell)
    return result.exit_code, out.getvalue() + result.stdout + result.stderr


def ply_colours(path: Path) -> np.ndarray:
    """(N,3) the colours of a binary PLY of three floats and three bytes a vertex."""
    vertices = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    return np.frombuffer(path.read_bytes().split(b"end_header\n", 1)[1], vertices)["rgb"]


def labels_of(client: Client, home: Path, key: str) -> np.ndarray:
    (part,) = client.artifact(key).parts
    group = zarr.open_group(home / "store" / "parts" / part.key[:2] / part.key, mode="r")
    return np.asarray(group["labels"])


@pytest.mark.slow
def test_a_prediction_of_an_ablation_is_drawn_in_four_panels_and_the_second_time_cached(
    client: Client, ablation: dict[str, schemas.Run], home: Path, tmp_path: Path
) -> None:
    status, out = picture(client, ablation["predict"].id, "--out", str(tmp_path / "first"), "--json")
    assert status == 0, out
    first = json.loads(out)
    assert first["state"] == "succeeded"
    (scene,) = client.artifact(ablation["predict"].outputs["labels"]).attributes["splits"]
    names = {f"{scene}_{what}.ply" for what in ("input", "ground_truth", "2d_text", "3d")} | {"segmentation.png"}
    assert {Path(file).name for file in first["files"]} == names
    assert {file.name for file in (tmp_path / "first").iterdir()} == names
    with Image.open(tmp_path / "first" / "segmentation.png") as image:
        assert image.width == 4 * 520, "input, ground truth, 2D projection and the prediction"
    labels = labels_of(client, home, ablation["predict"].outputs["labels"])
    colours = ply_colours(tmp_path / "first" / f"{scene}_3d.ply")
    assert len(colours) == len(labels)
    pairs = {(int(label), tuple(colour.tolist())) for label, colour in zip(labels, colours, strict=True)}
    assert len(pairs) == len({label for label, _ in pairs}) == len({colour for _, colour in pairs})
    status, out = picture(client, ablation["predict"].id, "--out", str(tmp_path / "again"))
    assert status == 0 and "(cached)" in out and "4 coloured PLY files" in out
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_a_run_that_labelled_nothing_says_what_it_made_and_which_run_to_draw(
    client: Client, ablation: dict[str, schemas.Run], tmp_path: Path
) -> None:
    status, out = picture(client, ablation["ingest"].id, "--out", str(tmp_path / "none"))
    assert status == 2 and not (tmp_path / "none").exists()
    assert "made scenes (scenes), ground_truth (ground_truth), which cannot be drawn" in out
    assert ablation["predict"].id in out and ablation["distill"].id not in out
    status, out = picture(client, ablation["predict"].id, "--splits", "train")
    assert status == 2 and "labelled scenes of test, none of train" in out


@pytest.mark.slow
def test_a_published_checkpoint_is_evaluated_by_one_request_and_predicts_what_it_did_before(
    client: Client, ablation: dict[str, schemas.Run], home: Path, tmp_path: Path
) -> None:
    network = client.download(ablation["distill"].outputs["network"], "checkpoint.safetensors", tmp_path / "network")
    weights = home / "weights"
    weights.mkdir(exist_ok=True)
    export_checkpoint(network, weights / "best.pth.tar", "module.net3d.")
    named = {"weights": "best.pth.tar", "voxel_m": SMALL["distill.voxel_m"], "colours": "plus_half"}
    overrides = {f"import_checkpoint.{field}": value for field, value in named.items()}
    runs = ended(client, submitted(client, "published", **overrides, **{"predict.voxelisations": 1}))
    assert {name: (run.state, run.reason) for name, run in runs.items() if run.state != "cached"} == dict.fromkeys(
        ("import_checkpoint", "predict", "evaluate", "report"), ("succeeded", None)
    )
    before, after = (labels_of(client, home, one["predict"].outputs["labels"]) for one in (ablation, runs))
    assert (before == after).all(), "the same network, out and in again"
    (score,) = client.run_evaluations(runs["evaluate"].id)
    known = {row.subset: row for row in client.run_evaluations(ablation["evaluate"].id)}
    assert (score.prediction, score.miou) == ("published", known["all"].miou)
    about = client.artifact(runs["import_checkpoint"].outputs["network"])
    assert about.kind == "checkpoint" and about.attributes["arch"] == "MinkUNet14A"

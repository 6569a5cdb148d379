"""`vlglab runs picture`: which report it asks for, what it fetches, and which runs it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service import examples
from service.cli.console import Shell
from service.cli.entry import app
from tests.service.fake_api import FakeApi

API = "/api/v1"


def run(run_id: str, stage: str, inputs: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """A run that has ended; inputs are port -> `<run>/<artifact>`."""
    given = {
        port: {"run_id": source.split("/")[0] or None, "output": "x", "artifact_key": source.split("/")[1]}
        for port, source in (inputs or {}).items()
    }
    made = {**examples.RUN, "id": run_id, "name": stage, "stage": stage, "state": "succeeded", "inputs": given}
    return {**made, "experiment_id": "e1", "spec": {"stage": stage}, "outputs": {}, **changes}


SEEN = {"scenes": "r-ingest/K-scenes", "text_embeddings": "r-text/K-text"}
RUNS = [
    run("r-ingest", "ingest", outputs={"scenes": "K-scenes", "ground_truth": "K-truth"}),
    run("r-extract", "extract", {"scenes": "r-ingest/K-scenes"}, outputs={"embeddings": "K-embeddings"}),
    run("r-distill", "distill", outputs={"network": "K-network"}),
    run("r-predict", "predict", SEEN, outputs={"labels": "K-labels"}),
    run("r-pseudo", "pseudo_label", {**SEEN, "embeddings": "/K-embeddings"}, outputs={"labels": "K-2d"}),
    run(
        "r-evaluate",
        "evaluate",
        {
            "scenes": "r-ingest/K-scenes",
            "ground_truth": "/K-truth",
            "coverage": "/K-c",
            "predictions.ours": "/K-labels",
        },
        spec={"stage": "evaluate", "splits": ["test"]},
    ),
]
SPLITS = {"room_1": "test", "room_2": "test", "room_3": "train"}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "K-embeddings": {"dimension": 384, "splits": SPLITS},
    "K-text": {"dimension": 384},
    "K-labels": {"splits": {"room_1": "test", "room_2": "test"}},
    "K-2d": {"splits": SPLITS},
}


def lab(runs: list[dict[str, Any]] | None = None, attributes: dict[str, dict[str, Any]] | None = None) -> FakeApi:
    """A service with these runs in one experiment; whatever is submitted has drawn a picture at once."""
    runs = RUNS if runs is None else runs
    file = {**examples.FILE, "artifact_key": "K-figures"}
    names = ("segmentation.png", "room_1_3d.ply", "room_1.txt")
    answers: dict[tuple[str, str], Any] = {
        ("GET", f"{API}/runs"): lambda request: httpx.Response(
            200,
            json={"items": [r for r in runs if r["stage"] == request.url.params["stage"]], "next": None},
        ),
        ("POST", f"{API}/experiments"): {**examples.EXPERIMENT, "id": "e2", "runs": []},
        ("GET", f"{API}/experiments/e1"): {**examples.EXPERIMENT, "id": "e1", "runs": runs},
        ("GET", f"{API}/experiments/e2"): {
            **examples.EXPERIMENT,
            "runs": [run("r-report", "report", state="cached")],
        },
        ("GET", f"{API}/runs/r-report/files"): {"items": [{**file, "name": n} for n in names], "next": None},
    }
    answers |= {("GET", f"{API}/runs/{one['id']}"): one for one in runs}
    answers |= {
        ("GET", f"{API}/artifacts/{key}"): {**examples.ARTIFACT_DETAIL, "run_id": "r-ingest", "attributes": about}
        for key, about in (ATTRIBUTES | {"K-scenes": {}} | (attributes or {})).items()
    }
    answers |= {
        ("GET", f"{API}/artifacts/K-figures/files/{name}"): httpx.Response(200, content=name.encode()) for name in names
    }
    return FakeApi(answers)


def picture(api: FakeApi, *arguments: str) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with api.client() as client:
        at = Shell(client, out=Console(file=out, width=200), err=Console(file=err, width=200))
        result = CliRunner().invoke(app, ["runs", "picture", *arguments], obj=at)
    said = err.getvalue() + result.stderr if result.exit_code else ""
    return result.exit_code, out.getvalue() + result.stdout + said


def asked(api: FakeApi) -> list[dict[str, Any]]:
    """The runs that were submitted."""
    (body,) = api.bodies()
    runs: list[dict[str, Any]] = body["runs"]
    return runs


def test_a_prediction_is_drawn_beside_the_2d_projection_of_its_own_experiment(tmp_path: Path) -> None:
    api = lab()
    status, out = picture(api, "r-predict", "--out", str(tmp_path / "new" / "folder"), "--json")
    assert status == 0, out
    text, report = asked(api)
    assert text["spec"] == {"stage": "pseudo_label", "filtering": False, "splits": ["test"]}
    wanted = {"scenes": "K-scenes", "embeddings": "K-embeddings", "text_embeddings": "K-text"}
    assert {port: source["artifact"] for port, source in text["inputs"].items()} == wanted
    assert report["spec"] == {"stage": "report", "splits": ["test"], "max_scenes": 3}
    assert report["inputs"] == {
        "scenes": {"artifact": "K-scenes"},
        "ground_truth": {"artifact": "K-truth"},
        "predictions.3d": {"artifact": "K-labels"},
        "predictions.2d_text": {"run": "label_text", "output": "labels"},
    }
    files = [str(tmp_path / "new" / "folder" / name) for name in ("segmentation.png", "room_1_3d.ply")]
    assert json.loads(out) == {"run": "r-report", "state": "cached", "files": files}
    assert Path(files[1]).read_text() == "room_1_3d.ply"


@pytest.mark.parametrize(
    "attributes",
    [
        {"K-embeddings": {"dimension": 768, "splits": SPLITS}},
        {"K-embeddings": {"dimension": 384, "splits": {"room_3": "train"}}},
    ],
    ids=["another space", "other scenes"],
)
def test_without_embeddings_that_fit_a_prediction_is_drawn_alone(
    tmp_path: Path, attributes: dict[str, dict[str, Any]]
) -> None:
    api = lab(attributes=attributes)
    assert picture(api, "r-predict", "--out", str(tmp_path))[0] == 0
    (report,) = asked(api)
    assert [port for port in report["inputs"] if port.startswith("predictions")] == ["predictions.3d"]
    alone = lab()
    assert picture(alone, "r-predict", "--out", str(tmp_path), "--without-2d", "--max-scenes", "1")[0] == 0
    assert [one["name"] for one in asked(alone)] == ["report"] and asked(alone)[0]["spec"]["max_scenes"] == 1


def test_filtered_pseudo_labels_are_drawn_beside_unfiltered_ones_and_these_alone(tmp_path: Path) -> None:
    api = lab()
    assert picture(api, "r-pseudo", "--splits", "train", "--out", str(tmp_path))[0] == 0
    text, report = asked(api)
    assert text["inputs"]["embeddings"] == {"artifact": "K-embeddings"} and text["spec"]["splits"] == ["train"]
    assert {"predictions.2d_filtered", "predictions.2d_text"} <= set(report["inputs"])
    unfiltered = lab([*RUNS[:4], {**RUNS[4], "spec": {"stage": "pseudo_label", "filtering": False}}])
    assert picture(unfiltered, "r-pseudo", "--out", str(tmp_path))[0] == 0
    (report,) = asked(unfiltered)
    assert report["inputs"]["predictions.2d_text"] == {"artifact": "K-2d"} and report["spec"]["splits"] == ["test"]


def test_an_evaluation_s_predictions_are_drawn_and_a_report_again_as_it_was(tmp_path: Path) -> None:
    api = lab()
    assert picture(api, "r-evaluate", "--out", str(tmp_path))[0] == 0
    (report,) = asked(api)
    assert report["spec"] == {"stage": "report", "splits": ["test"]}
    assert set(report["inputs"]) == {"scenes", "ground_truth", "predictions.ours"}
    spec = {"stage": "report", "splits": ["test"], "max_scenes": 7, "submission": "ours"}
    drawn = lab([{**RUNS[5], "id": "r-drawn", "stage": "report", "spec": spec}])
    assert picture(drawn, "r-drawn", "--out", str(tmp_path))[0] == 0
    assert asked(drawn)[0]["spec"] == spec


def test_a_run_that_is_at_work_is_waited_for(tmp_path: Path) -> None:
    api = lab()
    key = ("GET", f"{API}/runs/r-predict")
    api.answers[key] = [
        httpx.Response(200, json={**RUNS[3], "state": "running", "outputs": {}, "started_at": None}),
        httpx.Response(200, json=RUNS[3]),
    ]
    status, out = picture(api, "r-predict", "--out", str(tmp_path))
    assert status == 0 and "r-report (cached)" in out and f"{tmp_path} (1 coloured PLY files)" in out


def test_what_cannot_be_drawn_says_why_and_what_can(tmp_path: Path) -> None:
    api = lab()
    status, out = picture(api, "r-distill", "--out", str(tmp_path / "x"))
    assert status == 2 and not api.bodies() and not (tmp_path / "x").exists()
    assert "made network (checkpoint), which cannot be drawn" in out
    assert all(word in out for word in ("r-predict (predict, succeeded)", "r-pseudo", "r-evaluate"))
    alone = lab([{**RUNS[2], "experiment_id": None}])
    assert "draw a run of pseudo_label or predict" in picture(alone, "r-distill")[1]
    failed = lab([{**RUNS[3], "state": "failed", "reason": "the network is of another dimension"}])
    status, out = picture(failed, "r-predict")
    assert status == 2 and "is failed" in out and "another dimension" in out
    status, out = picture(lab(), "r-predict", "--splits", "train")
    assert status == 2 and "labelled scenes of test, none of train" in out
    status, out = picture(lab(), "r-nowhere")
    assert status == 5 and "[not_found]" in out


def test_a_report_that_fails_ends_the_command_with_its_reason(tmp_path: Path) -> None:
    api = lab()
    ended = run("r-report", "report", state="failed", reason="room_1: made for other points")
    api.answers["GET", f"{API}/experiments/e2"] = {**examples.EXPERIMENT, "runs": [ended]}
    status, out = picture(api, "r-predict", "--out", str(tmp_path / "x"))
    assert (
        status == 1 and "made for other points" in out and "runs logs r-report" in out and not (tmp_path / "x").exists()
    )

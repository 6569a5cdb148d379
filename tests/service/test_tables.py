"""`vlglab tables`: what it asks for, what it finds again, and what it prints beside the paper's rows."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service import examples
from service.cli.console import Shell
from service.cli.entry import app
from service.client import Client


class Lab:
    """A service whose experiments succeed at once; an experiment of seed s scores its recipe's mIoU + s / 100."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores
        self.experiments: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit status of a command, and what it printed."""
        out = io.StringIO()
        console = Console(file=out, width=250)
        with Client("http://127.0.0.1:1", transport=httpx.MockTransport(self._answer)) as client:
            got = CliRunner().invoke(app, ["tables", *arguments], obj=Shell(client, out=console, err=console))
        return got.exit_code, out.getvalue() + got.stderr

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        if request.method == "POST":
            return httpx.Response(201, json=self._submitted(json.loads(request.content)))
        if path == "/datasets":
            sets = (("offices", "s3dis13"), ("homes", "scannet20"))
            items = [{**examples.DATASET, "name": name, "label_set": labels} for name, labels in sets]
        elif path == "/experiments":
            items = [{k: v for k, v in e.items() if k != "runs"} for e in self.experiments.values()]
        elif path.endswith("/evaluations"):
            items = self._evaluations(self.experiments[path.split("/")[2]])
        else:
            return httpx.Response(200, json=self.experiments[path.split("/")[2]])
        return httpx.Response(200, json={"items": items, "next": None})

    def _submitted(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        made = {**examples.EXPERIMENT, "id": f"e{len(self.experiments):019}", "request": body, "name": body["name"]}
        made |= {"recipe": body.get("recipe", ""), "dataset": body.get("dataset", ""), "preset": body.get("preset", "")}
        names = [run["name"] for run in body.get("runs", [])] or list(RUNS)
        runs = [
            {**examples.RUN, "id": f"{made['id']}-{name}", "name": name, "spec": RUNS.get(name, {})} for name in names
        ]
        self.experiments[made["id"]] = {**made, "state": "succeeded", "runs": runs}
        return self.experiments[made["id"]]

    def _evaluations(self, experiment: dict[str, Any]) -> list[dict[str, Any]]:
        recipe, seed = experiment["recipe"], experiment["request"].get("seed", 0)
        name = {"supervised": "supervised", "": "moved"}.get(recipe, "ours")
        classes = [{"name": n, "iou": v, "accuracy": v, "num_points": 9} for n, v in CLASSES.items()]
        row = {**examples.EVALUATION, "run_id": f"{experiment['id']}-evaluate", "prediction": name, "classes": classes}
        miou = self.scores[recipe] + seed / 100
        return [{**row, "subset": subset, "miou": miou - less} for subset, less in (("all", 0), ("covered", 0.1))]


RUNS: dict[str, dict[str, Any]] = {
    "ingest": {}, "embed_labels": {}, "extract": {}, "distill": {}, "predict": {"stage": "predict"},
    "evaluate": {"stage": "evaluate"},
}  # fmt: skip
CLASSES = {"wall": 0.5, "floor": 0.9, "clutter": 0.1, "beam": None}
TABLE_3 = {"ablation-a": 0.2, "ablation-b": 0.25, "ablation-c": 0.3, "3dss-vlg": 0.4, "supervised": 0.7}


def row_of(printed: str, label: str) -> list[str]:
    line = next(line for line in printed.splitlines() if line.startswith(label))
    return re.split(r" {2,}", line.strip())


def test_table_3_prints_mean_and_deviation_of_its_seeds_beside_the_paper_s() -> None:
    lab = Lab(TABLE_3)
    status, out = lab.run("3", "--dataset", "offices", "--seeds", "3", "--preset", "demo")
    assert status == 0, out
    assert row_of(out, "(b)")[1:3] == ["38.2", "26.0 ± 1.0"]
    assert row_of(out, "(d)")[1:3] == ["45.3", "41.0 ± 1.0"]
    assert row_of(out, "supervised")[1:3] == ["-", "71.0 ± 1.0"]
    assert row_of(out, "(a)")[4] == "70.0 ± 0.0", "the mean without clutter, over the classes that occur"
    assert sorted((b["recipe"], b["seed"]) for b in lab.asked) == sorted((r, s) for r in TABLE_3 for s in range(3))
    assert {b["preset"] for b in lab.asked} == {"demo"}


def test_what_was_asked_for_before_is_found_again_and_what_failed_is_not() -> None:
    lab = Lab(TABLE_3)
    lab.run("3", "--dataset", "offices")
    assert len(lab.asked) == 5
    assert lab.run("3", "--dataset", "offices")[0] == 0 and len(lab.asked) == 5
    next(iter(lab.experiments.values()))["state"] = "failed"
    assert lab.run("3", "--dataset", "offices")[0] == 0 and len(lab.asked) == 6
    assert lab.run("3", "--dataset", "homes")[0] == 0 and len(lab.asked) == 11


def test_table_5_changes_one_field_a_row_and_shares_the_row_of_the_paper_s_own_choice() -> None:
    lab = Lab(TABLE_3)
    status, out = lab.run("5", "--dataset", "offices")
    assert status == 0, out
    assert [body["overrides"] for body in lab.asked] == [
        {"distill.network.arch": "MinkUNet14A"},
        {},
        {"distill.network.arch": "MinkUNet34A"},
        {"specialize.adapter.kind": "transformer"},
    ]
    assert row_of(out, "adapter: transformer")[1:3] == ["45.0", "40.0"]


@pytest.mark.parametrize(("number", "theirs"), [("1", ["MIT", "27.7"]), ("2", ["WYPR", "29.6"])])
def test_tables_1_and_2_print_the_published_rows_and_ours(number: str, theirs: list[str]) -> None:
    status, out = Lab({**TABLE_3, "cam": 0.15}).run(number, "--dataset", "offices")
    assert status == 0, out
    printed = row_of(out, theirs[0] + " ")
    assert theirs[1] in printed and "scene" in printed
    assert "40.0" in row_of(out, "3DSS-VLG (ours)") and "15.0" in row_of(out, "CAM")
    assert "100%" in row_of(out, "MinkowskiNet (ours)")


def test_table_4_predicts_the_other_dataset_by_its_own_text_and_the_first_one_s_network() -> None:
    lab = Lab({"3dss-vlg": 0.4, "": 0.12})
    status, out = lab.run("4", "--dataset", "offices", "--target", "homes")
    assert status == 0, out
    assert row_of(out, "offices -> homes")[1:3] == ["13.4", "12.0"]
    assert row_of(out, "homes -> offices")[1:3] == ["33.3", "12.0"]
    moved = next(body for body in lab.asked if "runs" in body)
    trained, native = (
        next(e for e in lab.experiments.values() if e["dataset"] == d)["id"] for d in ("offices", "homes")
    )
    inputs = moved["runs"][0]["inputs"]
    assert inputs["network"]["run"] == f"{trained}-distill"
    assert (
        inputs["scenes"]["run"] == f"{native}-ingest" and inputs["text_embeddings"]["run"] == f"{native}-embed_labels"
    )
    before = len(lab.asked)
    assert lab.run("4", "--dataset", "offices", "--target", "homes")[0] == 0 and len(lab.asked) == before


def test_the_encoder_is_chosen_for_every_row_and_the_row_s_own_change_stays() -> None:
    lab = Lab(TABLE_3)
    assert lab.run("5", "--dataset", "offices", "--encoder", "openseg")[0] == 0
    assert all(body["overrides"]["extract.encoder.name"] == "openseg" for body in lab.asked)
    assert lab.asked[0]["overrides"]["distill.network.arch"] == "MinkUNet14A"
    assert lab.run("5", "--dataset", "offices", "--encoder", "opensegg")[0] == 1


def test_json_holds_every_seed_s_score_and_run() -> None:
    lab = Lab(TABLE_3)
    status, out = lab.run("3", "--dataset", "offices", "--seeds", "2", "--json")
    assert status == 0, out
    rows = {row["label"]: row for row in json.loads(out)["rows"]}
    assert rows["(a)"]["miou"] == pytest.approx([0.2, 0.21])
    assert len(set(rows["(a)"]["runs"])) == 2 and rows["(a)"]["paper"] == 37.7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("4", "--dataset", "offices"), "takes? no --target|--target"),
        (("3", "--dataset", "offices", "--target", "homes"), "no --target"),
        (("4", "--dataset", "offices", "--target", "sheds"), "two registered datasets"),
    ],
)
def test_wrong_questions_are_refused_before_anything_is_submitted(arguments: tuple[str, ...], said: str) -> None:
    lab = Lab(TABLE_3)
    status, out = lab.run(*arguments)
    assert status == 1 and re.search(said, out)
    assert not lab.asked

"""A service that only `vlglab tables` speaks to: experiments end when they are read, and score what a test says."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
from rich.console import Console
from typer.testing import CliRunner

from service import examples
from service.cli.console import Shell
from service.cli.entry import app
from service.client import Client

LIVING = ("queued", "running")
RUNS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "ingest": ({}, ("scenes", "ground_truth")),
    "embed_labels": ({}, ("text_embeddings",)),
    "extract": ({}, ("embeddings",)),
    "distill": ({}, ("network",)),
    "predict": ({"stage": "predict"}, ("labels",)),
    "evaluate": ({"stage": "evaluate"}, ("evaluation",)),
}
"""Run -> its spec and its outputs."""
CLASSES = {"wall": 0.5, "floor": 0.9, "clutter": 0.1, "beam": None}
SCORES = {
    "ablation-a": 0.2,
    "ablation-b": 0.25,
    "ablation-c": 0.3,
    "3dss-vlg": 0.4,
    "supervised": 0.7,
    "cam": 0.15,
    "": 0.12,
}


class Lab:
    """A service that ends an experiment when its runs are first read; of seed s it scores its recipe's mIoU + s / 100.

    It refuses what a lab must never have: two living experiments that ask for the same.
    """

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores
        self.experiments: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.ends: dict[str, str] = {}
        """Recipe -> how its experiments end, where that is not well."""
        self.ends_of: dict[tuple[str, int], str] = {}
        """Dataset and seed -> the same."""
        self.points: dict[str, int] = {}
        """Recipe -> points that its evaluations scored, where that is another number than for the others."""
        self.gone_after: int | None = None
        """Submissions after which nothing answers any more, as when the command is killed there."""

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit status of a command, and what it printed."""
        out = io.StringIO()
        console = Console(file=out, width=250)
        with Client("http://127.0.0.1:1", transport=httpx.MockTransport(self._answer)) as client:
            got = CliRunner().invoke(app, ["tables", *arguments], obj=Shell(client, out=console, err=console))
        assert got.exception is None or isinstance(got.exception, SystemExit), got.exception
        return got.exit_code, out.getvalue() + got.stdout + got.stderr

    def document(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        status, out = self.run(*arguments, "--json")
        assert status == 0, out
        return json.loads(out[out.index("{\n") :])

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        if request.method == "POST":
            if self.gone_after is not None and len(self.asked) >= self.gone_after:
                raise httpx.ConnectError("killed")
            return httpx.Response(201, json=self._submitted(json.loads(request.content)))
        if path.startswith("/datasets/"):
            return self._dataset(path.removeprefix("/datasets/"))
        if path == "/experiments":
            items = [{k: v for k, v in e.items() if k != "runs"} for e in reversed(self.experiments.values())]
        elif path.endswith("/evaluations"):
            items = self._evaluations(self.experiments[path.split("/")[2]])
        else:
            return httpx.Response(200, json=self._read(self.experiments[path.split("/")[2]]))
        return httpx.Response(200, json={"items": items, "next": None})

    def _dataset(self, name: str) -> httpx.Response:
        kinds = {
            "offices": ("synthrooms", "s3dis13"),
            "homes": ("synthrooms", "scannet20"),
            "lidar": ("clouds", "s3dis13"),
        }
        if name not in kinds:
            problem = {**examples.PROBLEM, "status": 404, "code": "not_found", "detail": f"no dataset {name}"}
            return httpx.Response(404, json=problem)
        kind, labels = kinds[name]
        return httpx.Response(200, json={**examples.DATASET, "name": name, "kind": kind, "label_set": labels})

    def _submitted(self, body: dict[str, Any]) -> dict[str, Any]:
        asks = {k: v for k, v in body.items() if k != "name"}
        twins = [e["id"] for e in self.experiments.values() if e["state"] in LIVING and e["asks"] == asks]
        assert not twins, f"{twins} are in progress and ask for the same"
        self.asked.append(body)
        made = {**examples.EXPERIMENT, "id": f"e{len(self.experiments):019}", "request": body, "name": body["name"]}
        made |= {"recipe": body.get("recipe", ""), "dataset": body.get("dataset", ""), "preset": body.get("preset", "")}
        names = [run["name"] for run in body.get("runs", [])] or list(RUNS)
        runs = [self._run(f"{made['id']}-{name}", name, body) for name in names]
        score = self.scores[made["recipe"]] + body.get("seed", 0) / 100
        self.experiments[made["id"]] = {**made, "state": "queued", "runs": runs, "asks": asks, "score": score}
        return self.experiments[made["id"]]

    def _run(self, run_id: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """A waiting run; what it gives is named by what was asked for, as an artifact's key is."""
        spec, outputs = RUNS.get(name, ({}, ()))
        keys = {output: f"{output} of {body.get('dataset')} {body.get('seed')}" for output in outputs}
        return {**examples.RUN, "id": run_id, "name": name, "state": "queued", "spec": spec, "outputs": keys}

    def _read(self, experiment: dict[str, Any]) -> dict[str, Any]:
        """An experiment as it is now; by the next reading it has ended."""
        shown = json.loads(json.dumps(experiment))
        if experiment["state"] in LIVING:
            end = self.ends.get(experiment["recipe"], "succeeded")
            end = self.ends_of.get((experiment["dataset"], experiment["request"].get("seed")), end)
            experiment["state"] = end
            for run in experiment["runs"]:
                run["state"] = end
        return shown

    def _evaluations(self, experiment: dict[str, Any]) -> list[dict[str, Any]]:
        recipe = experiment["recipe"]
        name = {"supervised": "supervised", "": "moved"}.get(recipe, "ours")
        classes = [{"name": n, "iou": v, "accuracy": v, "num_points": 9} for n, v in CLASSES.items()]
        row = {**examples.EVALUATION, "run_id": f"{experiment['id']}-evaluate", "prediction": name, "classes": classes}
        row["num_points"] = self.points.get(recipe, row["num_points"])
        subsets = (("all", 0.0), ("covered", 0.1))
        return [{**row, "subset": subset, "miou": experiment["score"] - less} for subset, less in subsets]

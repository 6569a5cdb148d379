"""docs/feature-stores.md, run from top to bottom between two services: one has computed features, the other pulls."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service import schemas
from service.cli import local_service
from service.cli.local_service import LocalService
from service.client import Client
from tests.journey.conftest import TINY_ROOMS, ended

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "feature-stores.md").read_text(encoding="utf-8")
THEIRS = "http://lab.example.org:8765"
PAGE_S = 600


@dataclass
class Labs:
    """Two labs, and what the page's reader fills in."""

    theirs: Client
    ours: Client
    home: Path
    filled: dict[str, str]

    def fill(self, text: str) -> str:
        for name, value in self.filled.items():
            text = re.sub(rf"\b{name}\b(?!\")", value, text) if name.isupper() else text.replace(name, value)
        return text


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    folder = tmp_path_factory.mktemp("labs")
    variables = {"VLGLAB_THREADS": "1", "VLGLAB_LEASE_S": "60"}
    pulls = variables | {"VLGLAB_PULL_HOSTS": '["127.0.0.1"]'}
    with (
        LocalService(folder / "theirs", variables=variables) as one,
        LocalService(folder / "ours", variables=pulls) as other,
        one.client() as theirs,
        other.client() as ours,
    ):
        yield Labs(theirs, ours, folder / "ours", {THEIRS: theirs.url} | computed(theirs))


def computed(client: Client) -> dict[str, str]:
    """What the other lab has: name of the page -> key."""
    dataset = schemas.DatasetRequest(name="tiny", kind="synthrooms", label_set="s3dis13", options=TINY_ROOMS)
    client.add_dataset(dataset)
    lifting = {"width": 160, "height": 120, "depth_tolerance": 0.25, "border_px": 4}
    plan = {
        "name": "features",
        "runs": [
            {"name": "ingest", "spec": {"stage": "ingest", "label_set": "s3dis13"}, "dataset": "tiny"},
            {"name": "words", "spec": {"stage": "embed_labels", "label_set": "s3dis13"}},
            {
                "name": "extract",
                "spec": {"stage": "extract", "lifting": lifting},
                "dataset": "tiny",
                "inputs": {"scenes": {"run": "ingest", "output": "scenes"}},
            },
        ],
    }
    made = client.submit(schemas.RunListRequest.model_validate(plan))
    runs = ended(client, made.id)
    assert {run.state for run in runs.values()} == {"succeeded"}, runs
    return {
        "SCENES": runs["ingest"].outputs["scenes"],
        "TEXT": runs["words"].outputs["text_embeddings"],
        "EMBEDDINGS": runs["extract"].outputs["embeddings"],
    }


def commands() -> list[str]:
    """What stands after the dollars; settings and the service are the test's."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if not line.startswith("export ") and line != "vlglab serve &"]


def written(folder: Path) -> list[str]:
    """The page's Python; what has a file's name before it is written to a folder, and not among what is returned."""
    blocks = re.findall(r"(?:`(\w+\.py)`:\n\n)?```python\n(.*?)```", PAGE, re.DOTALL)
    for name, content in blocks:
        if name:
            (folder / name).write_text(content)
    return [content for name, content in blocks if not name]


@pytest.fixture
def shell(tmp_path: Path, labs: Labs) -> dict[str, str]:
    if shutil.which("bash") is None:
        pytest.skip("the page needs bash, which this machine has not")
    vlglab = tmp_path / "bin" / "vlglab"
    vlglab.parent.mkdir()
    vlglab.write_text(f'#!/bin/sh\nexec {" ".join(local_service.command())} "$@"\n')
    vlglab.chmod(0o755)
    python = vlglab.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    ((name, content),) = re.findall(r"`([\w.]+)`:\n\n```json\n(.*?)```", PAGE, re.DOTALL)
    document = json.loads(content)
    for run in document["runs"]:
        for source in run["inputs"].values():
            if "artifact" in source:
                source["artifact"] = labs.filled[source["artifact"]]
    (tmp_path / name).write_text(json.dumps(document))
    root = str(Path(__file__).resolve().parents[2])
    path = f"{vlglab.parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": root, "VLGLAB_URL": labs.ours.url, "SOURCE": labs.theirs.url}
    own |= {"VLGLAB_HOME": str(labs.home), "VLGLAB_PULL_HOSTS": '["127.0.0.1"]'}
    return {**os.environ, **own, "STORE": str(labs.home / "store"), "EMBEDDINGS": labs.filled["EMBEDDINGS"]}


@pytest.mark.slow
@pytest.mark.timeout(2 * PAGE_S)
def test_the_page_from_nothing_to_training_on_another_lab_s_features(
    labs: Labs, shell: dict[str, str], tmp_path: Path
) -> None:
    script = "\n".join(["set -euxo pipefail", *map(labs.fill, commands())])
    assert script.count("features pull") == 3 and "submit-plan" in script and "repair" in script
    done = subprocess.run(
        ["bash", "-c", script], env=shell, cwd=tmp_path, capture_output=True, text=True, timeout=PAGE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for key in (labs.filled["SCENES"], labs.filled["TEXT"], labs.filled["EMBEDDINGS"]):
        (here, there) = (client.artifact(key) for client in (labs.ours, labs.theirs))
        assert (here.manifest_digest, here.parts) == (there.manifest_digest, there.parts)
    (imported,) = labs.ours.runs(stage="import_features")
    (there, again) = (labs.ours.feature(key) for key in (labs.filled["EMBEDDINGS"], imported.outputs["embeddings"]))
    assert (again.dtype, again.num_covered, again.dimension) == ("int8", there.num_covered, there.dimension)
    (trained,) = labs.ours.runs(stage="specialize")
    assert trained.state == "succeeded"
    assert [run.state for run in labs.ours.runs(stage="repair")] == ["succeeded"]
    snippets = written(tmp_path)
    assert len(snippets) == 4
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-c", snippet], env=shell, cwd=tmp_path, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert "384" in done.stdout or "float16" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(2 * PAGE_S)
def test_a_lab_that_has_the_images_makes_a_damaged_scene_again(labs: Labs) -> None:
    theirs, key = labs.theirs, labs.filled["EMBEDDINGS"]
    part = theirs.artifact(key).parts[0]
    chunk = labs.home.parent / "theirs" / "store" / "parts" / part.key[:2] / part.key / "embeddings" / "c" / "0" / "0"
    whole = chunk.read_bytes()
    look = {"spec": {"stage": "verify", "recompute": 2}, "inputs": {"artifact": {"artifact": key}}, "dataset": "tiny"}
    mend = {"spec": {"stage": "repair", "artifact": key}, "dataset": "tiny"}

    def ended_as(request: dict[str, Any]) -> tuple[str, str | None]:
        run = theirs.wait(theirs.submit_run(schemas.RunRequest.model_validate({"name": "trust", **request})))
        return run.state, run.reason_code

    assert ended_as(look) == ("succeeded", None)
    chunk.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    assert ended_as(look) == ("failed", "store_corrupt")
    assert ended_as(mend) == ("succeeded", None)
    assert chunk.read_bytes() == whole
    assert ended_as(look) == ("succeeded", None)


@pytest.mark.slow
@pytest.mark.timeout(2 * PAGE_S)
def test_a_pull_that_was_done_is_cached_and_one_of_some_scenes_is_another_artifact(labs: Labs) -> None:
    spec = {"stage": "pull", "source": labs.theirs.url, "artifact": labs.filled["EMBEDDINGS"]}
    labs.ours.wait(labs.ours.submit_run(schemas.RunRequest(name="pull", spec=spec)))
    again = labs.ours.wait(labs.ours.submit_run(schemas.RunRequest(name="pull", spec=spec)))
    assert (again.state, again.outputs) == ("cached", {"embeddings": labs.filled["EMBEDDINGS"]})
    scene = labs.ours.artifact(labs.filled["EMBEDDINGS"]).parts[0].scene
    some = labs.ours.submit_run(schemas.RunRequest(name="pull", spec={**spec, "scenes": [scene]}))
    made = labs.ours.wait(some)
    found = labs.ours.artifact(made.outputs["embeddings"])
    assert [part.scene for part in found.parts] == [scene] and found.key != labs.filled["EMBEDDINGS"]

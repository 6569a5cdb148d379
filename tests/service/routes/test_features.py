"""Artifacts over HTTP: what they are, and the plain files that they hold, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.artifacts.store import ArtifactManifest
from storage.records import leases

LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}
KEY = "0123456789abcdef" * 2
PICTURE = bytes(range(256)) * 40


@pytest.fixture
def figures(api: Any, worker: Any) -> str:
    """The key of published figures; the run that made them."""
    api.post("/runs", LABELS)
    claim = worker.claim()
    files = {"segmentation.png": PICTURE, "room_1_ours.ply": b"ply\n"}
    worker.publish(claim, KEY, "figures", files)
    leases.succeed(worker.db, claim.token, {"text_embeddings": KEY}, cached=False)
    return KEY


def test_the_files_of_a_run_can_be_fetched(api: Any, figures: str) -> None:
    run = api.get("/runs")["items"][0]
    found = {file["name"]: file for file in api.get(f"/runs/{run['id']}/files")["items"]}
    assert set(found) == {"segmentation.png", "room_1_ours.ply"}
    picture = found["segmentation.png"]
    assert (picture["num_bytes"], picture["artifact_key"]) == (len(PICTURE), figures)
    answer = api.http.get(picture["url"])
    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["content-type"] == "image/png"
    assert Path(picture["path"]).read_bytes() == PICTURE
    assert api.http.get(found["room_1_ours.ply"]["url"]).content == b"ply\n"


def test_a_piece_of_a_file_can_be_fetched(api: Any, figures: str) -> None:
    url = f"/api/v1/artifacts/{figures}/files/segmentation.png"
    answer = api.http.get(url, headers={"Range": "bytes=300-309"})
    assert (answer.status_code, answer.content) == (206, PICTURE[300:310])
    assert answer.headers["content-range"] == f"bytes 300-309/{len(PICTURE)}"
    beyond = api.http.get(url, headers={"Range": f"bytes={len(PICTURE)}-"})
    assert beyond.status_code == 416


@pytest.mark.parametrize(
    "name", ["nothing.png", "../manifest.json", "..%2Fmanifest.json", "%2Fetc%2Fpasswd", "zarr.json", "a/../../b", "."]
)
def test_only_files_of_the_manifest_are_served(api: Any, figures: str, name: str) -> None:
    answer = api.http.get(f"/api/v1/artifacts/{figures}/files/{name}")
    assert answer.status_code == 404
    assert api.problem(answer)["code"] == "not_found"


def test_an_artifact_that_is_not_there(api: Any) -> None:
    for key in ("f" * 32, "..", "x"):
        assert api.http.get(f"/api/v1/artifacts/{key}").status_code == 404
        assert api.http.get(f"/api/v1/artifacts/{key}/files/a.png").status_code == 404


def test_an_artifact_that_no_run_recorded_is_not_visible(api: Any, worker: Any) -> None:
    store, key = worker.parts.store, "b" * 32
    with store.write_part(key, kind="figures", scene="", token="c" * 32) as part:
        part.path("a.png").write_bytes(b"x")
    manifest = ArtifactManifest(key, "figures", "report", "figures", {}, {}, (store.entry(key),))
    store.publish(manifest, token="c" * 32)
    assert api.get(f"/artifacts/{key}", status=404)["code"] == "not_found"
    assert api.http.get(f"/api/v1/artifacts/{key}/files/a.png").status_code == 404


def test_an_artifact_of_a_newer_format_is_a_conflict_that_says_to_upgrade(api: Any, figures: str) -> None:
    (run,) = api.get("/runs")["items"]
    store = api.parts.store
    of_artifact, of_part = store.artifact_path(figures), store.part_path(figures[::-1]) / "manifest.json"
    for manifest in (of_part, of_artifact):
        manifest.write_text('{"format_version": 99}')
        for path in (
            f"/artifacts/{figures}",
            f"/artifacts/{figures}/files/segmentation.png",
            f"/runs/{run['id']}/files",
        ):
            problem = api.get(path, status=409)
            assert problem["code"] == "format_too_new"
            assert "upgrade vlglab" in problem["detail"]


def test_an_artifact_shows_its_parts(api: Any, figures: str) -> None:
    found = api.get(f"/artifacts/{figures}")
    assert (found["kind"], found["num_scenes"], len(found["parts"]), len(found["files"])) == ("figures", 0, 1, 2)
    assert found["parts"][0]["key"] == figures[::-1]
    listed = api.get("/artifacts", kind="figures")["items"]
    assert [a["key"] for a in listed] == [figures]
    assert api.get("/artifacts", kind="labels")["items"] == []


def test_features_say_how_they_were_made(api: Any, worker: Any, figures: str) -> None:
    api.post("/runs", LABELS)
    claim = worker.claim()
    arrays = {
        "embeddings": np.zeros((2, 4), np.float16),
        "point_index": np.array([0, 2], np.int64),
        "views": np.zeros(3, np.uint16),
    }
    how = {
        "dataset": "offices",
        "encoder_title": "mini",
        "weights_digest": "w",
        "dimension": 4,
        "lifting": {"width": 320},
    }
    worker.publish(claim, "f0" * 16, "embeddings", None, arrays, **how)
    (found,) = api.get("/features")["items"]
    assert found["key"] == "f0" * 16
    assert {name: found[name] for name in how} == how
    assert (found["num_scenes"], found["num_points"], found["run_id"]) == (1, 3, claim.run_id)
    assert api.get(f"/artifacts/{found['key']}")["parts"][0]["scene"] == "room_1"

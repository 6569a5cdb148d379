"""The store's files over HTTP: whole, in pieces, under conditions; and nothing but them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pytest

from storage.records import features, leases, part_index
from storage.records.features import Finding
from storage.records.keeping_tables import ArtifactUseRow

KEY, PART = "0123456789abcdef" * 2, ("0123456789abcdef" * 2)[::-1]
URL = f"/api/v1/store/parts/{PART[:2]}/{PART}"
MANIFEST = f"/api/v1/store/artifacts/{KEY}/manifest.json"


@pytest.fixture
def part(api: Any, worker: Any) -> Path:
    """The folder of the one part of published embeddings."""
    api.post("/runs", {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}})
    claim = worker.claim()
    arrays = {
        "embeddings": np.arange(8, dtype=np.float16).reshape(2, 4),
        "point_index": np.array([0, 2], np.int64),
        "views": np.zeros(3, np.uint16),
    }
    worker.publish(claim, KEY, "embeddings", None, arrays)
    leases.succeed(worker.db, claim.token, {"text_embeddings": KEY}, cached=False)
    folder: Path = api.parts.store.part_path(PART)
    return folder


def test_every_file_of_a_part_is_there_as_it_lies_on_the_disk(api: Any, part: Path) -> None:
    names = [path.relative_to(part).as_posix() for path in sorted(part.rglob("*")) if path.is_file()]
    assert {"manifest.json", "zarr.json", "embeddings/zarr.json", "embeddings/c/0/0"} <= set(names)
    for name in names:
        content = (part / name).read_bytes()
        answer = api.http.get(f"{URL}/{name}")
        assert (answer.status_code, answer.content) == (200, content), name
        assert answer.headers["etag"] == f'"{blake3.blake3(content).hexdigest()}"'
        assert "immutable" in answer.headers["cache-control"] and "private" in answer.headers["cache-control"]
        head = api.http.head(f"{URL}/{name}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(content)) and head.headers["etag"] == answer.headers["etag"]
        known = api.http.get(f"{URL}/{name}", headers={"If-None-Match": f'"x", W/{answer.headers["etag"]}'})
        assert (known.status_code, known.content) == (304, b"")
        assert api.http.get(f"{URL}/{name}", headers={"If-None-Match": '"x"'}).status_code == 200


def test_a_manifest_is_what_the_database_has_the_digest_of(api: Any, part: Path) -> None:
    with api.parts.db.read() as session:
        assert session.get(ArtifactUseRow, KEY) is None
    answer = api.http.get(MANIFEST)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["parts"][0]["key"] == PART
    digest = blake3.blake3(answer.content).hexdigest()
    assert api.get(f"/artifacts/{KEY}")["manifest_digest"] == digest
    with api.parts.db.read() as session:
        assert session.get(ArtifactUseRow, KEY) is not None, "somebody has read it"
    assert api.http.get(MANIFEST, headers={"If-None-Match": f'"{digest}"'}).status_code == 304
    assert api.http.head(MANIFEST).headers["content-length"] == str(len(answer.content))


def test_pieces(api: Any, part: Path) -> None:
    content, url = (part / "embeddings/c/0/0").read_bytes(), f"{URL}/embeddings/c/0/0"
    etag = api.http.head(url).headers["etag"]
    for given, piece in (("2-5", content[2:6]), ("4-", content[4:]), ("-3", content[-3:])):
        answer = api.http.get(url, headers={"Range": f"bytes={given}", "If-Range": etag})
        assert (answer.status_code, answer.content) == (206, piece)
    whole = api.http.get(url, headers={"Range": "bytes=2-5", "If-Range": '"another"'})
    assert (whole.status_code, whole.content) == (200, content)
    assert api.http.get(url, headers={"Range": f"bytes={len(content)}-"}).status_code == 416


@pytest.mark.parametrize(
    "name",
    [
        "../../../../vlglab.db", "..%2f..%2f..%2f..%2fvlglab.db", "%2e%2e/manifest.json", "/etc/passwd", "zarr.json/",
        "embeddings", "embeddings/c/9/0", "", ".", "zarr.json%00", "files/x", "c:/x", "embeddings//zarr.json",
    ],
)  # fmt: skip
def test_nothing_else_is(api: Any, part: Path, name: str) -> None:
    (part / "left.txt").write_text("never published")
    for path in (f"{URL}/{name}", f"{URL}/left.txt"):
        answer = api.http.get(path)
        assert answer.status_code == 404
        assert "never published" not in answer.text and b"SQLite" not in answer.content


@pytest.mark.parametrize(
    "path", [f"parts/00/{PART}/zarr.json", "parts/../artifacts/x", f"parts/{PART[:2]}/x/zarr.json"]
)
def test_parts_and_artifacts_that_are_not_there(api: Any, part: Path, path: str) -> None:
    assert api.http.get(f"/api/v1/store/{path}").status_code == 404
    assert api.http.get(f"/api/v1/store/artifacts/{'f' * 32}/manifest.json").status_code == 404


def test_a_part_of_a_newer_format_is_a_conflict(api: Any, part: Path) -> None:
    (part / "manifest.json").write_text(json.dumps({"format_version": 99}))
    answer = api.http.get(f"{URL}/zarr.json")
    assert answer.status_code == 409 and api.problem(answer)["code"] == "format_too_new"


@pytest.mark.parametrize("stage", ["pull", "repair"])
def test_sources_are_checked_before_anything_is_queued(api: Any, stage: str) -> None:
    spec = {"stage": stage, "source": "http://169.254.169.254/x", "artifact": KEY}
    for path, body in (("/runs", {"spec": spec}), ("/experiments", {"name": "x", "runs": [{"spec": spec}]})):
        problem = api.post(path, body, 422)
        assert problem["code"] == "invalid_input" and "VLGLAB_PULL_HOSTS" in problem["detail"]
    for source in ("ftp://x/", "http://u:p@x/", "file:///etc", ""):
        assert api.post("/runs", {"spec": {**spec, "source": source}}, 422)["code"] == "spec_invalid"
    assert api.get("/runs")["items"] == []


def test_a_manifest_that_was_changed_on_the_disk_is_not_given(api: Any, worker: Any, part: Path) -> None:
    path = worker.parts.store.artifact_path(KEY)
    whole = path.read_bytes()
    assert b'"spec":{}' in whole
    path.write_bytes(whole.replace(b'"spec":{}', b'"spec":{"x":1}'))
    answer = api.http.get(MANIFEST)
    problem = api.problem(answer)
    assert (answer.status_code, problem["code"]) == (500, "store_corrupt")
    assert f"the manifest of the artifact {KEY} was changed" in problem["detail"]
    path.write_bytes(whole)
    assert api.http.get(MANIFEST).status_code == 200


@pytest.mark.parametrize("damage", ["gone", "shorter", "longer"])
def test_a_file_that_is_not_as_long_as_it_was_is_named_and_not_given(api: Any, part: Path, damage: str) -> None:
    chunk = part / "embeddings/c/0/0"
    content = chunk.read_bytes()
    etag = api.http.get(f"{URL}/embeddings/c/0/0").headers["etag"]
    if damage == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(content[:-1] if damage == "shorter" else content + b"x")
    for given in ({}, {"Range": "bytes=1-2"}, {"If-None-Match": etag}):
        answer = api.http.get(f"{URL}/embeddings/c/0/0", headers=given)
        problem = api.problem(answer)
        assert (answer.status_code, problem["code"], problem["scene"]) == (500, "store_corrupt", "room_1")
        assert f"embeddings/c/0/0 of the part {PART}" in problem["detail"] and "features repair" in problem["detail"]
        assert "immutable" not in answer.headers.get("cache-control", "")
    assert api.http.get(f"{URL}/zarr.json").status_code == 200


def test_files_of_a_part_that_did_not_verify_are_not_said_to_be_what_was_published(
    api: Any, worker: Any, part: Path
) -> None:
    url, chunk = f"{URL}/embeddings/c/0/0", part / "embeddings/c/0/0"
    content = chunk.read_bytes()
    published = api.http.get(url).headers["etag"]
    chunk.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    def found(*faults: str) -> None:
        with worker.db.write() as session:
            features.record_finding(session, KEY, "rv", Finding.of(faults))

    for _ in range(2):
        found("embeddings/c/0/0 was changed")
        answer = api.http.get(url, headers={"If-None-Match": published})
        assert (answer.status_code, answer.content) == (200, chunk.read_bytes()), "it may have been taken when damaged"
        assert answer.headers["etag"] != published and answer.headers["cache-control"] == "private, no-store"
        part_index.update(worker.db, worker.parts.store)
    chunk.write_bytes(content)
    found()
    answer = api.http.get(url)
    assert answer.headers["etag"] == published and "immutable" in answer.headers["cache-control"]

"""Feature stores over HTTP: found, compared, and verified by a run of the real worker."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from service.dependencies import Parts
from storage.artifacts.zarr_store import ZarrStore
from storage.records import leases
from storage.settings import Settings
from tests.service.conftest import ADDRESS
from workers.run import run_once

LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}
A, B = "a0" * 16, "b1" * 16
HOW = {
    "dataset": "offices", "encoder": {"name": "mini"}, "encoder_title": "mini", "weights_digest": "w", "dimension": 4,
    "lifting": {"width": 320}, "num_covered": 2, "splits": {"room_1": "train"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A run sets its own handler of SIGTERM; the tests' process gets back what it had."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def arrays(seed: int = 0) -> dict[str, Any]:
    values = np.random.default_rng(seed).normal(size=(2, 4)).astype(np.float16)
    return {"embeddings": values, "point_index": np.array([0, 2]), "views": np.array([1, 0, 2], np.uint16)}


@pytest.fixture
def stores(api: Any, worker: Any) -> tuple[str, str]:
    """Two feature stores of one scene, each of a run of its own."""
    for key, seed, width in ((A, 0, 320), (B, 1, 640)):
        api.post("/runs", LABELS | {"name": key[:2]})
        claim = worker.claim()
        worker.publish(claim, key, "embeddings", None, arrays(seed), **HOW | {"lifting": {"width": width}})
        leases.fail(worker.db, claim.token, "x", "its other outputs do not matter here")
    return A, B


def test_lists_and_filters(api: Any, stores: tuple[str, str]) -> None:
    assert [one["key"] for one in api.get("/features")["items"]] == [B, A]
    first = api.get("/features", limit=1)
    assert [one["key"] for one in api.get("/features", limit=1, cursor=first["next"])["items"]] == [A]
    (found,) = api.get("/features", text=A[:10], dataset="offices", encoder="mini", dimension=4)["items"]
    assert {name: found[name] for name in ("encoder", "splits", "num_covered", "dtype", "verified_at")} == {
        "encoder": "mini", "splits": {"train": 1}, "num_covered": 2, "dtype": "float16", "verified_at": None,
    }  # fmt: skip
    assert found["coverage"] == pytest.approx(2 / 3)
    assert "attributes" not in found, "they name every scene"
    for nothing in ({"dataset": "homes"}, {"owner": "eve"}, {"encoder": "openseg"}, {"dimension": 5}):
        assert api.get("/features", **nothing)["items"] == []
    assert api.get("/features", status=422, cursor=A)["code"] == "invalid_input"
    assert api.get("/features", status=422, dimension=2**40)["code"] == "request_invalid"


def test_a_store_is_shown_with_its_readers_and_no_file_is_read(api: Any, worker: Any, stores: tuple[str, str]) -> None:
    reader = api.post("/runs", {"spec": {"stage": "external"}, "inputs": {"embeddings": {"artifact": A}}})
    store: ZarrStore = worker.parts.store
    store.artifact_path(A).unlink()
    found = api.get(f"/features/{A}")
    assert (found["num_users"], [user["run_id"] for user in found["users"]]) == (1, [reader["id"]])
    assert found["spec"]["stage"] == "embed_labels"
    assert api.get("/features/none", status=404)["code"] == "not_found"


def test_two_stores_are_compared(api: Any, stores: tuple[str, str]) -> None:
    found = api.get(f"/features/{A}/diff", **{"with": B})
    assert [(one["name"], one["left"], one["right"]) for one in found["differences"]] == [
        ("attributes.lifting.width", 320, 640)
    ]
    a, b = (arrays(seed)["embeddings"].astype(np.float64) for seed in (0, 1))
    expected = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    assert found["cosines"]["mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert (found["verdict"], found["cosines"]["num_rows"], found["limits"]["rows"]) == ("different", 2, 2048)
    assert api.get(f"/features/{A}/diff", **{"with": A})["verdict"] == "same"
    assert api.get(f"/features/{A}/diff", rows=1, **{"with": B})["cosines"]["num_rows"] == 1
    assert api.get(f"/features/{A}/diff", status=404, **{"with": "c" * 32})["code"] == "not_found"
    assert api.get(f"/features/{A}/diff", status=422, scenes=1000, **{"with": B})["code"] == "request_invalid"


def test_one_comparison_is_made_at_a_time_and_the_others_wait(api: Any, stores: tuple[str, str]) -> None:
    parts: Parts = api.parts
    app = api.http.app

    async def ask() -> tuple[bool, int]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            await parts.comparing.acquire()
            waiting = asyncio.create_task(client.get(f"/api/v1/features/{A}/diff", params={"with": B}))
            other = await client.get(f"/api/v1/features/{A}")
            assert other.status_code == 200, "the API answers meanwhile"
            early = waiting.done()
            parts.comparing.release()
            return early, (await waiting).status_code

    assert asyncio.run(ask()) == (False, 200)


def verify(api: Any, worker: Any, settings: Settings, database_url: str, key: str = A) -> dict[str, Any]:
    """Submits a verification and runs it as a host would; the run as it ended."""
    asked = {"spec": {"stage": "verify"}, "inputs": {"artifact": {"artifact": key}}}
    run = api.post("/runs", asked)
    claim = worker.claim()
    assert claim.run_id == run["id"]
    run_once(claim.run_id, claim.token, settings.model_copy(update={"database_url": database_url}))
    found: dict[str, Any] = api.get(f"/runs/{run['id']}")
    return found


def test_verifications_are_kept_and_never_cached(
    api: Any, worker: Any, stores: tuple[str, str], settings: Settings, database_url: str
) -> None:
    store: ZarrStore = worker.parts.store
    run = verify(api, worker, settings, database_url)
    assert run["state"] == "succeeded", run["reason"]
    found = api.get(f"/features/{A}")
    assert (found["verified_by"], found["num_faults"], found["fault"]) == (run["id"], 0, None)
    chunk = store.part_path(A[::-1]) / "embeddings" / "c" / "0" / "0"
    sound = chunk.read_bytes()
    chunk.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
    run = verify(api, worker, settings, database_url)
    assert (run["state"], run["reason_code"]) == ("failed", "store_corrupt")
    found = api.get(f"/features/{A}")
    assert (found["verified_by"], found["num_faults"]) == (run["id"], 1)
    assert "embeddings/c/0/0 of the part" in found["fault"] and "room_1" in found["fault"]
    chunk.write_bytes(sound)
    assert verify(api, worker, settings, database_url)["state"] == "succeeded"
    assert api.get(f"/features/{A}")["num_faults"] == 0


def test_what_is_no_feature_store_is_verified_too(api: Any, worker: Any, settings: Settings, database_url: str) -> None:
    api.post("/runs", LABELS)
    claim = worker.claim()
    worker.publish(claim, B, "figures", {"all.png": b"picture"})
    leases.fail(worker.db, claim.token, "x", "its other outputs do not matter here")
    assert verify(api, worker, settings, database_url, B)["state"] == "succeeded"
    path = worker.parts.store.artifact_path(B)
    path.write_bytes(path.read_bytes().replace(b"embed_labels", b"embed_lobels"))
    run = verify(api, worker, settings, database_url, B)
    assert (run["state"], run["reason_code"]) == ("failed", "store_corrupt")
    assert f"the manifest of the artifact {B} was changed" in run["reason"]
    (spec,) = [one for one in api.get("/specs")["items"] if one["stage"] == "verify"]
    assert spec["inputs"]["artifact"] == {"kind": None, "required": True, "many": False}


@pytest.mark.parametrize("place", ["a value", "the format's version", "a brace"])
def test_a_flipped_bit_of_the_artifact_s_manifest_is_held_against_its_row(
    api: Any, worker: Any, stores: tuple[str, str], settings: Settings, database_url: str, place: str
) -> None:
    """Whether it still reads, reads as a newer format, or does not read."""
    path = worker.parts.store.artifact_path(A)
    whole = path.read_bytes()
    at, bit = {
        "a value": (whole.index(b"offices"), 1),
        "the format's version": (whole.index(b'"format_version":1') + 17, 2),
        "a brace": (0, 1),
    }[place]
    path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
    run = verify(api, worker, settings, database_url)
    assert (run["state"], run["reason_code"]) == ("failed", "store_corrupt")
    assert f"the manifest of the artifact {A} was changed" in run["reason"]
    found = api.get(f"/features/{A}")
    assert (found["verified_by"], found["num_faults"]) == (run["id"], 1)
    assert f"the manifest of the artifact {A} was changed" in found["fault"]

"""`vlglab features`: what is printed, and the comparison of two folders of stores without a service."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service import examples
from service.cli.console import Shell
from service.cli.entry import app
from service.cli.scripting import Exit
from storage.artifacts.scaled import encode
from storage.artifacts.zarr_store import ZarrStore
from storage.specs import stages
from tests.conformance.artifact_store import artifact, embeddings, put
from tests.service.fake_api import FakeApi

KEY = examples.FEATURE["key"]
LIST, ONE = ("GET", "/api/v1/features"), ("GET", f"/api/v1/features/{KEY}")


def vlglab(api: FakeApi, *arguments: str) -> tuple[int, str]:
    with api.client() as client:
        out = Console(file=io.StringIO(), width=400)
        done = CliRunner().invoke(app, list(arguments), obj=Shell(client, out=out, err=Console(file=io.StringIO())))
    assert isinstance(out.file, io.StringIO)
    return done.exit_code, done.stdout + out.file.getvalue()


def test_the_list_says_what_there_is_and_passes_filters_on() -> None:
    api = FakeApi({LIST: {"items": [examples.FEATURE], "next": None}})
    status, out = vlglab(api, "features", "list", "--dataset", "offices", "--dimension", "384", "--owner", "ada")
    assert status == 0
    for word in (KEY, "offices", "25", "stand-in", "384", "750,000", "80.0%", "ada", "yes"):
        assert word in out
    assert dict(api.requests[0].url.params) == {"dataset": "offices", "dimension": "384", "owner": "ada"}


def test_what_was_never_counted_or_verified_is_said() -> None:
    plain = {**examples.FEATURE, "coverage": None, "num_covered": None, "verified_at": None, "num_faults": None}
    _, out = vlglab(FakeApi({LIST: {"items": [plain], "next": None}}), "features", "list")
    assert out.count("?") == 2, "neither how much is covered nor whether it is sound is known"
    broken = {**examples.FEATURE_DETAIL, "num_faults": 3, "fault": "views/c/0 of the part x was changed"}
    _, out = vlglab(FakeApi({ONE: broken}), "features", "show", KEY)
    assert "20" in out and "float16" in out and "NO, 3 faults" in out and "views/c/0 of the part x was changed" in out
    assert "read by 1 runs" in out and "distill" in out


@pytest.mark.parametrize(("state", "faults", "status"), [("succeeded", 0, Exit.OK), ("failed", 2, Exit.FAILED)])
def test_verifying_submits_a_run_waits_and_prints_its_faults(state: str, faults: int, status: Exit) -> None:
    run = {**examples.RUN, "id": "rv", "stage": "verify", "state": state, "reason": "x", "reason_code": "store_corrupt"}
    notes = [
        {**examples.EVENT, "id": 1, "run_id": "rv", "kind": "note", "message": "views/c/0 of the part x (scene r)"}
    ]

    def events(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"items": notes if request.url.params["cursor"] == "0" else [], "next": "1"})

    api = FakeApi(
        {
            ("POST", "/api/v1/runs"): run, ("GET", "/api/v1/runs/rv"): run, ("GET", "/api/v1/runs/rv/events"): events,
            ONE: {**examples.FEATURE_DETAIL, "verified_by": "rv", "num_faults": faults},
            ("GET", f"/api/v1/artifacts/{KEY}"): {**examples.ARTIFACT_DETAIL, "attributes": {"dataset": "offices"}},
            ("GET", "/api/v1/datasets/offices"): examples.DATASET,
        }
    )  # fmt: skip
    code, out = vlglab(api, "features", "verify", KEY)
    assert code == status
    assert ("views/c/0 of the part x (scene r)" in out) == bool(faults)
    asked = api.bodies()[0]
    assert asked["inputs"] == {"artifact": {"artifact": KEY}}
    assert (asked["spec"], asked["dataset"]) == ({"stage": "verify", "recompute": 1}, "offices")


@pytest.mark.parametrize(
    ("state", "code", "said", "status"),
    [
        ("succeeded", None, f"{KEY}: yes", Exit.OK),
        ("failed", "store_corrupt", f"{KEY}: NO", Exit.FAILED),
        ("failed", "time_limit", "", Exit.FAILED),
    ],
)
def test_what_is_no_feature_store_is_verified_too(state: str, code: str | None, said: str, status: Exit) -> None:
    run = {**examples.RUN, "id": "rv", "stage": "verify", "state": state, "reason": "x", "reason_code": code}
    note = {**examples.EVENT, "id": 1, "run_id": "rv", "kind": "note", "message": "files/a of the part x was changed"}

    def events(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"items": [note] if request.url.params["cursor"] == "0" else [], "next": "1"})

    answers = {
        ("POST", "/api/v1/runs"): run, ("GET", "/api/v1/runs/rv"): run, ("GET", "/api/v1/runs/rv/events"): events,
    }  # fmt: skip
    api = FakeApi(answers)
    got, out = vlglab(api, "features", "verify", KEY)
    assert got == status
    assert (said in out) and (f"{KEY}:" in out) == bool(said)
    assert ("files/a of the part x was changed" in out) == (code == "store_corrupt")
    (asked,) = api.bodies()
    assert asked["inputs"] == {"artifact": {"artifact": KEY}} and asked.get("dataset") is None
    got, out = vlglab(FakeApi(answers), "features", "verify", KEY, "--json")
    assert got == status and '"id": "rv"' in out


def test_a_comparison_is_printed_for_people() -> None:
    api = FakeApi({("GET", f"/api/v1/features/{KEY}/diff"): examples.FEATURE_DIFF})
    status, out = vlglab(api, "features", "diff", KEY, "other", "--rows", "10")
    assert status == 0
    for word in (
        "spec.lifting.width",
        "320",
        "640",
        "office_1_03",
        "0.41000",
        "25 common scenes",
        "verdict: different",
    ):
        assert word in out
    assert dict(api.requests[0].url.params) == {"with": "other", "rows": "10"}


def lab(folder: Path, factor: float = 1.0, **attributes: Any) -> str:
    """A store with one artifact; returns its folder."""
    store = ZarrStore(folder)
    entries = []
    for number in range(3):
        arrays = embeddings(number)
        moved = (arrays["embeddings"].astype(np.float64) * factor).astype(np.float16)
        entries.append(put(store, f"ab1{number}", f"room-{number}", arrays | {"embeddings": moved}, **attributes))
    store.publish(artifact("beef01", *entries), token="token-1")
    return str(folder)


def test_stores_of_two_machines_are_compared_where_they_lie(tmp_path: Path) -> None:
    one, near, far = lab(tmp_path / "1"), lab(tmp_path / "2", 1 + 2.0**-11), lab(tmp_path / "3", 1.02)
    nobody = FakeApi({})
    for other, status, verdict in ((one, 0, "same"), (near, 0, "rounding"), (far, Exit.FAILED, "different")):
        code, out = vlglab(nobody, "features", "diff", "beef01", "--store", one, "--store", other, "--json")
        assert (code, json.loads(out)["verdict"]) == (status, verdict)
    assert nobody.requests == []
    code, out = vlglab(nobody, "features", "diff", "beef01", "--store", one, "--store", far)
    assert "made from the same spec and inputs" in out and "600 points" in out


def test_stores_of_int8_that_agree_within_rounding_are_not_told_to_differ(tmp_path: Path) -> None:
    folders = []
    for by in (0, 1):
        arrays = embeddings()
        numbers, scales = encode(arrays["embeddings"])
        numbers[:, 0] -= np.sign(numbers[:, 0]) * np.int8(by)
        store = ZarrStore(tmp_path / str(by))
        line = put(store, "ab10", "room", arrays | {"embeddings": numbers, "scales": scales}, dtype="int8")
        store.publish(artifact("beef01", line), token="token-1")
        folders += ["--store", str(tmp_path / str(by))]
    code, out = vlglab(FakeApi({}), "features", "diff", "beef01", *folders)
    assert code == 0 and "agrees within the rounding of the type" in out


def test_features_of_others_are_taken_in_by_a_run() -> None:
    api = FakeApi({("POST", "/api/v1/runs"): examples.RUN})
    plain = ("features", "import", "theirs", "--scenes", KEY, "--no-watch")
    status, _ = vlglab(api, *plain)
    vlglab(api, *plain, "--dtype", "int8", "--split", "test", "--leave-out", "--encoder", "lseg")
    first, second = api.bodies()
    assert status == 0 and (first["dataset"], first["inputs"]) == ("theirs", {"scenes": {"artifact": KEY}})
    assert first["spec"] == {"stage": "import_features", "encoder": "openseg", "dtype": "float16"}
    more = {"dtype": "int8", "splits": ["test"], "missing": "leave_out", "encoder": "lseg"}
    assert second["spec"] == first["spec"] | more
    for asked in (first, second):
        assert stages.parse(asked["spec"]).stage == "import_features"


def test_a_digest_that_a_pull_must_have_is_passed_on() -> None:
    api = FakeApi({("POST", "/api/v1/runs"): examples.RUN})
    vlglab(api, "features", "pull", "http://lab.example.org", KEY, "--digest", "5c" * 32, "--no-watch")
    vlglab(api, "features", "pull", "http://lab.example.org", KEY, "--no-watch")
    first, second = (asked["spec"] for asked in api.bodies())
    assert (first["manifest_digest"], "manifest_digest" in second) == ("5c" * 32, False)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["beef01"], Exit.USAGE),
        (["beef01", "--store", "ONE"], Exit.USAGE),
        (["beef01", "--store", "ONE", "--store", "ONE", "--store", "ONE"], Exit.USAGE),
        (["beef01", "--store", "ONE", "--store", "NONE"], Exit.NOT_FOUND),
        (["beef02", "--store", "ONE", "--store", "ONE"], Exit.NOT_FOUND),
        (["../../x", "--store", "ONE", "--store", "ONE"], Exit.NOT_FOUND),
    ],
)
def test_folders_and_keys_that_cannot_be_compared(arguments: list[str], status: Exit, tmp_path: Path) -> None:
    places = {"ONE": lab(tmp_path / "1"), "NONE": str(tmp_path)}
    code, out = vlglab(FakeApi({}), "features", "diff", *[places.get(word, word) for word in arguments])
    assert (code, out) == (status, "")

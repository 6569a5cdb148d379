from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from migrations.upgrade import HEAD, upgrade
from service.app import create_app
from storage.settings import Settings

ADDRESS = "http://127.0.0.1:8765"
ROOT = Path(__file__).resolve().parents[2]


def test_it_lives_before_its_database_has_tables(settings: Settings) -> None:
    with TestClient(create_app(settings), ADDRESS) as http:
        assert http.get("/healthz").json()["status"] == "ok"
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["code"] == "database_error"
        assert "vlglab db upgrade" in answer.json()["detail"]
        assert http.get("/api/v1/runs").status_code == 503
        upgrade(settings.resolved_database_url)
        assert http.get("/readyz").json() == {"status": "ok", "schema_revision": HEAD}


def test_importing_it_loads_no_torch_and_no_worker() -> None:
    heavy = "{'torch', 'tensorflow', 'ray', 'zarr', 'scipy', 'workers'}"
    code = f"import sys, service.app, service.cli.entry; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unexpected_error_is_told_without_its_details(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    upgrade(settings.resolved_database_url)
    app = create_app(settings)
    router = APIRouter()

    @router.get("/breaks")
    def breaks() -> Any:
        raise RuntimeError("a secret of the house")

    app.include_router(router)
    with TestClient(app, ADDRESS, raise_server_exceptions=False) as http:
        answer = http.get("/breaks")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "a secret of the house" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8765"},
        {"Host": "192.168.1.4:8765"},
        {"Host": "localhost.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::"},
    ],
)
def test_a_page_of_another_site_is_refused(settings: Settings, headers: dict[str, str]) -> None:
    upgrade(settings.resolved_database_url)
    app = create_app(settings)
    with TestClient(app, ADDRESS) as http:
        for method, path in (("GET", "/api/v1/runs"), ("POST", "/api/v1/runs/r1/cancel"), ("GET", "/healthz")):
            answer = http.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8765"},
        {"Host": "[::1]:8765"},
        {"Host": "127.0.0.1", "Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:8765"},
    ],
)
def test_this_machine_is_answered_by_any_of_its_names(settings: Settings, headers: dict[str, str]) -> None:
    with TestClient(create_app(settings), ADDRESS) as http:
        assert http.get("/healthz", headers=headers).status_code == 200


def test_where_others_may_reach_it_any_name_is_answered(settings: Settings) -> None:
    open_to_all = settings.model_copy(update={"allow_anyone": True, "host": "0.0.0.0"})
    with TestClient(create_app(open_to_all), ADDRESS) as http:
        assert http.get("/healthz", headers={"Host": "lab.example.org"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/api/v1/runs", {"GET", "POST"}), ("/api/v1/runs/r1/cancel", {"POST"}), ("/healthz", {"GET"})],
)
def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(
    settings: Settings, path: str, allowed: set[str]
) -> None:
    upgrade(settings.resolved_database_url)
    with TestClient(create_app(settings), ADDRESS) as http:
        answer = http.put(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed

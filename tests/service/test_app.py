from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter
from fastapi.testclient import TestClient

from migrations.upgrade import HEAD, upgrade
from service.app import create_app
from service.first_token import make_token
from storage.settings import Settings
from tests.service.conftest import ADDRESS, HERE

ROOT = Path(__file__).resolve().parents[2]


def test_it_lives_before_its_database_has_tables(settings: Settings) -> None:
    with TestClient(create_app(settings), ADDRESS, client=HERE) as http:
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
    with TestClient(app, ADDRESS, client=HERE, raise_server_exceptions=False) as http:
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
    with TestClient(app, ADDRESS, client=HERE) as http:
        for method, path in (("GET", "/api/v1/runs"), ("POST", "/api/v1/runs/r1/cancel"), ("GET", "/healthz")):
            answer = http.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Host: lab.example.org", "X-Forwarded-Proto: https",
     "X-Real-IP: 203.0.113.9", "Forwarded: for=203.0.113.9", "Via: 1.1 lab", "X-Forwarded-For: 127.0.0.1"],
)  # fmt: skip
def test_where_no_token_is_asked_for_a_proxy_is_refused(settings: Settings, header: str) -> None:
    upgrade(settings.resolved_database_url)
    name, value = header.split(": ")
    with TestClient(create_app(settings), ADDRESS, client=HERE) as http:
        for method, path in (("GET", "/api/v1/runs"), ("POST", "/api/v1/tokens"), ("GET", "/readyz")):
            answer = http.request(method, path, headers={name: value})
            assert (answer.status_code, answer.json()["code"]) == (403, "behind_proxy")
            assert name.lower() in answer.json()["detail"] and "VLGLAB_REQUIRE_TOKENS=1" in answer.json()["detail"]


@pytest.mark.parametrize("sender", ["192.0.2.9", "2001:db8::9", "unknown"])
def test_where_no_token_is_asked_for_another_machine_is_refused(settings: Settings, sender: str) -> None:
    upgrade(settings.resolved_database_url)
    with TestClient(create_app(settings), ADDRESS, client=(sender, 50_000)) as http:
        answer = http.get("/api/v1/runs")
    assert (answer.status_code, answer.json()["code"]) == (403, "behind_proxy")
    assert sender in answer.json()["detail"]


@pytest.mark.parametrize(
    ("settled", "headers", "status"),
    [
        ({}, {"Host": "127.0.0.1:8765"}, 403),  # nginx's `proxy_pass http://127.0.0.1:8765;` sends this, in HTTP/1.0
        ({"allow_anyone": True}, {"X-Forwarded-For": "203.0.113.9", "Host": "lab.example.org"}, 200),
        ({"require_tokens": True}, {"X-Forwarded-For": "203.0.113.9", "Authorization": "Bearer SECRET"}, 200),
    ],
)
def test_proxies_are_answered_where_tokens_are_asked_for_or_anyone_may(
    settings: Settings, settled: dict[str, bool], headers: dict[str, str], status: int
) -> None:
    upgrade(settings.resolved_database_url)
    secret = make_token(settings, "ada", "admin")
    with served(settings.model_copy(update=settled)) as port:
        lines = [f"{name}: {value.replace('SECRET', secret)}" for name, value in headers.items()]
        answer = asked("127.0.0.1", port, "\r\n".join(["GET /api/v1/runs HTTP/1.0", *lines, "", ""]))
    assert answer.startswith(f"HTTP/1.1 {status} "), answer


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
    with TestClient(create_app(settings), ADDRESS, client=HERE) as http:
        assert http.get("/healthz", headers=headers).status_code == 200


def test_where_others_may_reach_it_any_name_is_answered(settings: Settings) -> None:
    open_to_all = settings.model_copy(update={"allow_anyone": True, "host": "0.0.0.0"})
    with TestClient(create_app(open_to_all), ADDRESS, client=HERE) as http:
        assert http.get("/healthz", headers={"Host": "lab.example.org"}).status_code == 200


@contextmanager
def served(settings: Settings) -> Iterator[int]:
    """The service on a socket, behind uvicorn's own middleware as `vlglab serve` has it; yields its port."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def asked(host: str, port: int, request: str) -> str:
    """The answer to a request as it is written, until the service hangs up."""
    with socket.create_connection((host, port)) as line:
        line.sendall(request.encode())
        return b"".join(iter(lambda: line.recv(65_536), b"")).decode()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/api/v1/runs", {"GET", "POST"}), ("/api/v1/runs/r1/cancel", {"POST"}), ("/healthz", {"GET"})],
)
def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(
    settings: Settings, path: str, allowed: set[str]
) -> None:
    upgrade(settings.resolved_database_url)
    with TestClient(create_app(settings), ADDRESS, client=HERE) as http:
        answer = http.put(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed

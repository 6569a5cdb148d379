"""The service over HTTP, in a temporary home, and a worker that only publishes what a test gives it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi.testclient import TestClient
from httpx import Response

from service.app import create_app
from service.dependencies import Parts
from storage.artifacts.store import WHOLE, ArtifactManifest
from storage.records import access_tokens, claims, hosts, leases
from storage.records.artifacts import ArtifactRow
from storage.records.database import Database
from storage.records.evaluations import EvaluationRow
from storage.settings import Settings

API = "/api/v1"
ADDRESS = "http://127.0.0.1:8765"
HERE = ("127.0.0.1", 50_000)
"""A client on this machine: where no token is asked for, others are refused."""


@dataclass
class Api:
    """The service's API: `get` and `post` check the status and return the body."""

    http: TestClient
    parts: Parts

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        return self._body(self.http.get(API + path, params=params), status)

    def post(self, path: str, body: Any = None, status: int = 201) -> Any:
        return self._body(self.http.post(API + path, json=body), status)

    def transport(self) -> httpx.MockTransport:
        """What carries a client's requests to this API."""

        def carried(request: httpx.Request) -> httpx.Response:
            sent = dict(request.headers)
            answer = self.http.request(request.method, str(request.url), content=request.content, headers=sent)
            return httpx.Response(answer.status_code, content=answer.content, headers=dict(answer.headers))

        return httpx.MockTransport(carried)

    def problem(self, response: Response) -> dict[str, Any]:
        """The problem that a response is, after checking its shape."""
        assert response.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = response.json()
        assert set(body) == {"type", "title", "status", "code", "detail", "instance", "scene", "errors"}
        assert body["status"] == response.status_code
        assert body["type"] == f"urn:vlglab:problem:{body['code']}"
        assert unquote(body["instance"]) == unquote(response.request.url.path)
        return body

    def _body(self, response: Response, status: int) -> Any:
        assert response.status_code == status, response.text
        return self.problem(response) if response.is_error else response.json()


@pytest.fixture
def api(settings: Settings, database_url: str) -> Iterator[Api]:
    """A running service, its scheduler ticking; once on SQLite and once on PostgreSQL."""
    app = create_app(settings.model_copy(update={"database_url": database_url}))
    with TestClient(app, ADDRESS, client=HERE, raise_server_exceptions=False) as http:
        yield Api(http, app.state.parts)


@pytest.fixture
def offices(api: Api) -> str:
    """The name of a registered SynthRooms dataset."""
    body = {"name": "offices", "kind": "synthrooms", "options": {"train_rooms": 2, "test_rooms": 1}}
    return str(api.post("/datasets", body)["name"])


@pytest.fixture
def worker(api: Api) -> Worker:
    """A worker of the service's runs."""
    return Worker(api.parts, hosts.register(api.parts.db, "here", 1, 64, []))


@dataclass
class Worker:
    """Claims runs and ends them as a test says."""

    parts: Parts
    host_id: str

    @property
    def db(self) -> Database:
        return self.parts.db

    def claim(self) -> claims.Claim:
        """The next ready run; waits for the scheduler."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            claim = claims.claim(self.db, self.host_id, 600.0)
            if claim is not None:
                return claim
            time.sleep(0.01)
        raise AssertionError("no run became ready")

    def publish(
        self,
        claim: claims.Claim,
        key: str,
        kind: str,
        files: Mapping[str, bytes] | None = None,
        arrays: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> ArtifactRow:
        """Writes an artifact of one part to the store (of a scene where it has arrays) and records it."""
        store, scene = self.parts.store, "room_1" if arrays else WHOLE
        part_key = key[::-1]
        with store.write_part(part_key, kind=kind, scene=scene, token=claim.token) as part:  # type: ignore[arg-type]
            for name, content in (files or {}).items():
                part.path(name).write_bytes(content)
            for name, values in (arrays or {}).items():
                part.write(name, values)
            if arrays:
                part.set(num_points=3, point_order="d" * 32, split="train")
        entry = store.entry(part_key)
        assert entry is not None
        fields: dict[str, Any] = {"key": key, "kind": kind, "stage": claim.stage, "output": kind}
        manifest = ArtifactManifest(**fields, spec={}, inputs={}, parts=(entry,), attributes=attributes)
        row = ArtifactRow(
            **fields,
            run_id=claim.run_id,
            manifest_digest=store.publish(manifest, token=claim.token),
            num_bytes=entry.num_bytes,
            num_scenes=len(manifest.scenes),
            num_points=entry.num_points,
            attributes=attributes,
        )
        leases.record_artifact(self.db, claim.token, row)
        return row

    def score(self, claim: claims.Claim, key: str, rows: list[EvaluationRow]) -> None:
        """Records the scores of an artifact."""
        leases.record_evaluations(self.db, claim.token, key, rows)


@pytest.fixture
def guarded(settings: Settings, database_url: str) -> Iterator[TestClient]:
    """A service that asks for tokens."""
    db = Database.open(database_url)
    access_tokens.create(db, "root", "admin", None)
    db.close()
    app = create_app(settings.model_copy(update={"database_url": database_url, "require_tokens": True}))
    with TestClient(app, ADDRESS, client=HERE, raise_server_exceptions=False) as http:
        yield http

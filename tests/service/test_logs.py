"""What service, host and workers log as JSON in a whole journey, and that no secret of it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from migrations.upgrade import upgrade
from service import schemas
from service.app import create_app
from service.cli.local_service import LocalService
from service.client import Client
from service.first_token import make_token
from storage.errors import TokenRefused
from storage.records import runs
from storage.settings import Settings
from tests.fixtures.receiver import Receiver, receiving
from tests.fixtures.waiting import wait_until
from tests.service.conftest import ADDRESS, HERE

LABELS = schemas.RunRequest.model_validate({"spec": {"stage": "embed_labels", "label_set": "s3dis13"}, "name": "l"})


def test_a_journey_with_tokens_is_logged_as_json_with_ids_and_without_a_secret(tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = Settings(home=home)
    home.mkdir()
    upgrade(config.resolved_database_url)
    admin = make_token(config, "ada", "admin")
    variables = {"VLGLAB_LOG_FORMAT": "json", "VLGLAB_REQUIRE_TOKENS": "1", "VLGLAB_WEBHOOK_HOSTS": '["127.0.0.1"]'}
    with receiving(Receiver()) as receiver, LocalService(home, variables=variables) as service:
        with Client(service.url, token=admin) as client:
            eve = client.create_token(schemas.TokenRequest(owner="eve", role="submitter", days=None)).secret
            hook = client.add_webhook(schemas.WebhookRequest(url=receiver.url + "/a-path-with-a-secret")).secret
        with Client(service.url, token=eve) as client:
            made = client.submit(schemas.RunListRequest(name="x", runs=[LABELS]))
            run_id = made.runs[0].id
            wait_until(lambda: client.run(run_id).state == "succeeded", 120)
        with (
            Client(service.url, token="vlglab_wrong_wrong_wrong_wrong") as client,
            pytest.raises(TokenRefused),
        ):
            client.run(run_id)
        wait_until(lambda: len(receiver.bodies) == 1, 30)
    (worker_log,) = (home / "store" / "logs" / run_id).iterdir()
    text = {
        "service": service.log.read_text(),
        "host": (home / "host.log").read_text(),
        "worker": worker_log.read_text(),
    }
    found = {name: json_lines(content) for name, content in text.items()}
    assert all(found.values())
    for line in found["worker"]:
        assert (line["run_id"], line["attempt"]) == (run_id, 1)
    assert [line["attempt"] for line in found["host"] if line.get("run_id") == run_id] == [1]
    posts = [line for line in found["service"] if line.get("path") == "/api/v1/experiments"]
    assert len(posts) == 1 and posts[0]["status"] == 201 and posts[0]["request_id"]
    assert posts[0]["owner"] == "eve" and posts[0]["token_id"]
    assert any(line.get("delivery_id") and line.get("run_id") == run_id for line in found["service"])
    key = config.webhook_key_path.read_text().strip()
    secrets = (admin, eve, hook, hook.removeprefix("whsec_"), key, "vlglab_wrong_wrong", "a-path-with-a-secret")
    for name, content in text.items():
        for secret in secrets:
            assert secret not in content, f"the {name}'s log has a secret"


def json_lines(text: str) -> list[dict[str, Any]]:
    """The lines of a log; `serve` also announces its address, on stdout, as it does for people."""
    return [json.loads(line) for line in text.splitlines() if not line.startswith("vlglab serving at ")]


def test_every_answer_has_a_request_id_also_where_the_service_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade(settings.resolved_database_url)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(runs, "list_fields", fail)
    with TestClient(create_app(settings), ADDRESS, client=HERE, raise_server_exceptions=False) as http:
        ids = set()
        for path in ("/healthz", "/api/v1/nothing", "/docs", "/openapi.json", "/api/v1/runs", "/api/v1/runs/r404"):
            answer = http.get(path)
            ids.add(answer.headers["x-request-id"])
            assert answer.headers["x-content-type-options"] == "nosniff", path
        assert len(ids) == 6 and all(re.fullmatch(r"q[0-9a-f]{20}", one) for one in ids)
        assert http.get("/api/v1/runs").status_code == 500
        large = http.post("/api/v1/runs", content=b"x" * (settings.max_body_bytes + 1))
        assert large.status_code == 413 and large.headers["x-request-id"]
        chosen = http.get("/api/v1/runs", headers={"X-Request-Id": "mine-1.2_3"})
        assert chosen.headers["x-request-id"] == "mine-1.2_3"
        for odd in ("a b", "x" * 65, "", "\u00e4".encode("latin-1"), 'a"b'):
            taken = http.get("/healthz", headers={"X-Request-Id": odd})
            assert re.fullmatch(r"q[0-9a-f]{20}", taken.headers["x-request-id"])
    assert "a fault of ours" in caplog.text


def test_a_path_cannot_forge_a_line(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    upgrade(settings.resolved_database_url)
    with caplog.at_level("INFO"), TestClient(create_app(settings), ADDRESS, client=HERE) as http:
        http.post("/api/v1/x%0AERROR%20forged")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "vlglab.service"]
    assert line == "POST /api/v1/x%0AERROR%20forged: 404"

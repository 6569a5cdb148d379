"""Who may do what: every route against every role, ownership, rates, sizes, headers, and secrets that stay secret."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from migrations.upgrade import upgrade
from service import known_tokens
from service.answer_headers import HEADERS
from service.app import create_app
from service.problems import TooManyRequests
from service.rate import Rate
from storage.errors import InvalidInput
from storage.log_format import JsonFormatter
from storage.records import access_tokens
from storage.records.access_tokens import ROLES, Role
from storage.records.database import Database
from storage.settings import Settings, is_loopback
from tests.service.conftest import ADDRESS, HERE

INGEST = {"spec": {"stage": "ingest", "label_set": "s3dis13"}, "dataset": "offices"}
ADMINS = ("/api/v1/tokens", "/api/v1/webhooks")
"""Only admins may even read these."""
FOR_READERS = ("/lease", "/renew", "/release")
"""Leases let a reader read: all may ask for them."""
LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}


class Lab:
    """A service that asks for tokens, and people with one each; named by their role, and a second submitter."""

    def __init__(self, http: TestClient, settings: Settings) -> None:
        self.http = http
        self.db = http.app.state.parts.db  # type: ignore[attr-defined]
        self.secrets = {role: access_tokens.create(self.db, role, role)[1] for role in ROLES}
        self.secrets["other"] = access_tokens.create(self.db, "other", "submitter")[1]

    def ask(self, who: str | None, method: str, path: str, body: Any = None) -> Any:
        headers = {} if who is None else {"Authorization": f"Bearer {self.secrets.get(who, who)}"}
        return self.http.request(method, path, json=body, headers=headers)


@pytest.fixture
def lab(settings: Settings, database_url: str) -> Iterator[Lab]:
    guarded = settings.model_copy(
        update={"database_url": database_url, "host": "192.0.2.7", "requests_per_s": 0, "max_body_bytes": 4096}
    )
    with pytest.raises(InvalidInput, match="vlglab db add-token NAME --role admin"):
        create_app(guarded)
    app = create_app(guarded.model_copy(update={"allow_anyone": True}))
    access_tokens.create(app.state.parts.db, "root", "admin")
    app.state.parts.db.close()
    with TestClient(create_app(guarded), "http://lab.example.org", raise_server_exceptions=False) as http:
        yield Lab(http, guarded)


def routes(lab: Lab) -> list[tuple[str, str]]:
    """Every method and path of the API, with ids that nothing has."""
    document = lab.http.app.openapi()  # type: ignore[attr-defined]
    found = []
    for path, methods in document["paths"].items():
        shown = path.replace("{", "").replace("}", "") + ("?run=r404" if path.endswith("/stream") else "")
        found += [(method.upper(), shown) for method in methods]
    return found


def test_every_route_but_the_probes_asks_for_a_token(lab: Lab) -> None:
    asked = routes(lab)
    assert len(asked) > 25
    for method, path in asked:
        answer = lab.ask(None, method, path)
        if path in ("/healthz", "/readyz"):
            assert answer.status_code == 200, path
            continue
        assert (answer.status_code, answer.json()["code"]) == (401, "token_refused"), path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert lab.ask("vlglab_wrong", method, path).status_code == 401


def test_a_reader_changes_nothing_and_only_admins_see_tokens_and_webhooks(lab: Lab) -> None:
    for method, path in routes(lab):
        answer = lab.ask("reader", method, path)
        if path.endswith(FOR_READERS):
            assert answer.status_code in (404, 422), path
        elif method != "GET" or path.startswith(ADMINS):
            assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), path
        else:
            assert answer.status_code not in (401, 403), path
        if path.startswith(ADMINS):
            assert lab.ask("submitter", method, path).status_code == 403
            assert lab.ask("admin", method, path).status_code != 403


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("start", {}),
        ("beat", {}),
        ("metrics", {"steps": [0], "columns": {"loss": [1.0]}}),
        ("finish", {"state": "succeeded"}),
    ],
)
def test_an_external_run_is_its_owners(lab: Lab, call: str, body: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"spec": {"stage": "external"}, **({} if call == "start" else {"lease_s": 60})}
    run = lab.ask("submitter", "POST", "/api/v1/runs", asked).json()["id"]
    for who in ("reader", "other"):
        assert lab.ask(who, "POST", f"/api/v1/runs/{run}/{call}", body).status_code == 403, who
    assert lab.ask("submitter", "POST", f"/api/v1/runs/{run}/{call}", body).status_code == 200


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "bearer", "Token abc", ""])
def test_what_is_no_bearer_token_is_none(lab: Lab, header: str) -> None:
    answer = lab.http.get("/api/v1/runs", headers={"Authorization": header})
    assert answer.status_code == 401
    assert "VLGLAB_API_TOKEN" in answer.json()["detail"]


def test_what_somebody_submits_is_theirs_and_only_they_and_admins_cancel_it(lab: Lab) -> None:
    run = lab.ask("submitter", "POST", "/api/v1/runs", LABELS).json()
    made = lab.ask("submitter", "POST", "/api/v1/experiments", {"name": "x", "runs": [LABELS]}).json()
    assert run["owner"] == made["owner"] == made["runs"][0]["owner"] == "submitter"
    for path in (f"/api/v1/runs/{run['id']}/cancel", f"/api/v1/experiments/{made['id']}/cancel"):
        refused = lab.ask("other", "POST", path)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
        assert "belongs to submitter" in refused.json()["detail"]
    assert lab.ask("submitter", "POST", f"/api/v1/runs/{run['id']}/cancel").json()["state"] == "cancelled"
    assert lab.ask("admin", "POST", f"/api/v1/experiments/{made['id']}/cancel").json()["state"] == "cancelled"


def test_who_cancelled_and_retried_stands_in_the_event_and_who_asked_in_the_log(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    run = lab.ask("submitter", "POST", "/api/v1/runs", LABELS).json()["id"]
    made = lab.ask("submitter", "POST", "/api/v1/experiments", {"name": "x", "runs": [LABELS]}).json()
    tokens = lab.ask("admin", "GET", "/api/v1/tokens").json()["items"]
    (token,) = [one["id"] for one in tokens if one["owner"] == "admin"]
    asked = [f"/api/v1/{path}" for path in (f"runs/{run}", f"experiments/{made['id']}")]
    with caplog.at_level(logging.INFO, "vlglab.service"):
        for path in asked:
            for verb in ("cancel", "retry", "cancel"):
                assert lab.ask("admin", "POST", f"{path}/{verb}").status_code == 200
        lab.ask("admin", "POST", f"/api/v1/tokens/{token}/revoke")
        lab.ask("admin", "DELETE", f"/api/v1/runs/{run}")
    for one in (run, made["runs"][0]["id"]):
        assert lab.ask("reader", "GET", f"/api/v1/runs/{one}").json()["reason"] == "cancelled by admin"
        said = [event["message"] for event in lab.ask("reader", "GET", f"/api/v1/runs/{one}/events").json()["items"]]
        whose = [message for message in said if "by admin" in message]
        assert whose == ["cancelled by admin before it ran", "retried by admin", "cancelled by admin before it ran"]
    lines = [record for record in caplog.records if record.name == "vlglab.service"]
    assert f"POST {asked[0]}/cancel by admin ({token}): 200" in [line.getMessage() for line in lines]
    written = [json.loads(JsonFormatter().format(line)) for line in lines if "method" in line.__dict__]
    known = [(line["method"], line["owner"], line["token_id"]) for line in written[:7]]
    assert known == [("POST", "admin", token)] * 7
    assert ("owner" not in written[7], written[7]["status"]) == (True, 401), "the token was revoked"


def test_tokens_are_made_shown_once_and_revoked_over_http(lab: Lab) -> None:
    made = lab.ask("admin", "POST", "/api/v1/tokens", {"owner": "ada", "role": "reader", "days": 1}).json()
    assert lab.ask(made["secret"], "GET", "/api/v1/whoami").json() == {"name": "ada", "role": "reader"}
    listed = lab.ask("admin", "GET", "/api/v1/tokens").json()["items"]
    assert listed[0]["id"] == made["id"] and listed[0]["last_used_at"] is not None
    assert "secret" not in listed[0] and made["secret"] not in str(listed)
    assert lab.ask("admin", "POST", f"/api/v1/tokens/{made['id']}/revoke").json()["revoked_at"] is not None
    assert lab.ask(made["secret"], "GET", "/api/v1/whoami").status_code == 401
    assert lab.ask("admin", "POST", "/api/v1/tokens/t404/revoke").status_code == 404
    for wrong in ({"owner": "a/b"}, {"owner": "ada", "role": "king"}, {"owner": "ada", "days": 0}, {"owner": ""}):
        assert lab.ask("admin", "POST", "/api/v1/tokens", wrong).status_code == 422


@pytest.mark.parametrize("days", [0, -1, 1e-9, 40_000])
def test_a_token_that_lasts_no_time_or_too_long_is_refused_by_its_shape(lab: Lab, days: float) -> None:
    answer = lab.ask("admin", "POST", "/api/v1/tokens", {"owner": "eve", "days": days})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")


def test_secrets_are_in_no_log_no_answer_and_no_record(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        run = lab.ask("submitter", "POST", "/api/v1/runs", LABELS)
        wrong = lab.ask("vlglab_a_wrong_secret", "GET", "/api/v1/runs")
        bad = lab.ask("submitter", "POST", "/api/v1/runs", {"spec": 1})
    said = caplog.text + run.text + wrong.text + bad.text + lab.ask("admin", "GET", "/api/v1/runs").text
    assert not any(secret in said for secret in [*lab.secrets.values(), "vlglab_a_wrong_secret"])


def test_a_body_that_is_too_large_is_refused_however_it_is_sent(lab: Lab) -> None:
    secret = {"Authorization": f"Bearer {lab.secrets['submitter']}"}
    big = b'{"name": "' + b"x" * 5000 + b'"}'

    def chunks() -> Iterator[bytes]:
        yield big[:3000]
        yield big[3000:]

    for content in (big, chunks()):
        answer = lab.http.post("/api/v1/experiments", content=content, headers=secret)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["content-type"] == "application/problem+json"
    answer = lab.http.post("/api/v1/experiments", content=b"{}", headers={**secret, "Content-Length": "many"})
    assert answer.status_code == 413


def test_every_answer_tells_browsers_to_be_careful(lab: Lab) -> None:
    for path in ("/healthz", "/api/v1/runs", "/api/v1/nothing", "/docs", "/openapi.json"):
        answer = lab.http.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
        assert (answer.headers["content-security-policy"][12:] == "'none'; frame-ancestors 'none'") == (path != "/docs")


def test_a_caller_who_sends_too_many_waits_and_others_do_not(settings: Settings) -> None:
    upgrade(settings.resolved_database_url)
    app = create_app(settings.model_copy(update={"requests_per_s": 0.01}))
    secret = access_tokens.create(app.state.parts.db, "ada", "reader")[1]
    with TestClient(app, ADDRESS, client=HERE) as http:
        assert http.get("/api/v1/runs").status_code == 200
        refused = http.get("/api/v1/runs")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert refused.headers["retry-after"] == "1"
        assert http.get("/api/v1/runs", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert http.get("/healthz").status_code == 200


def test_a_flood_of_bad_tokens_is_cut_before_the_table_is_asked_and_good_ones_pass(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(settings.resolved_database_url)
    app = create_app(settings.model_copy(update={"requests_per_s": 0.001}))  # buckets of one
    asked, find = [], access_tokens.find

    def counted(db: Database, secret: str) -> access_tokens.AccessToken:
        asked.append(secret)
        return find(db, secret)

    secret, late = (access_tokens.create(app.state.parts.db, name, "reader")[1] for name in ("ada", "bob"))
    monkeypatch.setattr(access_tokens, "find", counted)
    monkeypatch.setattr(known_tokens, "FOR_S", 0.0)
    elsewhere = TestClient(app, ADDRESS, client=("127.0.0.2", 1))
    with TestClient(app, ADDRESS, client=HERE) as http:

        def ask(of: TestClient, secret: str) -> int:
            return of.get("/api/v1/whoami", headers={"Authorization": f"Bearer {secret}"}).status_code

        assert ask(http, secret) == 200
        assert {ask(http, f"vlglab_{n}") for n in range(20)} == {429}
        assert asked == [secret]
        assert ask(http, secret) == 200, "one that was good before has a bucket of its own"
        assert http.get("/api/v1/whoami").status_code == 200, "and so has who shows none"
        assert (ask(http, late), ask(elsewhere, late), ask(http, late)) == (429, 200, 200)


def test_the_body_of_one_who_sends_too_many_is_not_read(settings: Settings) -> None:
    upgrade(settings.resolved_database_url)
    app = create_app(settings.model_copy(update={"requests_per_s": 0.001}))
    read, answers = [], []

    async def receive() -> Message:
        read.append(1)
        return {"type": "http.request", "body": b"no JSON", "more_body": False}

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/api/v1/runs", "raw_path": b"/api/v1/runs", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")], "client": HERE,
    }  # fmt: skip
    for number in range(3):
        asyncio.run(app({**scope, "state": {}}, receive, send))
        assert len(read) == 1, number
    statuses = [message["status"] for message in answers if message["type"] == "http.response.start"]
    assert statuses == [422, 429, 429]
    counted = app.state.parts.measures.text().decode()
    assert 'vlglab_http_answers_total{method="POST",route="(none)",status="429"} 2.0' in counted


def test_a_rate_lets_bursts_pass_and_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("service.rate.time.monotonic", lambda: clock[0])
    rate = Rate(10)
    for _ in range(20):
        rate.take("ada")
    with pytest.raises(TooManyRequests, match="more than 10 requests a second"):
        rate.take("ada")
    rate.take("eve")
    clock[0] += 0.35
    for _ in range(3):
        rate.take("ada")
    with pytest.raises(TooManyRequests):
        rate.take("ada")
    clock[0] += 1000
    for _ in range(20):
        rate.take("ada")
    with pytest.raises(TooManyRequests):
        rate.take("ada")
    for _ in range(1000):
        Rate(0).take("ada")


def test_a_caller_who_goes_on_too_fast_still_gets_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("service.rate.time.monotonic", lambda: clock[0])
    rate, taken = Rate(10), 0
    for _ in range(1000):
        clock[0] += 0.05
        try:
            rate.take("ada")
        except TooManyRequests:
            continue
        taken += 1
    assert 500 <= taken <= 525, "20 at once and 10 a second for 50 s"


def test_threads_of_one_caller_share_one_bucket() -> None:
    rate, taken = Rate(5), []

    def work() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                rate.take("ada")
            except TooManyRequests:
                continue
            taken.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 10 <= len(taken) <= 14 + 5, "10 at once and 5 a second"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_nobody_is_asked_unless_the_settings_say_so(host: str) -> None:
    assert is_loopback(host)
    assert not Settings(host=host).tokens_required
    assert Settings(host=host, require_tokens=True).tokens_required
    assert not Settings(host=host, require_tokens=True, allow_anyone=True).tokens_required


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "lab.example.org", ""])
def test_beyond_loopback_everybody_is_asked_unless_anyone_may(host: str) -> None:
    assert not is_loopback(host)
    assert Settings(host=host).tokens_required
    assert not Settings(host=host, allow_anyone=True).tokens_required


def test_on_loopback_a_token_that_is_shown_counts(settings: Settings) -> None:
    upgrade(settings.resolved_database_url)
    app = create_app(settings)
    secrets: dict[Role, str] = {role: access_tokens.create(app.state.parts.db, role, role)[1] for role in ROLES}
    with TestClient(app, ADDRESS, client=HERE) as http:
        assert http.get("/api/v1/whoami").json() == {"name": "", "role": "admin"}
        for role, secret in secrets.items():
            shown = {"Authorization": f"Bearer {secret}"}
            assert http.get("/api/v1/whoami", headers=shown).json() == {"name": role, "role": role}
            assert http.get("/api/v1/whoami", headers={**shown, "Origin": "http://evil.example"}).status_code == 200
        assert http.get("/api/v1/whoami", headers={"Authorization": "Bearer nobody"}).status_code == 401

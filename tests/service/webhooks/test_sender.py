"""Messages that are sent for real, to servers that fail, stall, redirect and lie elsewhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.app import create_app
from service.webhooks import sender as sending
from service.webhooks.sender import Sender
from storage.records import deliveries, runs
from storage.records.database import Database
from storage.records.deliveries import Delivery
from storage.settings import Settings
from tests.fixtures.receiver import Receiver, receiving
from tests.fixtures.waiting import wait_until
from tests.service.conftest import ADDRESS, HERE

LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}
ALLOWED = {"webhook_hosts": ["127.0.0.1"], "webhook_backoff_s": 0.01, "webhook_timeout_s": 5.0}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings under which this machine may be told, and soon again."""
    return settings.model_copy(update=ALLOWED)


def ended(api: Any) -> str:
    """The id of a run that somebody cancelled."""
    run = api.post("/runs", LABELS)
    api.post(f"/runs/{run['id']}/cancel", status=200)
    return str(run["id"])


def messages(api: Any, **only: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/webhooks/deliveries", **only)["items"]
    return found


def all_in(api: Any, *states: str) -> Callable[[], bool]:
    return lambda: {one["state"] for one in messages(api)} <= set(states)


def check(receiver: Receiver, secret: str) -> None:
    """Verifies what came by the words of Standard Webhooks alone."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    for headers, body in zip(receiver.headers, receiver.bodies, strict=True):
        signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert headers["content-type"] == "application/json"
        assert headers["host"] == receiver.url.removeprefix("http://")


def test_a_receiver_that_fails_first_gets_the_same_message_until_it_takes_it(api: Any) -> None:
    with receiving(Receiver(answers=(500, 429, 302, 204))) as receiver:
        made = api.post("/webhooks", {"url": receiver.url + "/lab?x=1"})
        run_id = ended(api)
        wait_until(lambda: bool(messages(api)) and all_in(api, "delivered")(), 20)
        (one,) = messages(api, run=run_id)
        assert (one["tries"], one["status"], one["error"]) == (4, 204, None)
        assert len(receiver.bodies) == 4, "no redirect is followed"
        assert set(receiver.ids()) == {one["id"]}, "the id stays, so that a receiver knows it again"
        assert len(set(receiver.bodies)) == 1
        assert json.loads(receiver.bodies[0])["data"]["run"]["id"] == run_id
        check(receiver, made["secret"])
        ended(api)
        wait_until(lambda: len(receiver.bodies) == 5, 20)


@pytest.mark.slow
def test_a_receiver_that_never_takes_it_is_given_up_after_the_stated_tries(settings: Settings, api: Any) -> None:
    with receiving(Receiver(answers=(503,))) as receiver:
        api.post("/webhooks", {"url": receiver.url, "states": ["cancelled"]})
        api.post("/webhooks", {"url": receiver.url, "states": ["failed"]})
        ended(api)
        wait_until(lambda: bool(messages(api)) and all_in(api, "given_up")(), 60)
        (one,) = messages(api)
        assert (one["tries"], one["status"], one["error"]) == (8, 503, "it answered 503")
        assert len(receiver.bodies) == 8


def test_what_was_not_told_when_the_service_stopped_is_told_by_the_next(settings: Settings, db: Database) -> None:
    """And by only one of two services on the same database at a time."""
    url = db.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    config = settings.model_copy(update={"database_url": url})
    from fastapi.testclient import TestClient

    with receiving(Receiver()) as receiver:
        with TestClient(create_app(config), ADDRESS, client=HERE) as http:
            made = http.post("/api/v1/webhooks", json={"url": receiver.url}).json()
            ids = [http.post("/api/v1/runs", json=LABELS).json()["id"] for _ in range(12)]
        for run_id in ids:  # nobody serves: the outbox keeps them
            runs.request_cancel(db, run_id)
        assert receiver.bodies == []
        apps = [create_app(config), create_app(config)]
        with TestClient(apps[0], ADDRESS, client=HERE), TestClient(apps[1], ADDRESS, client=HERE):
            wait_until(lambda: len(receiver.bodies) >= 12, 30)
            wait_until(lambda: {one.state for one in outbox(db)} == {"delivered"}, 30)
        assert len(receiver.bodies) == len(set(receiver.ids())) == 12
        assert receiver.most_at_once <= 2 * sending.EACH
        check(receiver, made["secret"])


def outbox(db: Database) -> tuple[Delivery, ...]:
    return deliveries.list_deliveries(db).items


def test_two_senders_never_send_the_same_try_at_once(settings: Settings, db: Database, host_of_runs: Any) -> None:
    with receiving(Receiver(hold=threading.Event())) as receiver:
        host_of_runs(receiver.url, 3)

        async def both() -> None:
            first, second = Sender(db, settings), Sender(db, settings)
            began = [await first.send_due(), await second.send_due(), await first.send_due()]
            assert began == [3, 0, 0]
            await asyncio.to_thread(wait_until, lambda: len(receiver.bodies) == 3, 20)
            assert receiver.hold is not None
            receiver.hold.set()
            stopping = asyncio.Event()
            stopping.set()
            await first.run(stopping)
            await second.run(stopping)

        asyncio.run(both())
        assert [one.state for one in outbox(db)] == ["delivered"] * 3
        assert [one.tries for one in outbox(db)] == [1] * 3


@pytest.fixture
def host_of_runs(settings: Settings, db: Database) -> Callable[[str, int], None]:
    """Adds a webhook and ends some runs, with no service."""
    from service.webhooks import signing
    from storage.records import webhooks
    from storage.specs import stages
    from storage.specs.plans import PlannedRun

    def make(url: str, count: int) -> None:
        key, salt = signing.key_of(settings.webhook_key_path), signing.new_salt()
        webhooks.add(db, url, ["cancelled"], "ada", salt, key.id)
        planned = [PlannedRun(f"labels {i}", stages.EmbedLabels(label_set="s3dis13")) for i in range(count)]
        for run in runs.create(db, planned):
            runs.request_cancel(db, run.id)

    return make


def sent_once(db: Database, settings: Settings) -> Delivery:
    """The only message, after one try."""

    async def send() -> None:
        sender = Sender(db, settings)
        assert await sender.send_due() == 1
        while sender._flying:
            await asyncio.sleep(0.01)
        stopping = asyncio.Event()
        stopping.set()
        await sender.run(stopping)

    asyncio.run(send())
    (one,) = outbox(db)
    return one


def test_a_private_address_that_is_not_listed_is_never_connected_to(
    settings: Settings, db: Database, host_of_runs: Any
) -> None:
    with receiving(Receiver()) as receiver:
        host_of_runs(receiver.url.replace("127.0.0.1", "localhost"), 1)
        one = sent_once(db, settings.model_copy(update={"webhook_hosts": ["*"]}))
        assert receiver.bodies == []
    assert one.state == "waiting" and one.status is None
    assert "is not public" in (one.error or "")


def test_a_name_goes_to_the_address_that_was_checked(
    settings: Settings, db: Database, host_of_runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once; whoever owns it cannot answer otherwise to the connection."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **more: Any) -> Any:
        asked.append(str(host))
        return real("127.0.0.1" if host == "hooks.test" and asked.count("hooks.test") == 1 else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with receiving(Receiver()) as receiver:
        host_of_runs(receiver.url.replace("127.0.0.1", "hooks.test"), 1)
        one = sent_once(db, settings.model_copy(update={"webhook_hosts": ["hooks.test"]}))
        assert one.state == "delivered", one.error
        assert receiver.headers[0]["host"] == receiver.url.removeprefix("http://").replace("127.0.0.1", "hooks.test")
    assert asked.count("hooks.test") == 1


def test_a_receiver_that_stalls_costs_no_more_than_the_time_it_has(
    settings: Settings, db: Database, host_of_runs: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host_of_runs(f"http://127.0.0.1:{silent.getsockname()[1]}", 1)
        one = sent_once(db, settings.model_copy(update={"webhook_timeout_s": 0.2}))
    assert (one.state, one.status) == ("waiting", None)
    assert one.error == "no answer within 0.2 s" or "Timeout" in (one.error or "")


def test_nobody_listening_is_a_failed_try(settings: Settings, db: Database, host_of_runs: Any) -> None:
    host_of_runs("http://127.0.0.1:9", 1)
    one = sent_once(db, settings)
    assert (one.state, one.tries, one.status) == ("waiting", 1, None)
    assert "ConnectError" in (one.error or "")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is never used: nothing listens there."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

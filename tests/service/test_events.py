"""Streams of events: nothing is left out or sent twice, across reconnects, and streams end when they should."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from service import feed as feed_module
from service.app import create_app
from service.client import Client
from service.feed import Entry, Feed
from service.routes import streams
from storage import errors
from storage.records import access_tokens, events, experiments, runs
from storage.records.database import Database
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun

LABELS = [PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))]


@dataclass
class Service:
    """A real server on a free port of loopback, which can be stopped and started again at the same one."""

    settings: Settings
    port: int = 0

    @contextmanager
    def running(self) -> Iterator[str]:
        app = create_app(self.settings)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.port, log_config=None, timeout_graceful_shutdown=1, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
        thread.start()
        try:
            end = time.monotonic() + 30
            while not server.started:
                assert thread.is_alive() and time.monotonic() < end
                time.sleep(0.01)
            self.port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{self.port}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def service(settings: Settings, database_url: str) -> Service:
    """A service without a worker: runs wait, and tests move them."""
    return Service(settings.model_copy(update={"database_url": database_url, "tick_s": 0.05}))


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    opened = Database.open(database_url)
    yield opened
    opened.close()


def note(db: Database, run_id: str, text: str) -> None:
    with db.write() as session:
        runs.note(session, runs.row_of(session, run_id), text)


def cancelled(db: Database) -> str:
    made = runs.create(db, LABELS)[0].id
    runs.request_cancel(db, made)
    return made


def test_a_run_s_stream_brings_all_its_events_and_ends_with_it(service: Service, db: Database) -> None:
    with service.running() as url, Client(url) as client:
        watched = runs.create(db, LABELS)[0].id
        other = cancelled(db)
        got: list[int] = []
        follower = threading.Thread(target=lambda: got.extend(e.id for e in client.follow_events(run=watched)))
        follower.start()
        for number in range(30):
            note(db, watched, f"note {number}\u2028\u0085 in one line")
        runs.request_cancel(db, watched)
        follower.join(30)
        assert not follower.is_alive()
        assert got == [event.id for event in events.after(db, watched, limit=500)]
        assert [e.run_id for e in client.follow_events(run=other)] == [other] * len(events.after(db, other))
        last = got[-3]
        assert [e.id for e in client.follow_events(run=watched, cursor=last)] == got[-2:]
        with pytest.raises(errors.NotFound):
            list(client.follow_events(run="r404"))
        with pytest.raises(errors.NotFound):
            list(client.follow_events(experiment="e404"))


def test_a_stream_goes_on_where_it_was_when_the_service_comes_back(service: Service, db: Database) -> None:
    watched = runs.create(db, LABELS)[0].id
    got: list[int] = []
    with service.running() as url:
        client = Client(url)
        follower = threading.Thread(target=lambda: got.extend(e.id for e in client.follow_events(run=watched)))
        follower.start()
        note(db, watched, "before")
        end = time.monotonic() + 30
        while len(got) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
    note(db, watched, "while it was away")
    with service.running():
        note(db, watched, "after")
        runs.request_cancel(db, watched)
        follower.join(30)
        assert not follower.is_alive()
    client.close()
    assert got == [event.id for event in events.after(db, watched)]


def test_many_streams_of_an_experiment_agree_with_the_table(service: Service, db: Database) -> None:
    first = experiments.create(db, "one", None, None, {}, LABELS * 1)
    second = experiments.create(db, "two", None, None, {}, LABELS * 1)
    with service.running() as url:
        got: list[list[int]] = [[] for _ in range(6)]

        def follow(mine: list[int], experiment: str) -> None:
            with Client(url) as client:
                for event in client.follow_events(experiment=experiment):
                    mine.append(event.id)
                    if event.message == "the last":
                        return

        chosen = [first.id, second.id] * 3
        threads = [threading.Thread(target=follow, args=pair) for pair in zip(got, chosen, strict=True)]
        for thread in threads:
            thread.start()
        ids = {made.id: runs.of_experiment(db, made.id)[0].id for made in (first, second)}
        for number in range(40):
            note(db, ids[chosen[number % 2]], f"note {number}")
        for run_id in ids.values():
            note(db, run_id, "the last")
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    for mine, experiment in zip(got, chosen, strict=True):
        assert mine == [event.id for event in events.after(db, limit=500, experiment_id=experiment)][: len(mine)]
        assert len(mine) >= 22


def test_an_id_that_is_none_is_refused(service: Service) -> None:
    with service.running() as url, Client(url) as client:
        for wrong in ("x", "-1", "1.5", "9" * 40, "\u0661"):
            answer = client._http.get("/api/v1/events/stream", headers=[(b"Last-Event-ID", wrong.encode())])
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), wrong


def test_a_feed_asks_the_table_only_while_somebody_waits(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(events, "last", lambda _: looks.append(1) or 7)

    async def scenario() -> None:
        feed, stopping = Feed(db, 0.01), asyncio.Event()
        task = asyncio.create_task(feed.run(stopping))
        await asyncio.sleep(0.1)
        assert not looks
        assert await feed.newer(6, 5)
        assert not await feed.newer(7, 0.05)
        stopping.set()
        await task
        assert feed.closed
        assert not await feed.newer(7, 5), "a feed that is closed keeps nobody waiting"

    asyncio.run(scenario())
    assert looks


def test_streams_of_everything_share_what_was_read_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first look on the feed has every event; before it, and after too many at once, the table has them."""
    run = runs.create(db, LABELS)[0].id
    monkeypatch.setattr(feed_module, "KEPT", 4)
    monkeypatch.setattr(feed_module, "MAX_LIMIT", 6)

    def ids(known: list[Entry] | None) -> list[int] | None:
        return None if known is None else [entry.id for entry in known]

    async def scenario() -> None:
        feed = Feed(db, 0.01)
        assert feed.after(0) is None
        await feed._look()
        begun = feed.last
        assert (feed.after(begun - 1), feed.after(begun)) == (None, [])
        for number in range(3):
            note(db, run, f"note {number}")
        await feed._look()
        table = [event.id for event in events.after(db, run, begun)]
        assert ids(feed.after(begun)) == table
        assert ids(feed.after(table[0])) == table[1:]
        assert [entry.text.partition("\n")[0] for entry in feed.after(table[1]) or []] == [f"id: {table[-1]}"]
        for number in range(3):
            note(db, run, f"more {number}")
        await feed._look()
        table = [event.id for event in events.after(db, run, begun)]
        assert feed.after(begun) is None, "only the last KEPT are kept"
        assert ids(feed.after(table[1])) == table[2:]
        for number in range(20):
            note(db, run, f"many {number}")
        await feed._look()
        assert feed.last == events.last(db)
        assert feed.after(table[-1]) is None
        assert feed.after(feed.last) == []

    asyncio.run(scenario())


def test_a_stream_ends_when_its_token_is_revoked_and_the_next_is_refused(
    service: Service, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_AGAIN_S", 0.0)
    service.settings = service.settings.model_copy(update={"require_tokens": True})
    access_tokens.create(db, "grace", "admin")
    token, secret = access_tokens.create(db, "ada", "reader")
    watched = runs.create(db, LABELS)[0].id
    got: list[str] = []
    refused: list[errors.TokenRefused] = []
    with service.running() as url:

        def follow() -> None:
            with Client(url, token=secret) as listening:
                try:
                    got.extend(event.message or "" for event in listening.follow_events(run=watched))
                except errors.TokenRefused as error:
                    refused.append(error)

        follower = threading.Thread(target=follow)
        follower.start()
        end = time.monotonic() + 30
        while not got and time.monotonic() < end:
            note(db, watched, "heard")
            time.sleep(0.05)
        access_tokens.revoke(db, token.id)
        note(db, watched, "not for you")
        follower.join(30)
        assert not follower.is_alive()
    assert "heard" in got and "not for you" not in got
    assert "revoked" in refused[0].message


def test_a_caller_holds_so_many_streams_and_no_more(
    service: Service, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS", 2)
    watched = runs.create(db, LABELS)[0].id
    with service.running() as url, ExitStack() as held:
        lines = []
        for _ in range(2):
            answer = held.enter_context(httpx.stream("GET", f"{url}/api/v1/events/stream", params={"run": watched}))
            lines.append(answer.iter_lines())
            next(lines[-1])
        third = httpx.get(f"{url}/api/v1/events/stream", params={"run": watched})
        assert (third.status_code, third.json()["code"]) == (429, "too_many_requests")
        held.close()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with httpx.stream("GET", f"{url}/api/v1/events/stream", params={"run": watched}) as again:
                if again.status_code == 200:
                    return
            note(db, watched, "a stream notices that it was hung up when it sends")
            time.sleep(0.05)
        raise AssertionError("a stream that was hung up counts for ever")

"""Streams of one run or one experiment: fed from what one look at the table found, and woken by their own events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from service import feed as feed_module
from service.feed import EVERYTHING, Feed, Only
from service.routes import streams
from storage.records import events, experiments, retries, runs
from storage.records.database import Database
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.moving_runs import make_ready

LABELS = [PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))]


@pytest.fixture
def writer(database_url: str) -> Iterator[Database]:
    """The database as another process has it, whose statements are not counted."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


@contextmanager
def reads(db: Database) -> Iterator[list[str]]:
    """The SELECTs of a database."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    event.listen(db.reading, "before_cursor_execute", note)
    yield asked
    event.remove(db.reading, "before_cursor_execute", note)


def note(db: Database, run_id: str, text: str = "note") -> None:
    with db.write() as session:
        runs.note(session, runs.row_of(session, run_id), text)


def new_run(db: Database) -> str:
    return runs.create(db, LABELS)[0].id


def new_experiment(db: Database) -> tuple[str, str]:
    """An experiment and its only run."""
    made = experiments.create(db, "x", None, None, {}, LABELS).id
    return made, runs.of_experiment(db, made)[0].id


class Listener:
    """A stream that somebody listens to, as it is sent."""

    def __init__(self, db: Database, feed: Feed, only: Only, cursor: int = 0) -> None:
        self.only, self.cursor = only, cursor
        self.ids: list[int] = []
        self.ended_at: int | None = None
        self.task = asyncio.create_task(self._listen(streams._lines(db, feed, only, cursor)))

    async def _listen(self, lines: AsyncIterator[str]) -> None:
        async for text in lines:
            for block in text.split("\n\n"):
                if "\nevent: end\n" in block:
                    self.ended_at = int(block.partition("\n")[0][4:])
                elif block.startswith("id: "):
                    self.ids.append(int(block.partition("\n")[0][4:]))

    async def drop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def settled(feed: Feed, *listeners: Listener) -> None:
    """Returns when all listeners wait for the feed, or have ended."""
    async with asyncio.timeout(60):
        for _ in range(3):  # one that was woken is about to listen
            await asyncio.sleep(0)
            while feed._waiting < sum(not one.task.done() for one in listeners):
                await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(db: Database, *only: Only) -> AsyncIterator[tuple[Feed, list[Listener]]]:
    """A feed that looks when it is told, and streams that have sent all there was."""
    feed = Feed(db, 3600.0)
    listeners = [Listener(db, feed, one) for one in only]
    for _ in range(2):
        await settled(feed, *listeners)
        await feed._look()
    await settled(feed, *listeners)
    yield feed, listeners
    for one in listeners:
        await one.drop()


def of(db: Database, only: Only, cursor: int = 0) -> list[int]:
    """What the table says that a stream is to send."""
    found = events.after(db, only.run, cursor, 500, experiment_id=only.experiment)
    return [one.id for one in found]


def test_events_of_others_cost_a_stream_no_reading_and_do_not_wake_it(
    db: Database, writer: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, other = new_run(writer), new_run(writer)
    (experiment, of_experiment), (_, of_other) = new_experiment(writer), new_experiment(writer)
    filters = [Only(run=watched), Only(experiment=experiment), Only(run=of_experiment, experiment=experiment)] * 4
    woken: list[Only] = []
    after = Feed.after

    def counted(self: Feed, cursor: int, only: Only = EVERYTHING) -> object:
        woken.append(only)
        return after(self, cursor, only)

    async def scenario() -> None:
        async with listening(db, *filters) as (feed, listeners):
            monkeypatch.setattr(Feed, "after", counted)
            with reads(db) as asked:
                for number in range(10):
                    note(writer, other if number % 2 else of_other)
                    new_run(writer)
                    await feed._look()
                    await settled(feed, *listeners)
            assert len(asked) == 10, "a look reads events and their runs' experiments by one statement"
            assert not woken
            with reads(db) as asked:
                note(writer, watched)
                await feed._look()
                await settled(feed, *listeners)
                assert {only.run for only in woken} == {watched}
                note(writer, of_experiment)
                await feed._look()
                await settled(feed, *listeners)
            assert len(asked) == 2, "its own events are in the tail as well"
            assert [one.ids for one in listeners] == [of(writer, one.only) for one in listeners]
            assert [len(one.ids) for one in listeners[:3]] == [2, 2, 2]

    asyncio.run(scenario())


def test_a_stream_older_than_the_tail_reads_the_table_and_goes_on_from_the_tail(
    db: Database, writer: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "KEPT", 3)
    watched, other = new_run(writer), new_run(writer)

    async def scenario() -> None:
        async with listening(db, Only(run=watched)) as (feed, (listener,)):
            for run in [other] * 5 + [watched]:
                note(writer, run)
                await feed._look()
            with reads(db) as asked:
                await settled(feed, listener)
            assert asked and listener.ids == of(writer, listener.only)
            with reads(db) as asked:
                note(writer, watched)
                await feed._look()
                await settled(feed, listener)
            assert len(asked) == 1 and listener.ids == of(writer, listener.only)

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["before the stream", "while it listens", "with a retry in between"])
def test_a_run_s_stream_ends_after_its_last_event(db: Database, writer: Database, how: str) -> None:
    watched = new_run(writer)

    def cancel() -> None:
        runs.request_cancel(writer, watched)

    async def scenario() -> None:
        if how == "before the stream":
            cancel()
            note(writer, watched, "after its end")
        async with listening(db, Only(run=watched)) as (feed, (listener,)):
            if how == "with a retry in between":
                cancel()
                retries.retry(writer, watched)
                await feed._look()
                await settled(feed, listener)
                assert listener.ended_at is None, "it waits again"
                make_ready(writer, watched)
            if how != "before the stream":
                cancel()
                await feed._look()
            await asyncio.wait_for(listener.task, 60)
            assert listener.ids == of(writer, listener.only)
            assert listener.ended_at == listener.ids[-1]
            again = Listener(db, feed, listener.only, listener.ids[-1])
            await asyncio.wait_for(again.task, 60)
            assert (again.ids, again.ended_at) == ([], listener.ids[-1])

    asyncio.run(scenario())


def test_a_stream_of_a_retried_run_goes_on_from_the_end_that_it_had_seen(db: Database, writer: Database) -> None:
    watched = new_run(writer)
    runs.request_cancel(writer, watched)
    last = of(writer, Only(run=watched))[-1]
    retries.retry(writer, watched)

    async def scenario() -> None:
        feed = Feed(db, 3600.0)
        listener = Listener(db, feed, Only(run=watched), last)
        await settled(feed, listener)
        assert listener.ids == of(writer, listener.only, last) and listener.ended_at is None
        await listener.drop()

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_any_streams_send_what_the_table_has_in_its_order_once(
    db: Database, writer: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Streams that are dropped and taken up again, small tails, more events at once than a look reads."""
    for module, name, value in ((feed_module, "KEPT", 6), (feed_module, "MAX_LIMIT", 9), (streams, "_AT_ONCE", 4)):
        monkeypatch.setattr(module, name, value)
    chance = random.Random(seed)
    alone, made = [new_run(writer) for _ in range(3)], [new_experiment(writer) for _ in range(3)]
    filters = [EVERYTHING, *(Only(run=run) for run in alone), *(Only(experiment=one) for one, _ in made)]
    filters += [Only(run=made[0][1], experiment=made[0][0]), Only(run=made[0][1], experiment=made[1][0])]
    every = [*alone, *(run for _, run in made)]

    async def scenario() -> None:
        async with listening(db, *filters) as (feed, listeners):
            kept: list[list[int]] = [[] for _ in filters]
            for _ in range(60):
                for _ in range(chance.choice([0, 1, 1, 2, 5, 14])):
                    happens(writer, chance, every)
                if chance.random() < 0.7:
                    await feed._look()
                if chance.random() < 0.5:
                    await settled(feed, *listeners)
                if chance.random() < 0.5:
                    which = chance.randrange(len(filters))
                    await listeners[which].drop()
                    kept[which] += listeners[which].ids
                    listeners[which] = Listener(db, feed, filters[which], (kept[which] or [0])[-1])
            note(writer, every[0], "the last")
            for _ in range(3):
                await settled(feed, *listeners)
                await feed._look()
            await settled(feed, *listeners)
            for before, one in zip(kept, listeners, strict=True):
                sent = before + one.ids
                table = every_id(writer, one.only)
                assert sent == table if one.ended_at is None else sent == table[: len(sent)]

    asyncio.run(scenario())


def every_id(db: Database, only: Only) -> list[int]:
    """All that the table has for a stream, page by page."""
    ids: list[int] = []
    while more := of(db, only, ids[-1] if ids else 0):
        ids += more
    return ids


def happens(db: Database, chance: random.Random, every: list[str]) -> None:
    """A note, or an end, or a retry."""
    run = chance.choice(every)
    what: list[Callable[[], object]] = [lambda: note(db, run)] * 4
    if runs.get(db, run).state == "queued":
        what.append(lambda: runs.request_cancel(db, run))
    else:
        what.append(lambda: retries.retry(db, run))
    chance.choice(what)()

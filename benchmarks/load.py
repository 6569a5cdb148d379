"""`make bench-load`: many clients submit, read and follow events at a given rate; nothing fails, is lost or doubled.

The load is open: a submission is due at its time whether or not those before it were answered, and its latency counts
from then. Every client follows all events and hangs up twice in between, to go on by Last-Event-ID; what it has heard
is compared with the table. The service runs in a process of its own, without a worker host, and asks for tokens. With
`--waiting N` so many runs wait all the while for one that nobody claims, and every second client follows one of those.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from sqlalchemy import text

from benchmarks.served import service
from migrations.upgrade import upgrade
from storage.records import access_tokens, datasets, runs
from storage.records.database import Database
from storage.records.datasets import Dataset
from storage.specs import stages
from storage.specs.plans import OutputRef, PlannedRun
from tests.fixtures.postgres import new_database, running_server

API = "/api/v1"
BAR_S = 0.25
"""p99 that is aimed at, seconds."""
LAST_S = 60.0
"""Seconds that streams get to hear of the last event."""
TWICE = 20
"""One in so many submissions is sent a second time, as a client does that lost the answer."""


@dataclass
class Load:
    """What is asked of a service, and what came of it."""

    url: str
    clients: int
    rate: float
    seconds: float
    tokens: list[str]
    submitted: list[float] = field(default_factory=list)
    """Latency of each submission from the moment that it was due, seconds."""
    read: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    follows: list[str] = field(default_factory=list)
    """The run that each client follows; empty: all events."""
    heard: list[array[int]] = field(default_factory=list)
    """Ids of the events that each client heard, in the order in which it did."""
    drops: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    last: int = -1
    """Id of the last event, once it is known."""
    cpu_s: float = 0.0
    """Processor time of the service under the load, seconds."""

    async def run(self, last_event: Database) -> None:
        """Submits for `seconds`, reads and follows meanwhile, then waits until every stream has heard everything."""
        self.heard = [array("q") for _ in range(self.clients)]
        async with aiohttp.ClientSession(
            self.url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None, sock_read=60.0)
        ) as http:
            following = [asyncio.create_task(self._follow(http, one)) for one in range(self.clients)]
            await asyncio.gather(*(self._client(http, one) for one in range(self.clients)))
            await asyncio.sleep(2.0)  # the planner makes the last runs ready
            with last_event.read() as session:
                self.last = session.scalar(text("SELECT max(id) FROM events")) or 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    of_all = [ids for ids, run in zip(self.heard, self.follows, strict=True) if not run]
                    while any(not ids or ids[-1] < self.last for ids in of_all):
                        await asyncio.sleep(0.05)
            self.done.set()
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def _client(self, http: aiohttp.ClientSession, one: int) -> None:
        """Sends one client's submissions, each at its time, whatever became of those before it."""
        every = self.clients / self.rate
        began = time.monotonic() + 1.0 + every * one / self.clients
        asked = []
        for number in range(int(self.seconds / every)):
            due = began + number * every
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            asked.append(asyncio.create_task(self._submit(http, one, number, due)))
        await asyncio.gather(*asked)

    async def _submit(self, http: aiohttp.ClientSession, one: int, number: int, due: float) -> None:
        """One submission, now and then sent twice, and then what somebody reads who has submitted."""
        headers = {"Idempotency-Key": f"{one}-{number}", "Authorization": f"Bearer {self.tokens[one]}"}
        body = {"name": f"c{one}-{number}", "spec": {"stage": "embed_labels", "label_set": "s3dis13"}}
        answer = await self._ask(http.post(f"{API}/runs", json=body, headers=headers), 201)
        if answer is None:
            return
        self.submitted.append(time.monotonic() - due)
        made = answer["id"]
        if number % TWICE == 0:
            again = await self._ask(http.post(f"{API}/runs", json=body, headers=headers), 200)
            if again is not None and again["id"] != made:
                self.faults.append(f"a second run {again['id']} for {body['name']}, which was {made}")
        began = time.monotonic()
        path = f"{API}/runs/{made}" if number % 5 else f"{API}/runs?limit=50"
        if await self._ask(http.get(path, headers=headers), 200) is not None:
            self.read.append(time.monotonic() - began)

    async def _ask(self, request: AbstractAsyncContextManager[aiohttp.ClientResponse], status: int) -> Any:
        """The answer's document, or None where it is another than expected; that is noted."""
        try:
            async with request as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.faults.append(repr(error))
            return None
        if answer.status != status:
            self.faults.append(f"{answer.status} for {answer.url}: {content[:200]!r}")
            return None
        return json.loads(content)

    async def _follow(self, http: aiohttp.ClientSession, one: int) -> None:
        """Hears events until all is over; hangs up twice and goes on from the last one that it heard."""
        chance = random.Random(one)
        ends = [time.monotonic() + self.seconds * share for share in sorted(chance.random() for _ in range(2))]
        while not self.done.is_set():
            end = ends.pop(0) if ends else float("inf")
            try:
                await self._listen(http, one, end)
                self.drops += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                self.faults.append(f"a stream broke: {error!r}")
                await asyncio.sleep(0.5)

    async def _listen(self, http: aiohttp.ClientSession, one: int, end: float) -> None:
        """Hears events until `end`."""
        ids = self.heard[one]
        headers = {"Authorization": f"Bearer {self.tokens[one]}"} | ({"Last-Event-ID": str(ids[-1])} if ids else {})
        only = {"run": self.follows[one]} if self.follows[one] else {}
        async with http.get(f"{API}/events/stream", headers=headers, params=only) as stream:
            if stream.status != 200:
                self.faults.append(f"{stream.status} for a stream")
                await asyncio.sleep(0.5)
                return
            rest = b""
            async for chunk in stream.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n\n")
                ids.extend(int(block[4 : block.index(b"\n")]) for block in whole if block.startswith(b"id: "))
                if time.monotonic() > end:
                    return


def check(load: Load, db: Database) -> list[str]:
    """What went wrong: failed requests, and what the tables say that clients did not see as it is."""
    with db.read() as session:
        rows = session.execute(text("SELECT id, run_id FROM events ORDER BY id")).all()
        query = text("SELECT count(*), count(DISTINCT name) FROM runs WHERE owner <> ''")
        num_runs, names = session.execute(query).one()
    faults = list(load.faults)
    if num_runs != names or num_runs != len(load.submitted):
        faults.append(f"{num_runs} runs of {names} names for {len(load.submitted)} submissions")
    for one, (ids, run) in enumerate(zip(load.heard, load.follows, strict=True)):
        events = array("q", (event for event, of in rows if run in ("", of)))
        if ids != events:
            faults.append(
                f"client {one} heard {len(ids)} events ({len(set(events) - set(ids))} missing) of {len(events)}"
            )
    return faults


def quantile(values: list[float], share: float) -> float:
    """The value below which this share lies; nan where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def wait(db: Database, number: int) -> list[str]:
    """Makes so many runs that wait for one that nobody claims; returns their ids."""
    dataset = datasets.add(db, Dataset("offices", "synthrooms", "/rooms", "s3dis13")).name
    planned = [PlannedRun("source", stages.Ingest(label_set="s3dis13"), {}, dataset)]
    inputs = {"scenes": OutputRef("source", "scenes")}
    planned += [PlannedRun(f"waits {one}", stages.Extract(), inputs, dataset) for one in range(number)]
    return [run.id for run in runs.create(db, planned)[1:]]


def measure(database_url: str, clients: int, rate: float, seconds: float, waiting: int = 0) -> tuple[Load, list[str]]:
    """Loads a fresh service on a database without tables; returns what was measured, and what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        url = database_url or f"sqlite:///{home / 'vlglab.db'}"
        upgrade(url)
        db = Database.open(url)
        try:
            access_tokens.create(db, "root", "admin")
            tokens = [access_tokens.create(db, f"c{one}", "submitter")[1] for one in range(clients)]
            waiters = wait(db, waiting) if waiting else [""]
            follows = [waiters[one % len(waiters)] if one % 2 else "" for one in range(clients)]
            with service(home, VLGLAB_DATABASE_URL=url, VLGLAB_REQUIRE_TOKENS="1") as (address, process):
                load = Load(address, clients, rate, seconds, tokens, follows=follows)
                before = sum(process.cpu_times()[:2])
                uvloop.run(load.run(db))
                load.cpu_s = sum(process.cpu_times()[:2]) - before
                return load, check(load, db)
        finally:
            db.close()


@contextlib.contextmanager
def own_postgres() -> Iterator[str]:
    """The URL of an empty database on a server that syncs as one in service does."""
    with running_server(fsync="on") as server:
        yield new_database(server)


def main() -> int:
    """Measures and prints; 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server of its own; default SQLite")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rate", type=float, default=100.0, help="submissions a second, of all clients")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--waiting", type=int, default=0, help="runs that wait all the while")
    given = parser.parse_args()
    with own_postgres() if given.postgres else contextlib.nullcontext("") as database_url:
        load, faults = measure(database_url, given.clients, given.rate, given.seconds, given.waiting)
    kind = "PostgreSQL" if given.postgres else "SQLite"
    who = f"every second one a run, {given.waiting} runs wait" if given.waiting else "all follow all events"
    print(f"{kind}: {given.clients} clients, {given.rate:g} submissions/s for {given.seconds:g} s, {who}")
    for name, values in (("submitting", load.submitted), ("reading", load.read)):
        p50, p99, most = (quantile(values, share) * 1000 for share in (0.5, 0.99, 1.0))
        print(f"  {name:11}{len(values):7} answers  p50 {p50:6.0f} ms  p99 {p99:6.0f} ms  max {most:6.0f} ms")
    num_events = len(load.heard[0])
    print(f"  {num_events} events in a stream of all, {given.clients} streams, {load.drops} times taken up again")
    each_ms = 1000 * load.cpu_s / max(1, len(load.submitted))
    print(f"  the service took {load.cpu_s:.1f} s of processor time, {each_ms:.1f} ms a submission with all around it")
    print(f"  bar: p99 of submitting under {BAR_S * 1000:.0f} ms; load average {os.getloadavg()[0]:.1f}")
    print("\n".join(f"  FAULT {fault}" for fault in faults[:20]) or "  no error, no lost event, no duplicate run")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

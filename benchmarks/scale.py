"""What it costs to look at a lab that has grown: listing, each filter and sort, and opening a run, over HTTP.

    python -m benchmarks.scale [--runs 100000] [--points 10000000] [--repeats 100] [--postgres | --url URL]

Fills a new database (SQLite unless told otherwise; `--postgres` starts a server of its own, `--url` names an empty
database), starts `vlglab serve --no-host` on it, and asks it from one client over one connection. Prints the median and
the 99th percentile of each kind in milliseconds, for which the goal is 50, and what the service worked for one.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.populate import experiment_id, made_at, populate, run_id
from benchmarks.served import service
from migrations.upgrade import upgrade
from storage.records.database import Database
from tests.fixtures.postgres import find_binaries, new_database, running_server

BAR_MS = 50.0
LIMIT = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Fills a database, measures, prints; exit status 1 where something takes longer than the goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=10_000_000, help="values of metrics, of all runs together")
    parser.add_argument("--repeats", type=int, default=100, help="requests of each kind")
    choose_database(parser)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vlglab-scale-") as home, database(chosen, Path(home)) as url:
        began = time.monotonic()
        upgrade(url)
        db = Database.open(url)
        lab = populate(db, chosen.runs, max(5, chosen.points // chosen.runs // 5 * 5))
        kind = "SQLite" if db.is_sqlite else "PostgreSQL"
        db.close()
        print(
            f"{kind}: {lab.runs:,} runs of {lab.experiments:,} experiments, {lab.points:,} points,"
            f" written in {time.monotonic() - began:.0f} s; {chosen.repeats} requests of a kind over HTTP,"
            f" {LIMIT} runs a page, ms:"
        )
        with service(Path(home), VLGLAB_DATABASE_URL=url, VLGLAB_REQUESTS_PER_S="100000") as address:
            return _measure(*address, lab.runs, chosen.repeats)


def _measure(address: str, process: psutil.Process, num_runs: int, repeats: int) -> int:
    """Asks, prints a line a kind of request, and gives the exit status."""
    draw = random.Random(0)
    over = False
    with httpx.Client(base_url=address + "/api/v1", timeout=60, trust_env=False) as client:
        pages = _middles(client, num_runs)
        turns = [[*_requests(num_runs, draw), *pages] for _ in range(repeats)]
        for requests in zip(*turns, strict=True):
            client.get(requests[0][1])
            times, before = [], _cpu_s(process)
            for _, path in requests:
                began = time.perf_counter()
                client.get(path).raise_for_status()
                times.append(1000 * (time.perf_counter() - began))
            cpu_ms = 1000 * (_cpu_s(process) - before) / repeats
            times.sort()
            last = times[min(repeats - 1, int(0.99 * repeats))]
            mark = f"  over {BAR_MS:.0f}" if last > BAR_MS else ""
            over = over or bool(mark)
            median = statistics.median(times)
            print(f"  {requests[0][0]:<33} median {median:6.1f}  p99 {last:6.1f}  service's CPU {cpu_ms:5.1f}{mark}")
    return int(over)


def _cpu_s(process: psutil.Process) -> float:
    """Seconds that a process has worked."""
    spent = process.cpu_times()
    return spent.user + spent.system


def _requests(num_runs: int, draw: random.Random) -> Iterator[tuple[str, str]]:
    """One request of each kind: what it is called, and its path."""
    some = draw.randrange(num_runs)
    old, new = made_at(num_runs // 100), made_at(num_runs - num_runs // 100)
    for name, query in {
        "runs": "",
        "state=failed": "state=failed",
        "state=succeeded": "state=succeeded",
        "state=running": "state=running",
        "stage": "stage=evaluate",
        "experiment": f"experiment={experiment_id(some)}",
        "dataset": "dataset=homes",
        "owner of most": "owner=ada",
        "owner who left": "owner=eve",
        "common tag": "tag=all",
        "rare tag": "tag=rare",
        "text of many": "text=sweep",
        "text of few": "text=Half%20the",
        "text of none": "text=nowhere%20to%20be%20found",
        "created before": f"created_before={old:%Y-%m-%dT%H:%M:%SZ}",
        "created after": f"created_after={new:%Y-%m-%dT%H:%M:%SZ}",
        "finished before": f"finished_before={old:%Y-%m-%dT%H:%M:%SZ}",
        "finished after": f"finished_after={new:%Y-%m-%dT%H:%M:%SZ}",
        "metric of all": "metric=loss%3C3",
        "metric of few": "metric=miou%3E0.9",
        "metric of none": "metric=loss%3C-1",
        "state, owner, text, metric": "state=cached&owner=ada&text=sweep&metric=loss%3C3",
        "sort=oldest": "sort=oldest",
        "sort=finished": "sort=finished",
        "sort=priority": "sort=priority",
        "sort=lowest:loss": "sort=lowest:loss",
        "sort=highest:miou": "sort=highest:miou",
        "fields=id,state": "fields=id,state",
    }.items():
        yield f"list, {name}", f"/runs?limit={LIMIT}&{query}"
    yield "experiments", f"/experiments?limit={LIMIT}"
    yield "experiment", f"/experiments/{experiment_id(some)}"
    yield "run", f"/runs/{run_id(some)}"
    for what in ("events", "attempts", "evaluations", "lineage"):
        yield f"run, {what}", f"/runs/{run_id(some)}/{what}"
    ids = "&".join(f"id={run_id(draw.randrange(num_runs))}" for _ in range(10))
    yield "compare 10 runs", f"/runs/compare?{ids}"


def _middles(client: httpx.Client, num_runs: int) -> list[tuple[str, str]]:
    """Lists that go on far behind their first page."""
    found = []
    for name, query in {"runs": "", "state=succeeded": "&state=succeeded", "sort=finished": "&sort=finished"}.items():
        cursor = None
        for _ in range(min(50, num_runs // 1000)):
            path = f"/runs?limit=500&fields=id{query}" + (f"&cursor={cursor}" if cursor else "")
            cursor = client.get(path).raise_for_status().json()["next"]
        found.append((f"list, {name}, far on", f"/runs?limit={LIMIT}{query}" + (f"&cursor={cursor}" if cursor else "")))
    return found


def choose_database(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments by which `database` is told which one."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--postgres", action="store_true", help="on a PostgreSQL server started for it")
    which.add_argument("--url", help="an empty database")


@contextmanager
def database(chosen: argparse.Namespace, home: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if chosen.url:
        yield chosen.url
    elif chosen.postgres:
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit("PostgreSQL is not installed: no initdb on PATH or under /usr/lib/postgresql")
        with running_server(shared_buffers="512MB", max_wal_size="8GB") as server:
            yield new_database(server)
    else:
        yield f"sqlite:///{home / 'vlglab.db'}"


if __name__ == "__main__":
    sys.exit(main())

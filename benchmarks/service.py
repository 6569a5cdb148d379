"""`make bench-service`: the service beside MLflow's tracking server, and the ratios.

    python -m benchmarks.service [--mlflow .venv-mlflow/bin/mlflow] [--rounds 5]

Both run on this machine with one server process each, over the same kind of database with the same durability, and are
asked by the same client (`http.client`, one connection that is kept) for the same things, turn by turn, so that
whatever else the machine does falls on both. A figure is the median of all rounds, a ratio that of the rounds' ratios.
`CPU` is the ratio of the processor time that the two servers took, children and threads included: where other work
makes every request wait for a core, clocks measure that wait, and both look alike. Both write SQLite with
journal_mode=WAL and synchronous=NORMAL, which is what vlglab sets; MLflow's own is a rollback journal with
synchronous=FULL, which is slower (`benchmarks/equal_durability` gives it ours).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import served

ROOT = Path(__file__).resolve().parents[1]
TAGS = {"team": "rooms", "kind": "baseline"}
PARAMETERS = {"learning_rate": 0.003, "epochs": 40, "backbone": "minkunet18a"}
POINTS_A_CALL = 1000  # what MLflow takes at most
LISTED, LIST_PAGE, HISTORY, PIXELS = 1300, 100, 20_000, 1000
START_S = 600


@dataclass
class Http:
    """One kept connection to one server, which speaks JSON."""

    port: int
    server: int
    """Process of the server."""
    connection: http.client.HTTPConnection | None = None

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request; a refusal ends the benchmark."""
        content = None if body is None else json.dumps(body)
        for again in (True, False):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
            try:
                self.connection.request(method, path, content, {"Content-Type": "application/json"})
                answer = self.connection.getresponse()
                said = answer.read()
                break
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                self.close()  # the server ends connections that were idle for some seconds
                if not again:
                    raise
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {said[:500]!r}")
        return json.loads(said)

    def cpu_s(self) -> float:
        """Processor time that the server has taken, with its children."""
        first = psutil.Process(self.server)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def close(self) -> None:
        """Ends the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


@dataclass(eq=False)
class Vlglab:
    """What is timed, as vlglab does it."""

    http: Http
    made: int = 0
    api: str = "/api/v1"

    def _run(self) -> dict[str, Any]:
        self.made += 1
        return {
            "name": f"run-{self.made}",
            "spec": {"stage": "external"},
            "tags": [f"{name}.{value}" for name, value in TAGS.items()],
            "lease_s": 86_400,
        }

    def create(self) -> str:
        """One running run by one request."""
        return str(self.http("POST", f"{self.api}/runs", self._run())["id"])

    def create_together(self, number: int) -> None:
        """The runs of one experiment, by one request."""
        body = {"name": "sweep", "runs": [self._run() for _ in range(number)]}
        assert len(self.http("POST", f"{self.api}/experiments", body)["runs"]) == number

    def with_parameters(self, number: int) -> None:
        """Runs as lists show them: with parameters and tags."""
        for first in range(0, number, 500):
            some = [self._run() for _ in range(min(500, number - first))]
            for run in some:
                run["spec"]["parameters"] = PARAMETERS
            self.http("POST", f"{self.api}/experiments", {"name": "listed", "runs": some})

    def log(self, run: str, name: str, steps: range, values: Sequence[float]) -> None:
        """Points of one metric by one request."""
        self.http("POST", f"{self.api}/runs/{run}/metrics", {"steps": list(steps), "columns": {name: list(values)}})

    def page(self) -> None:
        """The newest runs."""
        items = self.http("GET", f"{self.api}/runs?limit={LIST_PAGE}")["items"]
        assert len(items) == LIST_PAGE and items[0]["spec"]["parameters"] and items[0]["tags"]

    def chart(self, run: str, name: str) -> None:
        """A history as a chart draws it."""
        (series,) = self.http("GET", f"{self.api}/runs/{run}/metrics?name={name}&buckets={PIXELS}")["series"]
        assert series["num_points"] == HISTORY and len(series["max"]) == PIXELS


@dataclass(eq=False)
class Mlflow:
    """The same, as MLflow's REST API does it."""

    http: Http
    made: int = 0
    experiment: str = "0"
    api: str = "/api/2.0/mlflow"

    def create(self) -> str:
        """One running run by one request."""
        self.made += 1
        body = {
            "experiment_id": self.experiment,
            "run_name": f"run-{self.made}",
            "start_time": int(time.time() * 1000),
            "tags": [{"key": key, "value": value} for key, value in TAGS.items()],
        }
        return str(self.http("POST", f"{self.api}/runs/create", body)["run"]["info"]["run_id"])

    def create_together(self, number: int) -> None:
        """MLflow has no such request: one after the other."""
        for _ in range(number):
            self.create()

    def with_parameters(self, number: int) -> None:
        """Runs with parameters, which are a request of their own here."""
        self.experiment = str(self.http("POST", f"{self.api}/experiments/create", {"name": "listed"})["experiment_id"])
        params = [{"key": key, "value": str(value)} for key, value in PARAMETERS.items()]
        for _ in range(number):
            self.http("POST", f"{self.api}/runs/log-batch", {"run_id": self.create(), "params": params})

    def log(self, run: str, name: str, steps: range, values: Sequence[float]) -> None:
        """Points of one metric, as many a request as it takes."""
        at = int(time.time() * 1000)
        for first in range(0, len(steps), POINTS_A_CALL):
            some = zip(steps[first : first + POINTS_A_CALL], values[first : first + POINTS_A_CALL], strict=True)
            points = [{"key": name, "value": value, "timestamp": at, "step": step} for step, value in some]
            self.http("POST", f"{self.api}/runs/log-batch", {"run_id": run, "metrics": points})

    def page(self) -> None:
        """The newest runs."""
        body = {
            "experiment_ids": [self.experiment],
            "max_results": LIST_PAGE,
            "order_by": ["attributes.start_time DESC"],
        }
        runs = self.http("POST", f"{self.api}/runs/search", body)["runs"]
        assert len(runs) == LIST_PAGE and runs[0]["data"]["params"] and runs[0]["data"]["tags"]

    def chart(self, run: str, name: str) -> None:
        """The whole history, page by page."""
        found, token = 0, ""
        while True:
            page = self.http(
                "GET",
                f"{self.api}/metrics/get-history?run_id={run}&metric_key={name}&max_results=25000"
                + (f"&page_token={token}" if token else ""),
            )
            found, token = found + len(page["metrics"]), page.get("next_page_token", "")
            if not token:
                break
        assert found == HISTORY

    def sampled(self, run: str, name: str) -> None:
        """What MLflow's own page asks for: the history thinned out to so many points."""
        path = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
        self.http("GET", f"{path}?run_ids={run}&metric_key={name}&max_results={PIXELS}")


@dataclass(frozen=True)
class Took:
    """What one thing took in a round."""

    seconds: float
    cpu_s: float


@dataclass
class Row:
    """One line of the table."""

    name: str
    unit: str
    scale: float
    """What seconds are multiplied by; where negative, what is divided by them (a rate)."""
    target: float
    ours: list[Took] = field(default_factory=list)
    theirs: list[Took] = field(default_factory=list)

    def shown(self, took: list[Took]) -> float:
        """The median in the row's unit."""
        middle = statistics.median(one.seconds for one in took)
        return middle * self.scale if self.scale > 0 else -self.scale / middle

    @property
    def ratio(self) -> float:
        """How many times as long MLflow takes: the median of the rounds' ratios."""
        both = zip(self.ours, self.theirs, strict=True)
        return statistics.median(theirs.seconds / ours.seconds for ours, theirs in both)

    @property
    def cpu_ratio(self) -> float:
        """The same of the servers' processor time, over all rounds: it is counted in hundredths of a second."""
        return sum(one.cpu_s for one in self.theirs) / max(1e-9, sum(one.cpu_s for one in self.ours))

    @property
    def misses(self) -> bool:
        """Whether it stays under its target."""
        return self.ratio < self.target

    def __str__(self) -> str:
        ours, theirs = self.shown(self.ours), self.shown(self.theirs)
        verdict = "" if not self.target else f"{self.target:5.0f}x {'missed' if self.misses else ''}"
        figures = f"{ours:11,.1f} {theirs:12,.1f} {self.unit:10} {self.ratio:7.1f}x {self.cpu_ratio:7.1f}x"
        return f"{self.name:54} {figures} {verdict}"


def timed(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of one call, over so many."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


@dataclass
class Turns:
    """Times two works in turn."""

    sides: tuple[Vlglab, Mlflow]
    rounds: int

    def __call__(
        self, row: Row, ours: Callable[[], object], theirs: Callable[[], object], times: tuple[int, int], per: int = 1
    ) -> Row:
        """Fills a row in.

        Args:
            row: the row.
            ours: what vlglab does.
            theirs: what MLflow does.
            times: how often each does it in a round.
            per: things that one call of ours makes where one of theirs makes one.
        """
        for turn in range(self.rounds + 1):
            for side, work, number, into, made in (
                (self.sides[0], ours, times[0], row.ours, per),
                (self.sides[1], theirs, times[1], row.theirs, 1),
            ):
                side.http.close()
                cpu_s = side.http.cpu_s()
                seconds = timed(work, number)
                cpu_s = (side.http.cpu_s() - cpu_s) / number
                if turn:  # the first round warms caches
                    into.append(Took(seconds / made, cpu_s / made))
        return row


def measure(ours: Vlglab, theirs: Mlflow, rounds: int) -> Iterator[Row]:
    """Every row, in turns."""
    turns, sides = Turns((ours, theirs), rounds), (ours, theirs)
    yield turns(Row("create a run, a request each", "runs/s", -1, 5), ours.create, theirs.create, (100, 100))
    row = Row("create 1,000 runs of an experiment together", "runs/s", -1, 10)
    yield turns(row, lambda: ours.create_together(1000), theirs.create, (1, 100), per=1000)

    runs = [side.create() for side in sides]
    names = iter(f"m{number}" for number in range(10**9))
    values = [1 / (1 + step) for step in range(HISTORY)]
    for number in (POINTS_A_CALL, 10 * POINTS_A_CALL):
        steps, some = range(number), values[:number]
        logs = [partial(log, side, run, names, steps, some) for side, run in zip(sides, runs, strict=True)]
        yield turns(Row(f"log {number:,} points of a metric at once", "points/s", -number, 10), *logs, (5, 5))

    for side in sides:
        side.http.close()
        side.with_parameters(LISTED)
    yield turns(Row(f"list {LIST_PAGE} of {LISTED:,} runs", "ms", 1e3, 4), ours.page, theirs.page, (10, 10))

    for side, run in zip(sides, runs, strict=True):
        side.http.close()
        side.log(run, "history", range(HISTORY), values)
    draws = [partial(side.chart, run, "history") for side, run in zip(sides, runs, strict=True)]
    yield turns(Row(f"{HISTORY:,} points as a chart; MLflow: the whole history", "ms", 1e3, 10), *draws, (5, 5))
    thinned = partial(theirs.sampled, runs[1], "history")
    yield turns(Row("the same; MLflow: thinned out, as its page asks", "ms", 1e3, 0), draws[0], thinned, (5, 5))


def log(side: Vlglab | Mlflow, run: str, names: Iterator[str], steps: range, values: Sequence[float]) -> None:
    """Logs a metric that no call has logged before."""
    side.log(run, next(names), steps, values)


@contextlib.contextmanager
def vlglab(home: Path) -> Iterator[Vlglab]:
    """The service in a home of its own, without a worker host and without a limit of requests."""
    with served.service(home, VLGLAB_REQUESTS_PER_S="0") as (url, process):
        http_ = Http(int(url.rsplit(":", 1)[1]), process.pid)
        yield Vlglab(http_)
        http_.close()


@contextlib.contextmanager
def mlflow(program: Path, url: str, home: Path) -> Iterator[Mlflow]:
    """MLflow's tracking server with one worker process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", url, "--default-artifact-root", str(home / "artifacts")]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "benchmarks" / "equal_durability"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes more, which nothing here uses
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    with (
        (home / "mlflow.log").open("wb") as log_file,
        ended(
            subprocess.Popen(
                list(map(str, command)),
                cwd=home,
                env=environment,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        ) as server,
    ):
        http_, deadline = Http(port, server.pid), time.monotonic() + START_S
        while True:
            try:
                http_("POST", "/api/2.0/mlflow/experiments/search", {"max_results": 1})
                break
            except OSError:
                http_.close()
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"MLflow did not start:\n{(home / 'mlflow.log').read_text()[-3000:]}") from None
                time.sleep(0.2)
        yield Mlflow(http_)
        http_.close()


@contextlib.contextmanager
def ended(server: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """Ends a server with the block, and what it started in a session of its own."""
    try:
        yield server
    finally:
        own = os.getpgid(server.pid) == server.pid
        os.killpg(server.pid, signal.SIGTERM) if own else server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main() -> int:
    """Prints the table; exit status 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", type=Path, default=ROOT / ".venv-mlflow" / "bin" / "mlflow", help="its program")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended
    if not options.mlflow.exists():
        how = "`make bench-service` installs it into .venv-mlflow; or name another with --mlflow PATH/TO/mlflow"
        print(f"bench-service: there is no MLflow at {options.mlflow}; {how}", file=sys.stderr)
        return 2
    version = subprocess.run([options.mlflow, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"vlglab beside {version}; medians of {options.rounds} rounds, one server process and one client each")
    print(f"SQLite {sqlite3.sqlite_version}, journal_mode=WAL, synchronous=NORMAL for both; {machine()}\n")
    print(f"{'':54} {'vlglab':>11} {'MLflow':>12} {'':10} {'ratio':>8} {'CPU':>8} target")
    missed = 0
    with contextlib.ExitStack() as stack:
        homes = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        ours = stack.enter_context(vlglab(homes[0]))
        theirs = stack.enter_context(mlflow(options.mlflow, f"sqlite:///{homes[1] / 'mlflow.db'}", homes[1]))
        for row in measure(ours, theirs, options.rounds):
            print(row, flush=True)
            missed += row.misses
    return 1 if missed else 0


def machine() -> str:
    """This machine in words."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())

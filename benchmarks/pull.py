"""Pulling a store over loopback: from the service, and by the same client from `python -m http.server` (and nginx).

    python -m benchmarks.pull [--scenes 8] [--rows 30000] [--repeats 3] [--readers 32] [--seconds 10]

Each repeat pulls the whole store into a new one, from each server in turn: fetched, compared with its digests, every
chunk's checksum read, published. Then so many readers fetch chunks from the service at once, and the table of runs is
asked for meanwhile: the 99th percentile of that. Files come from the system's page cache.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from benchmarks import served
from migrations.upgrade import upgrade
from storage import keys
from storage.artifacts.store import ArtifactManifest, PartEntry
from storage.artifacts.zarr_store import ZarrStore
from storage.records import artifacts, runs
from storage.records.artifacts import ArtifactRow
from storage.records.database import Database
from storage.specs import stages
from storage.specs.plans import PlannedRun
from storage.targets import Sources
from workers import trial
from workers.context import Machine

KEY, TOKEN, COLUMNS = "a0" * 16, "bench", 768
BAR, BAR_MS = 0.6, 250.0
"""Share of the other server's bytes a second, and the 99th percentile, that are aimed at."""


def fill(home: Path, scenes: int, rows: int) -> int:
    """Publishes embeddings in a home's store and database; their bytes."""
    store = ZarrStore(home / "store")
    rng, lines = np.random.default_rng(0), []
    for number in range(scenes):
        key = keys.digest(number)
        with store.write_part(key, kind="embeddings", scene=f"room_{number}", token=TOKEN) as part:
            part.write("embeddings", rng.standard_normal((rows, COLUMNS), np.float32).astype(np.float16))
            part.write("point_index", np.arange(rows))
            part.write("views", np.ones(rows, np.uint16))
            part.set(num_points=rows, point_order="bench", split="train")
        lines.append(store.entry(key))
    parts: tuple[PartEntry, ...] = tuple(line for line in lines if line is not None)
    manifest = ArtifactManifest(KEY, "embeddings", "extract", "embeddings", {}, {}, parts)
    digest, num_bytes = store.publish(manifest, token=TOKEN), sum(part.num_bytes for part in parts)
    url = f"sqlite:///{home / 'vlglab.db'}"
    upgrade(url)
    db = Database.open(url)
    run = runs.create(db, [PlannedRun("x", stages.EmbedLabels(label_set="s3dis13"), {}, None)])[0]
    row = ArtifactRow(KEY, "embeddings", "extract", "embeddings", run.id, digest, num_bytes, scenes, scenes * rows)
    with db.write() as session:
        artifacts.insert(session, run.id, row)
    runs.request_cancel(db, run.id)
    db.close()
    return num_bytes


def pull(url: str, folder: Path, connections: int) -> float:
    """Seconds of one pull into a new store in `folder`."""
    machine = Machine(scratch=folder / "store" / "resume", sources=Sources(("127.0.0.1",)))
    spec = stages.parse({"stage": "pull", "source": url, "artifact": KEY, "connections": connections})
    began = time.perf_counter()
    trial.run_stage(spec, ZarrStore(folder / "store"), machine=machine)
    return time.perf_counter() - began


@contextlib.contextmanager
def ended(command: list[str], port: int) -> Iterator[str]:
    """A server's address, once it listens; the server is ended with the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not listen")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nginx(root: Path, folder: Path, port: int) -> list[str] | None:
    """The command of an nginx that serves a folder; None where there is none."""
    program = shutil.which("nginx")
    if program is None:
        return None
    own = "".join(f"{name}_temp_path {folder};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    server = f"server {{ listen 127.0.0.1:{port}; root {root}; }}"
    text = f"daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1; events {{}}"
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"{user} {text} http {{ access_log off; {own} sendfile on; {server} }}\n")
    return [program, "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"]


def crowd(url: str, store: ZarrStore, readers: int, seconds: float) -> tuple[float, float]:
    """p99 in ms of the list of runs while so many readers fetch chunks, and their bytes a second."""
    files = [part / "embeddings/c/0/0" for part in sorted((store.root / "parts").glob("*/*"))]
    paths = [f"/api/v1/store/parts/{f.parts[-6]}/{f.parts[-5]}/embeddings/c/0/0" for f in files if f.exists()]
    end, got, lock = time.monotonic() + seconds, [0], threading.Lock()

    def read(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            while time.monotonic() < end:
                with http.stream("GET", paths[number % len(paths)]) as answer:
                    size = sum(map(len, answer.iter_raw(2**20)))
                with lock:
                    got[0] += size

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    took: list[float] = []
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while time.monotonic() < end:
            began = time.perf_counter()
            http.get("/api/v1/runs").raise_for_status()
            took.append(time.perf_counter() - began)
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    return 1e3 * sorted(took)[int(0.99 * (len(took) - 1))], got[0] / seconds


def main() -> int:
    """Prints the table; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--readers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = folder / "home"
        home.mkdir()
        num_bytes = fill(home, options.scenes, options.rows)
        print(
            f"{options.scenes} scenes, {num_bytes / 1e6:.0f} MB; medians of {options.repeats}; {os.cpu_count()} cores,"
        )
        print(f"Python {platform.python_version()}, {options.connections} connections\n")
        url, _ = stack.enter_context(served.service(home, VLGLAB_REQUESTS_PER_S="0"))
        port = free_port()
        plain = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", f"{home}/store"]
        sources = {"vlglab serve": url, "python -m http.server": stack.enter_context(ended(plain, port))}
        port = free_port()
        if (command := nginx(home / "store", folder, port)) is not None:
            sources["nginx"] = stack.enter_context(ended(command, port))
        took: dict[str, list[float]] = {name: [] for name in sources}
        for turn in range(options.repeats + 1):
            for name, source in sources.items():
                into = folder / "into"
                seconds = pull(source, into, options.connections)
                shutil.rmtree(into)
                if turn:  # the first warms caches
                    took[name].append(seconds)
        rates = {name: num_bytes / statistics.median(seconds) for name, seconds in took.items()}
        for name, rate in rates.items():
            print(f"{name:24} {rate / 1e6:8.0f} MB/s   {rates['vlglab serve'] / rate:5.2f} of it is the service's rate")
        p99_ms, rate = crowd(url, ZarrStore(home / "store"), options.readers, options.seconds)
        print(
            f"\n{options.readers} readers at once: {rate / 1e6:.0f} MB/s; list of runs meanwhile: p99 {p99_ms:.0f} ms"
        )
        share = rates["vlglab serve"] / rates["python -m http.server"]
        missed = share < BAR or p99_ms > BAR_MS
        print(
            f"bars: {BAR:g} of http.server ({share:.2f}), p99 under {BAR_MS:g} ms: {'missed' if missed else 'reached'}"
        )
        return int(missed)


if __name__ == "__main__":
    sys.exit(main())

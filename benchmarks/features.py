"""What it costs to find a feature store among many: pages of the list, each filter, over HTTP.

    python -m benchmarks.features [--stores 10000] [--scenes 1500] [--repeats 50] [--postgres | --url URL]

Fills a new database with feature stores whose attributes name every scene, as they do in a lab, starts `vlglab serve
--no-host` on it, and reads single pages of 100, and the whole list by pages of 500. Prints the median and the 99th
percentile in milliseconds; the goal for the list is 100.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert

from benchmarks.scale import choose_database, database
from benchmarks.served import service
from migrations.upgrade import upgrade
from storage.records import features, tables
from storage.records.database import Database

BAR_MS = 100.0
ENCODERS = (("mini", 384), ("openseg", 768), ("lseg", 512))
OWNERS = ("ada", "bob", "eve", "kim")
_AT_ONCE = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Fills a database, measures, prints; exit status 1 where a page takes longer than the goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stores", type=int, default=10_000)
    parser.add_argument("--scenes", type=int, default=1500, help="scenes that each store's attributes name")
    parser.add_argument("--repeats", type=int, default=50, help="requests of each kind")
    choose_database(parser)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vlglab-features-") as home, database(chosen, Path(home)) as url:
        upgrade(url)
        db = Database.open(url)
        fill(db, chosen.stores, chosen.scenes)
        kind = "SQLite" if db.is_sqlite else "PostgreSQL"
        db.close()
        print(f"{kind}: {chosen.stores:,} feature stores of {chosen.scenes:,} scenes; {chosen.repeats} requests, ms:")
        with service(Path(home), VLGLAB_DATABASE_URL=url, VLGLAB_REQUESTS_PER_S="100000") as (address, _):
            return _measure(address, chosen.repeats)


def fill(db: Database, num_stores: int, num_scenes: int) -> None:
    """Adds feature stores, one an hour, by the code that records them."""
    splits = {f"scene{number:04d}_00": "train" if number % 5 else "test" for number in range(num_scenes)}
    began = datetime(2025, 1, 1, tzinfo=UTC)
    for first in range(0, num_stores, _AT_ONCE):
        some = range(first, min(first + _AT_ONCE, num_stores))
        with db.write() as session:
            session.execute(insert(tables.RunRow), [_run(number, began) for number in some])
            for number in some:
                encoder, dimension = ENCODERS[number % 3]
                attributes = {
                    "dataset": f"dataset{number % 20}", "encoder": {"name": encoder}, "encoder_title": encoder.title(),
                    "weights_digest": f"{number % 50:032x}", "dimension": dimension, "num_covered": 150_000_000,
                    "lifting": {"width": 320, "height": 240, "depth_tolerance": 0.25, "border_px": 10},
                    "splits": splits,
                }  # fmt: skip
                row = tables.ArtifactTableRow(
                    key=f"{number:032x}", kind="embeddings", stage="extract", output="embeddings",
                    run_id=f"r{number:020x}", manifest_digest="a" * 64, num_bytes=350_000_000_000,
                    num_scenes=num_scenes, num_points=225_000_000, attributes=attributes,
                    created_at=began + timedelta(hours=number),
                )  # fmt: skip
                session.add(row)
                features.insert(session, row, OWNERS[number % len(OWNERS)])


def _run(number: int, began: datetime) -> dict[str, Any]:
    return {
        "id": f"r{number:020x}", "name": "extract", "stage": "extract", "spec": {"stage": "extract"},
        "spec_digest": "d", "state": "succeeded", "owner": OWNERS[number % len(OWNERS)], "code": {}, "environment": {},
        "created_at": began + timedelta(hours=number),
    }  # fmt: skip


def _measure(address: str, repeats: int) -> int:
    """Asks, prints a line a kind of request, and gives the exit status."""
    over = False
    with httpx.Client(base_url=address + "/api/v1", timeout=60, trust_env=False) as client:
        pages = 0
        cursor: str | None = None
        began = time.perf_counter()
        while pages == 0 or cursor is not None:
            given = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
            cursor = client.get("/features", params=given).raise_for_status().json()["next"]
            pages += 1
        print(f"  the whole list, {pages} pages of 500       {1000 * (time.perf_counter() - began):6.1f}")
        far = client.get("/features", params={"limit": 500}).json()["next"]
        for name, query in {
            "page": {}, "page behind 500": {"cursor": far}, "dataset": {"dataset": "dataset7"},
            "encoder": {"encoder": "openseg"}, "owner": {"owner": "eve"}, "dimension": {"dimension": "768"},
            "dataset and encoder": {"dataset": "dataset7", "encoder": "lseg"}, "text of many": {"text": "openseg"},
            "text of none": {"text": "nowhere to be found"},
        }.items():  # fmt: skip
            times = []
            for _ in range(repeats + 1):
                began = time.perf_counter()
                client.get("/features", params={"limit": "100", **query}).raise_for_status()
                times.append(1000 * (time.perf_counter() - began))
            times = sorted(times[1:])
            last = times[min(repeats - 1, int(0.99 * repeats))]
            mark = f"  over {BAR_MS:.0f}" if last > BAR_MS else ""
            over = over or bool(mark)
            print(f"  {name:<33} median {statistics.median(times):6.1f}  p99 {last:6.1f}{mark}")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())

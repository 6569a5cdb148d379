"""What it costs to know how full a store is: the quota's check, and the whole usage report, over many artifacts.

    python -m benchmarks.usage [--artifacts 10000] [--parts 15] [--repeats 20] [--postgres | --url URL]

Fills a new database with artifacts of so many parts, a tenth of which share theirs with the one before, and prints the
median and the slowest of each in milliseconds. No file is read: what is measured is the database.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from sqlalchemy import insert

from benchmarks.scale import choose_database, database
from migrations.upgrade import upgrade
from storage.artifacts.store import ArtifactManifest, ArtifactStore, PartEntry
from storage.records import part_index, policies, quotas, tables, usage
from storage.records.database import Database

KINDS = ("embeddings", "labels", "scenes", "checkpoint")
OWNERS = ("ada", "bob", "eve", "kim")
SHARING = 10
"""One artifact in so many holds the parts of the one before, and one more."""
_AT_ONCE = 500


class _Manifests:
    """A store of manifests alone."""

    def __init__(self, num_parts: int) -> None:
        self._num_parts = num_parts

    def manifest(self, key: str) -> ArtifactManifest:
        """An artifact's manifest, made up from its key."""
        number = int(key, 16)
        shared = number % SHARING == SHARING - 1
        names = [f"{number - shared:016x}{part:016x}" for part in range(self._num_parts - shared)]
        names += [f"{number:016x}{self._num_parts:016x}"] if shared else []
        parts = tuple(PartEntry(name[16:], name, "d", num_bytes=1_000_000) for name in names)
        return ArtifactManifest(key, "embeddings", "extract", "embeddings", {}, {}, parts)

    def staged(self) -> frozenset[str]:
        """Nobody writes."""
        return frozenset()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fills a database, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.usage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--parts", type=int, default=15, help="parts of each")
    parser.add_argument("--repeats", type=int, default=20)
    choose_database(parser)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vlglab-usage-") as home, database(chosen, Path(home)) as url:
        upgrade(url)
        db = Database.open(url)
        store = store_of(chosen.parts)
        fill(db, chosen.artifacts, chosen.parts)
        began = time.perf_counter()
        part_index.update(db, store)
        each = 1000 * (time.perf_counter() - began) / chosen.artifacts
        policies.change(db, "", quota_bytes=2**53)
        kind = "SQLite" if db.is_sqlite else "PostgreSQL"
        print(f"{kind}: {chosen.artifacts:,} artifacts of {chosen.parts} parts, copied in {each:.1f} ms each; ms:")
        _print("the quota's check", chosen.repeats, lambda: _room(db))
        _print("the usage report", chosen.repeats, lambda: usage.report(db, store, Path(home)))
        db.close()
    return 0


def store_of(num_parts: int) -> ArtifactStore:
    """The store of what `fill` records: it has manifests, and nothing else is asked of it here."""
    return cast("ArtifactStore", _Manifests(num_parts))


def fill(db: Database, num_artifacts: int, num_parts: int) -> None:
    """Adds runs and the artifacts that they computed, one an hour, without their parts."""
    began = datetime(2025, 1, 1, tzinfo=UTC)
    splits = {f"scene{number:04d}_00": "train" for number in range(num_parts)}
    for first in range(0, num_artifacts, _AT_ONCE):
        some = range(first, min(first + _AT_ONCE, num_artifacts))
        with db.write() as session:
            session.execute(insert(tables.RunRow), [_run(number, began) for number in some])
            session.execute(
                insert(tables.ArtifactTableRow), [_artifact(n, began, num_parts, {"splits": splits}) for n in some]
            )
            session.execute(
                insert(tables.RunOutputRow),
                [{"run_id": f"r{n:020x}", "output": "x", "artifact_key": f"{n:032x}"} for n in some],
            )


def _artifact(number: int, began: datetime, num_parts: int, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": f"{number:032x}", "kind": KINDS[number % len(KINDS)], "stage": "extract", "output": "x",
        "run_id": f"r{number:020x}", "manifest_digest": "a" * 64, "num_bytes": num_parts * 1_000_000,
        "num_scenes": num_parts, "num_points": num_parts * 150_000, "created_at": began + timedelta(hours=number),
        "attributes": {"dataset": f"dataset{number % 20}", **attributes},
    }  # fmt: skip


def _run(number: int, began: datetime) -> dict[str, Any]:
    return {
        "id": f"r{number:020x}", "name": "extract", "stage": "extract", "spec": {"stage": "extract"},
        "spec_digest": "d", "state": "succeeded", "owner": OWNERS[number % len(OWNERS)], "code": {}, "environment": {},
        "created_at": began + timedelta(hours=number),
    }  # fmt: skip


def _room(db: Database) -> object:
    with db.read() as session:
        return quotas.room(session)


def _print(name: str, repeats: int, call: Callable[[], object]) -> None:
    """Prints how long a call takes."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    print(f"  {name:<20} median {statistics.median(times[1:]):8.1f}  slowest {max(times[1:]):8.1f}")


if __name__ == "__main__":
    sys.exit(main())

"""Migration 0013 on a database that is in use: what is there stays, up and down."""

from __future__ import annotations

from sqlalchemy import text

from migrations import upgrade
from storage.records import part_index
from storage.records.database import Database
from tests.fixtures.migrating import step

AT = "2026-01-31 12:00:00"


def test_attempts_that_are_there_have_asked_for_nothing(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    step(db, "0012", down=True)
    with db.write() as session:
        session.execute(
            text(
                "INSERT INTO runs (id, name, stage, spec, spec_digest, state, priority, attempt, created_at, code,"
                " environment, cancel_requested, peak_rss_bytes) VALUES ('r1', 'x', 'pull', '{}', 'd',"
                f" 'running', 0, 1, '{AT}', '{{}}', '{{}}', false, 0)"
            )
        )
        session.execute(
            text(
                "INSERT INTO attempts (token, run_id, number, state, lease_until, claimed_at)"
                f" VALUES ('t1', 'r1', 1, 'running', '{AT}', '{AT}')"
            )
        )

    def attempts() -> list[tuple[object, ...]]:
        with db.read() as session:
            return [tuple(row) for row in session.execute(text("SELECT * FROM attempts"))]

    was = attempts()
    step(db, "0013")
    assert attempts() == [(*was[0], 0)]
    step(db, "0012", down=True)
    assert attempts() == was
    step(db, "0013")
    db.close()


def test_parts_that_are_copied_are_counted_with_the_oldest_that_holds_them(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    step(db, "0012", down=True)
    columns = "key, kind, stage, output, run_id, manifest_digest, num_bytes, num_scenes, num_points, attributes"
    values = ":key, 'labels', 'x', 'x', '', 'm', 30, 1, 1, '{}', :at"
    days = {"old": "2026-01-01", "young": "2026-01-02", "twin": "2026-01-02", "bare": "2026-01-01", "new": "2026-01-03"}
    parts = [
        ("young", "p", 10), ("young", "q", 5_000_000_000), ("old", "p", 10), ("old", "r", 7),
        ("twin", "q", 5_000_000_000), ("bare", "", 0),
    ]  # fmt: skip
    with db.write() as session:
        for key, day in days.items():
            given = {"key": key, "at": f"{day} 12:00:00"}
            session.execute(text(f"INSERT INTO artifacts ({columns}, created_at) VALUES ({values})"), given)
        for artifact, part, size in parts:
            row = {"a": artifact, "p": part, "n": size}
            session.execute(text("INSERT INTO artifact_parts VALUES (:a, :p, :n)"), row)

    def rows(table: str) -> list[tuple[object, ...]]:
        with db.read() as session:
            return sorted(tuple(row) for row in session.execute(text(f"SELECT * FROM {table}")))

    counted = [("bare", 0), ("old", 17), ("twin", 5_000_000_000), ("young", 0)]
    step(db, "0013")
    assert rows("artifact_rooms") == counted
    step(db, "0012", down=True)
    assert rows("artifact_parts") == sorted(parts)
    step(db, "0013")
    assert rows("artifact_rooms") == counted
    with db.read() as session:
        assert part_index.used_bytes(session) == 17 + 5_000_000_000 + 30, "what is not copied counts with its own bytes"
    db.close()

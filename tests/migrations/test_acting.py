"""The migration that makes two tables anew on SQLite: what is in them, and in those that point at them, stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text

from migrations import upgrade
from storage.records.database import Database

REVISION = "0007"
MADE = "2026-01-31 12:00:00"


def move(db: Database, step: Callable[..., None], to: str) -> None:
    config = upgrade.configuration()
    with db.write() as session:
        config.attributes["connection"] = session.connection()
        step(config, to)


def select(db: Database, statement: str) -> list[tuple[Any, ...]]:
    with db.read() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def fill(db: Database) -> None:
    """A run with an attempt on a GPU, an event, an artifact, and a score of it."""
    run = {
        "id": "r1", "name": "n", "stage": "evaluate", "spec": "{}", "spec_digest": "d", "state": "succeeded",
        "priority": 0, "attempt": 1, "created_at": MADE, "code": "{}", "environment": "{}",
        "cancel_requested": False, "peak_rss_bytes": 0,
    }  # fmt: skip
    rows: list[tuple[str, dict[str, Any]]] = [
        ("runs", run),
        ("hosts", {"id": "h1", "name": "lab", "pid": 1, "slots": 1, "gpus": "[3]", "registered_at": MADE,
                   "heartbeat_at": MADE, "rss_bytes": 0, "peak_rss_bytes": 0}),
        ("attempts", {"token": "t1", "run_id": "r1", "number": 1, "state": "succeeded", "host_id": "h1", "gpu": 3,
                      "lease_until": MADE, "claimed_at": MADE}),
        ("attempts", {"token": "t2", "run_id": "r1", "number": 2, "state": "lost", "host_id": "h1", "gpu": None,
                      "lease_until": MADE, "claimed_at": MADE}),
        ("events", {"id": 7, "run_id": "r1", "at": MADE, "kind": "note", "state": "running", "attempt": 1,
                    "message": "m"}),
        ("artifacts", {"key": "k1", "kind": "evaluation", "stage": "evaluate", "output": "evaluation", "run_id": "r1",
                       "manifest_digest": "d", "num_bytes": 5000000000, "num_scenes": 1, "num_points": 1,
                       "attributes": '{"a": 1}', "created_at": MADE}),
        ("run_outputs", {"run_id": "r1", "output": "evaluation", "artifact_key": "k1"}),
        ("evaluations", {"artifact_key": "k1", "prediction": "ours", "subset": "all", "position": 0, "miou": 0.25,
                         "num_points": 4, "classes": "[]"}),
    ]  # fmt: skip
    with db.write() as session:
        for table, values in rows:
            names = ", ".join(values)
            session.execute(
                text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{n}' for n in values)})"), values
            )


def test_what_is_there_stays_up_and_down(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    script = ScriptDirectory.from_config(upgrade.configuration()).get_revision(REVISION)
    before = str(script.down_revision)
    move(db, command.downgrade, before)
    fill(db)
    kept = ("events", "run_outputs", "evaluations", "artifacts")
    was = {table: select(db, f"SELECT * FROM {table}") for table in kept}
    move(db, command.upgrade, REVISION)
    assert {table: select(db, f"SELECT * FROM {table}") for table in kept} == was
    attempts = select(db, "SELECT token, CAST(gpus AS TEXT) FROM attempts ORDER BY token")
    assert attempts == [("t1", "[3]"), ("t2", "[]")]
    event = "INSERT INTO events (run_id, at, kind, state, attempt, message) VALUES ('r1', :at, 'note', 'x', 1, 'm')"
    with db.write() as session:
        if not db.is_sqlite:
            session.execute(text("SELECT setval('events_id_seq', 7)"))
        session.execute(text(event), {"at": MADE})
        session.execute(text("DELETE FROM events"))
        session.execute(text(event), {"at": MADE})
    assert select(db, "SELECT id FROM events") == [(9,)], "an id is not given again"
    with db.write() as session:
        for table in ("run_outputs", "attempts", "events"):
            session.execute(text(f"DELETE FROM {table}"))
        session.execute(text("DELETE FROM runs"))
    assert select(db, "SELECT run_id FROM artifacts") == [("r1",)], "an artifact outlives its run"
    move(db, command.downgrade, before)
    assert select(db, "SELECT id, name, stage, state FROM runs") == [("r1", "deleted", "evaluate", "succeeded")]
    for table in ("evaluations", "artifacts"):
        assert select(db, f"SELECT * FROM {table}") == was[table]
    move(db, command.upgrade, REVISION)
    db.close()

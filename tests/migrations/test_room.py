"""Migration 0013 on a database that is in use: what is there stays, up and down."""

from __future__ import annotations

from alembic import command
from sqlalchemy import text

from migrations import upgrade
from storage.records.database import Database

AT = "2026-01-31 12:00:00"


def step(db: Database, to: str, *, down: bool = False) -> None:
    config = upgrade.configuration()
    with db.write() as session:
        config.attributes["connection"] = session.connection()
        (command.downgrade if down else command.upgrade)(config, to)


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

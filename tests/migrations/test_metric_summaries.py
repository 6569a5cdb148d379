"""Migration 0008 on a database that is in use: what it works out from what is there."""

from __future__ import annotations

from typing import Any

from alembic import command
from sqlalchemy import text

from benchmarks.populate import populate
from migrations import upgrade
from storage.records.database import Database


def test_metrics_and_scores_that_are_there_are_summed_up(empty_database_url: str) -> None:
    """What `populate` wrote comes out again; a value that was not finite is the latest, and neither best nor worst."""
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    populate(db, 60, 20)

    def summaries() -> list[Any]:
        with db.read() as session:
            return list(session.execute(text("SELECT * FROM metric_summaries ORDER BY run_id, name")).all())

    def move(step: Any, to: str) -> None:
        config = upgrade.configuration()
        with db.write() as session:
            config.attributes["connection"] = session.connection()
            step(config, to)

    before = summaries()
    assert len(before) == 60 * 5 + 2 * 4
    move(command.downgrade, "0007")
    with db.write() as session:
        session.execute(text("UPDATE metrics SET value = NULL WHERE name = 'loss' AND step = 3"))
    move(command.upgrade, "0008")
    after = summaries()
    others = [row for row in before if row.name != "loss"]
    assert [row for row in after if row.name != "loss"] == others
    for old, new in zip(before, after, strict=True):
        if old.name == "loss":
            assert (new.run_id, new.step, new.latest, new.highest) == (old.run_id, 3, None, old.highest)
            assert new.lowest > old.lowest
    db.close()

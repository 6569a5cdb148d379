"""Migration 0015 on a database with runs of `verify`: older ones have their input under the name that it has now."""

from __future__ import annotations

from sqlalchemy import text

from migrations import upgrade
from storage.records import runs
from storage.records.database import Database
from storage.specs import stages
from tests.fixtures.migrating import step

AT = "2026-01-31 12:00:00"


def test_what_older_runs_of_verify_check_is_found_under_its_new_name(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    step(db, "0014", down=True)
    with db.write() as session:
        for run, stage in (("r1", "verify"), ("r2", "pseudo_label")):
            session.execute(
                text(
                    "INSERT INTO runs (id, name, stage, spec, spec_digest, state, priority, attempt, created_at, code,"
                    f" environment, cancel_requested, peak_rss_bytes) VALUES ('{run}', 'x', '{stage}',"
                    f" '{{\"stage\": \"{stage}\"}}', 'd', 'failed', 0, 1, '{AT}', '{{}}', '{{}}', false, 0)"
                )
            )
            for port in ("embeddings", "scenes"):
                session.execute(
                    text(f"INSERT INTO run_inputs (run_id, port, artifact_key) VALUES ('{run}', '{port}', 'k')")
                )

    def ports() -> list[tuple[str, str]]:
        with db.read() as session:
            found = session.execute(text("SELECT run_id, port FROM run_inputs ORDER BY run_id, port"))
            return [(run, port) for run, port in found]

    was = ports()
    step(db, "head")
    assert ports() == [("r1", "artifact"), ("r1", "scenes"), ("r2", "embeddings"), ("r2", "scenes")]
    old = runs.get(db, "r1")
    stages.check_inputs(stages.parse(old.spec), dict.fromkeys(old.inputs))
    step(db, "0014", down=True)
    assert ports() == was
    db.close()

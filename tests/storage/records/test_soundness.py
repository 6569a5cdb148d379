"""`db check`: a sound lab has no finding, each thing that can be wrong has its own, and looking changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from migrations.schema import check_schema
from migrations.upgrade import upgrade
from storage import keys
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.records import leases, lost_attempts, retries, runs, soundness
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.runs import Run
from tests.fixtures.any_rows import contents
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.moving_runs import end, make_ready


def findings(db: Database) -> list[tuple[str, str]]:
    """What is found, after looking twice and changing nothing."""
    before = contents(db)
    found = [(one.code, one.subject) for one in [*check_schema(db), *soundness.check_rows(db)]]
    assert contents(db) == before
    return found


def run_sql(db: Database, *statements: str, **values: object) -> None:
    with db.write() as session:
        for statement in statements:
            session.execute(text(statement), values)


def test_a_lab_with_runs_in_every_state_is_sound(
    db: Database, claimed: Callable[..., Claim], new_run: Callable[..., Run], ready_run: Callable[..., Run]
) -> None:
    assert findings(db) == []
    for how in ("succeeded", "failed", "cancelled", "released"):
        end(db, claimed().token, how)
    lost = claimed()
    lost_attempts.abandon(db, lost.token, "its process died", 1)
    retried = claimed()
    end(db, retried.token, "failed")
    retries.retry(db, retried.run_id)
    runs.request_cancel(db, new_run().id)
    claimed()
    new_run()
    ready_run()
    assert {run.state for run in list_runs(db).items} == {
        "succeeded", "failed", "cancelled", "queued", "ready", "running"
    }  # fmt: skip
    assert findings(db) == []


@pytest.mark.parametrize(
    ("wrong", "how"),
    [
        ("UPDATE runs SET state = 'succeeded' WHERE id = :run", "running"),
        ("UPDATE runs SET state = 'queued' WHERE id = :run", "running"),
        ("UPDATE runs SET token = NULL WHERE id = :run", "running"),
        ("UPDATE runs SET attempt = 7 WHERE id = :run", "running"),
        ("UPDATE attempts SET state = 'lost' WHERE run_id = :run", "running"),
        ("UPDATE attempts SET state = 'failed' WHERE run_id = :run", "succeeded"),
        ("UPDATE attempts SET state = 'succeeded' WHERE run_id = :run", "failed"),
        ("DELETE FROM attempts WHERE run_id = :run", "running"),
        ("UPDATE runs SET state = 'running' WHERE id = :run", "released"),
    ],
)
def test_a_run_that_its_latest_attempt_contradicts_is_found(
    db: Database, claimed: Callable[..., Claim], wrong: str, how: str
) -> None:
    claimed()
    claim = claimed()
    if how != "running":
        end(db, claim.token, how)
    assert findings(db) == []
    run_sql(db, wrong, run=claim.run_id)
    assert findings(db) == [("run_state", claim.run_id)]


def test_two_living_attempts_at_one_run_are_found(db: Database, claimed: Callable[..., Claim]) -> None:
    claim = claimed()
    leases.release(db, claim.token, "by a test")
    run_sql(
        db,
        "UPDATE attempts SET state = 'running' WHERE run_id = :run",
        "INSERT INTO attempts (token, run_id, number, state, host_id, lease_until, claimed_at)"
        " SELECT 'again', run_id, 2, 'running', host_id, lease_until, claimed_at FROM attempts WHERE run_id = :run",
        "UPDATE runs SET state = 'running', attempt = 2, token = 'again' WHERE id = :run",
        run=claim.run_id,
    )
    assert findings(db) == [("run_state", claim.run_id)]


def test_a_lease_that_nobody_ended_is_stuck_only_after_a_while(db: Database, claimed: Callable[..., Claim]) -> None:
    claim = claimed(lease_s=-soundness.STUCK_AFTER_S / 2)
    assert findings(db) == []
    late = claimed(lease_s=-2 * soundness.STUCK_AFTER_S)
    assert findings(db) == [("stuck_lease", late.run_id)]
    assert claim.run_id != late.run_id
    (finding,) = soundness.check_rows(db)
    assert "vlglab serve" in finding.message and "attempt 1" in finding.message


def test_rows_that_name_what_is_not_there_are_found(db: Database, new_run: Callable[..., Run]) -> None:
    new_run()
    if db.is_sqlite:  # as a program that does not ask for foreign keys leaves it
        with db.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA foreign_keys=OFF")
            raw.execute("DELETE FROM datasets")
            raw.execute("PRAGMA foreign_keys=ON")
    else:
        run_sql(
            db,
            "ALTER TABLE runs DROP CONSTRAINT runs_dataset_fkey",
            "DELETE FROM datasets",
            "ALTER TABLE runs ADD CONSTRAINT runs_dataset_fkey"
            " FOREIGN KEY (dataset) REFERENCES datasets (name) NOT VALID",
        )
    try:
        assert findings(db) == [("dangling", "runs.dataset -> datasets")]
        (finding,) = soundness.check_rows(db)
        assert finding.message.startswith("1 rows name")
    finally:
        if not db.is_sqlite:
            run_sql(
                db,
                "INSERT INTO datasets (name, kind, path, label_set, splits, options, created_at)"
                " VALUES ('offices', '', '', '', '[]', '{}', now())",
                "ALTER TABLE runs VALIDATE CONSTRAINT runs_dataset_fkey",
            )


@pytest.mark.parametrize(
    ("wrong", "subjects"),
    [
        ("DROP INDEX ix_runs_key", ["runs.ix_runs_key"]),
        ("DROP TABLE idempotency_keys", ["idempotency_keys"]),
        ("ALTER TABLE runs DROP COLUMN notes", ["runs.notes"]),
        ("ALTER TABLE runs ADD COLUMN mine INTEGER", ["runs.mine"]),
        ("CREATE TABLE mine (x INTEGER PRIMARY KEY)", ["mine"]),
        ("CREATE INDEX mine ON runs (name)", ["runs.mine"]),
    ],
)
def test_tables_columns_and_indexes_that_are_missing_or_too_many_are_found(
    empty_database_url: str, wrong: str, subjects: list[str]
) -> None:
    upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    assert check_schema(db) == []
    run_sql(db, wrong)
    found = check_schema(db)
    assert [one.subject for one in found] == subjects
    assert {one.code for one in found} == {"schema"}
    db.close()


def test_another_revision_is_the_only_finding(empty_database_url: str) -> None:
    db = Database.open(empty_database_url)
    assert [(one.code, one.subject) for one in check_schema(db)] == [("revision", "none")]
    upgrade(empty_database_url)
    run_sql(db, "UPDATE alembic_version SET version_num = '0001'", "DROP TABLE idempotency_keys")
    (finding,) = check_schema(db)
    assert (finding.code, finding.subject) == ("revision", "0001")
    assert "vlglab db upgrade" in finding.message
    db.close()


def test_artifacts_are_held_against_the_store_both_ways(
    db: Database, claimed: Callable[..., Claim], artifact: Callable[..., ArtifactRow], tmp_path: Path
) -> None:
    claim, store = claimed(), ZarrStore(tmp_path)
    names = ["both", "broken", "lost", "unknown"]
    key = {name: keys.digest(name) for name in names}
    for name in ("both", "broken", "unknown"):
        manifest = ArtifactManifest(key[name], "figures", "report", "figures", {}, {}, ())
        store.publish(manifest, token=claim.token)
    for name in ("both", "broken", "lost"):
        leases.record_artifact(db, claim.token, artifact(key[name], "figures"))
    store.artifact_path(key["broken"]).write_text("{")
    found = {(one.code, one.subject) for one in soundness.check_store(db, store)}
    assert found == {
        ("artifact_unreadable", key["broken"]), ("artifact_missing", key["lost"]), ("artifact_unknown", key["unknown"])
    }  # fmt: skip


def test_many_findings_of_one_kind_are_counted(
    db: Database, claimed: Callable[..., Claim], artifact: Callable[..., ArtifactRow], tmp_path: Path
) -> None:
    claim = claimed()
    for number in range(soundness.SHOWN + 5):
        leases.record_artifact(db, claim.token, artifact(keys.digest(number), "figures"))
    found = soundness.check_store(db, ZarrStore(tmp_path))
    assert len(found) == soundness.SHOWN + 1
    assert found[-1].subject == "5 more"


def test_states_that_tests_make_by_hand_are_sound_too(db: Database, new_run: Callable[..., Run]) -> None:
    run = new_run()
    make_ready(db, run.id)
    runs.request_cancel(db, run.id)
    assert findings(db) == []

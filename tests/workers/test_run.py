"""What a run's process records of the machine and the libraries that it ran with, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest
from sqlalchemy import text

from migrations.upgrade import upgrade
from storage.errors import DatabaseError
from storage.records import claims, events, hosts, leases, runs
from storage.records.database import Database
from storage.records.tables import AttemptRow
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.moving_runs import make_ready
from tests.fixtures.waiting import wait_until
from workers import run

ROOT = Path(__file__).resolve().parents[2]


def test_the_versions_of_the_libraries_behind_encoders_and_engines_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("tensorflow", "2.99.1"), ("minkowskiengine", "0.5.9"), ("tokenizers", "7.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    recorded = run.environment()["packages"]
    assert (recorded["tensorflow"], recorded["MinkowskiEngine"], recorded["tokenizers"]) == ("2.99.1", "0.5.9", "7.0")
    assert recorded["torch"] == metadata.version("torch")


def test_what_is_not_installed_is_recorded_as_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    recorded = run.environment()["packages"]
    assert set(recorded) >= {"torch", "tensorflow", "tensorflow-cpu", "transformers", "tokenizers", "MinkowskiEngine"}
    assert set(recorded.values()) == {"absent"}


def test_recording_versions_imports_none_of_the_libraries() -> None:
    code = (
        "import sys; from workers import run; run.environment(); "
        "print({'tensorflow', 'transformers', 'tokenizers', 'MinkowskiEngine'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def claimed(db: Database) -> claims.Claim:
    """A run that a host has just taken."""
    (made,) = runs.create(db, [PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))])
    make_ready(db, made.id)
    claim = claims.claim(db, hosts.register(db, "here", 1, 1, []), 60.0)
    assert claim is not None
    return claim


@pytest.mark.parametrize(("attempts", "state"), [(3, "queued"), (1, "failed")])
def test_a_database_that_goes_away_costs_an_attempt_and_not_the_run(
    db: Database, database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, attempts: int, state: str
) -> None:
    claim = claimed(db)

    def gone(*_: object) -> str | None:
        raise DatabaseError("the database answered: server closed the connection")

    monkeypatch.setattr(leases, "set_key", gone)
    config = settings.model_copy(update={"database_url": database_url, "max_attempts": attempts})
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run.run_once(claim.run_id, claim.token, config) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    found = runs.get(db, claim.run_id)
    assert found.state == state
    assert found.reason_code == (None if state == "queued" else "worker_lost")
    assert any("server closed the connection" in event.message for event in events.after(db, claim.run_id))


def test_a_process_holds_its_run_by_itself_before_anything_that_may_take_long(
    db: Database, database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed(db)
    leases.beat(db, claim.token, lease_s=0.0)  # nobody keeps it any more
    seen: list[object] = []

    def attempt() -> AttemptRow:
        with db.read() as session:
            found = session.get(AttemptRow, claim.token)
            assert found is not None
            return found

    def slow_git() -> dict[str, object]:
        first = attempt()
        seen.append(first.pid)
        wait_until(lambda: attempt().lease_until > first.lease_until + timedelta(seconds=0.3), 20)
        raise DatabaseError("enough was seen")

    monkeypatch.setattr(run, "code_version", slow_git)
    config = settings.model_copy(update={"database_url": database_url, "heartbeat_s": 0.1})
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run.run_once(claim.run_id, claim.token, config) == 1
        assert run.run_once(claim.run_id, claim.token, config) == 3, "it is fenced off now, and writes nothing"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [os.getpid()]


def test_a_process_of_another_revision_than_the_database_writes_nothing_and_says_so_by_its_status(
    settings: Settings, empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    with db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        session.execute(text("DROP TABLE run_tags"))
    config = settings.model_copy(update={"database_url": empty_database_url})
    assert run.run_once("r1", "token", config) == run.WRONG_REVISION_STATUS
    assert "at revision 9999" in caplog.text and "newer vlglab" in caplog.text
    db.close()

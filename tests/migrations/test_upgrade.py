from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from migrations import upgrade
from storage.errors import DatabaseError
from storage.records import experiments
from storage.records.database import Database
from storage.records.tables import Base


def test_migrations_make_the_tables_of_the_models(empty_database_url: str) -> None:
    assert upgrade.current(empty_database_url) is None
    assert upgrade.upgrade(empty_database_url) == upgrade.HEAD
    assert upgrade.current(empty_database_url) == upgrade.HEAD
    db = Database.open(empty_database_url)
    with db.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    db.close()


def test_the_head_is_the_last_migration() -> None:
    scripts = ScriptDirectory.from_config(upgrade.configuration())
    assert scripts.get_heads() == [upgrade.HEAD]


def test_upgrading_again_keeps_what_is_there(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    made = experiments.create(db, "x", None, None, {}, [])
    upgrade.upgrade(empty_database_url)
    assert experiments.get(db, made.id).name == "x"
    db.close()


def test_many_upgrades_at_once_make_the_tables_once(empty_database_url: str) -> None:
    faults: list[Exception] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        try:
            upgrade.upgrade(empty_database_url)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert upgrade.current(empty_database_url) == upgrade.HEAD


def test_a_migration_that_fails_leaves_no_tables(empty_database_url: str) -> None:
    db = Database.open(empty_database_url)
    with db.write() as session:
        session.execute(text("CREATE TABLE run_outputs (in_the_way INTEGER)"))
    with pytest.raises(DatabaseError, match="already exists"):
        upgrade.upgrade(empty_database_url)
    assert upgrade.revision_of(db) is None
    with pytest.raises(DatabaseError, match="vlglab db upgrade"):
        experiments.list_experiments(db)
    with db.write() as session:
        session.execute(text("DROP TABLE run_outputs"))
    assert upgrade.upgrade(empty_database_url) == upgrade.HEAD
    db.close()


def test_tables_of_a_newer_version_are_refused(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    with db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=r"revision 9999.*newer"):
        upgrade.upgrade(empty_database_url)
    with pytest.raises(DatabaseError, match="at revision 9999"):
        upgrade.check(db)
    db.close()


def test_checking_an_empty_database_says_what_to_do(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(DatabaseError, match=r"revision none.*vlglab db upgrade"):
        upgrade.check(db)
    db.close()

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from migrations import upgrade
from storage.errors import DatabaseError
from storage.records import datasets, experiments, runs
from storage.records.database import Database
from storage.records.datasets import Dataset
from storage.records.tables import Base
from storage.specs.presets import Request
from storage.specs.recipes import build


def schema(db: Database) -> dict[str, object]:
    """Every table as the database itself describes it."""
    with db.read() as session:
        seen = inspect(session.connection())
        return {
            name: (
                [{**column, "type": str(column["type"])} for column in seen.get_columns(name)],
                seen.get_pk_constraint(name)["constrained_columns"],
                sorted(map(str, seen.get_foreign_keys(name))),
                sorted(map(str, seen.get_indexes(name))),
                sorted(map(str, seen.get_unique_constraints(name))),
            )
            for name in seen.get_table_names()
        }


@pytest.mark.parametrize("empty", [True, False], ids=["no table yet", "through all migrations"])
def test_migrations_make_the_tables_of_the_models(empty_database_url: str, empty: bool) -> None:
    """A database that has a table already, whosever it is, goes through the migrations; an empty one does not."""
    assert upgrade.current(empty_database_url) is None
    db = Database.open(empty_database_url)
    if not empty:
        with db.write() as session:
            session.execute(text("CREATE TABLE somebody_elses (x INTEGER)"))
    assert upgrade.upgrade(empty_database_url) == upgrade.HEAD
    assert upgrade.current(empty_database_url) == upgrade.HEAD
    if not empty:
        with db.write() as session:
            session.execute(text("DROP TABLE somebody_elses"))
    with db.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    db.close()


def test_an_empty_database_gets_what_all_migrations_make(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    at_once = schema(db)
    with db.write() as session:
        for name in reversed([*(table.name for table in Base.metadata.sorted_tables), "alembic_version"]):
            session.execute(text(f"DROP TABLE {name}"))
        session.execute(text("CREATE TABLE somebody_elses (x INTEGER)"))
    upgrade.upgrade(empty_database_url)
    assert {name: table for name, table in schema(db).items() if name != "somebody_elses"} == at_once
    db.close()


def test_the_head_is_the_last_migration() -> None:
    scripts = ScriptDirectory.from_config(upgrade.configuration())
    assert scripts.get_heads() == [upgrade.HEAD]


def test_each_migration_goes_down_and_up_with_what_is_there_in_place(empty_database_url: str) -> None:
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    datasets.add(db, Dataset("offices", "synthrooms", "/rooms", "s3dis13"))
    planned = build("supervised", Request("offices", "s3dis13", ("train", "test"), "demo"))
    made = experiments.create(db, "x", "supervised", "demo", {"dataset": "offices"}, planned)
    before = [(run.id, run.spec, run.inputs, run.state) for run in runs.of_experiment(db, made.id)]
    whole = schema(db)

    def move(step: Callable[..., None], to: str) -> None:
        config = upgrade.configuration()
        with db.write() as session:
            config.attributes["connection"] = session.connection()
            step(config, to)

    steps = [script.revision for script in ScriptDirectory.from_config(upgrade.configuration()).walk_revisions()]
    for _ in steps[:-1]:
        move(command.downgrade, "-1")
        with db.read() as session:
            assert session.scalar(text("SELECT count(*) FROM runs")) == len(before)
    assert upgrade.revision_of(db) == "0001"
    for _ in steps[:-1]:
        move(command.upgrade, "+1")
    assert upgrade.revision_of(db) == upgrade.HEAD
    assert [(run.id, run.spec, run.inputs, run.state) for run in runs.of_experiment(db, made.id)] == before
    assert set(schema(db)) == set(whole)
    db.close()


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

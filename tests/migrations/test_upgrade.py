from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import inspect, text

from migrations import upgrade
from migrations.schema import check_schema
from storage.errors import DatabaseError
from storage.records import datasets, experiments, runs
from storage.records.database import Database
from storage.records.datasets import Dataset
from storage.records.tables import Base
from storage.specs.presets import Request
from storage.specs.recipes import build
from tests.fixtures.any_rows import Rows, any_rows, insert_all

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("old", [False, True], ids=["no table yet", "at the first revision"])
def test_many_processes_at_once_upgrade_a_database_once(empty_database_url: str, old: bool) -> None:
    if old:
        upgrade.upgrade(empty_database_url)
        db = Database.open(empty_database_url)
        config = upgrade.configuration()
        with db.write() as session:
            config.attributes["connection"] = session.connection()
            command.downgrade(config, "0001")
        db.close()
    code = f"from migrations.upgrade import upgrade; print(upgrade({empty_database_url!r}))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.strip()) == (0, upgrade.HEAD), err
    db = Database.open(empty_database_url)
    assert upgrade.revision_of(db) == upgrade.HEAD
    assert check_schema(db) == []
    db.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes new databases without tables, on each kind."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / uuid.uuid4().hex}.db"
    made: Callable[[], str] = request.getfixturevalue("new_postgres_database")
    return made


Held = dict[str, list[dict[str, Any]]]


def held(db: Database) -> Held:
    """Every row of every table, as the database itself gives it."""
    with db.read() as session:
        names = [name for name in inspect(session.connection()).get_table_names() if name != "alembic_version"]
        return {name: [dict(row._mapping) for row in session.execute(text(f"SELECT * FROM {name}"))] for name in names}


def columns(db: Database) -> dict[str, list[str]]:
    """The columns of every table."""
    with db.read() as session:
        seen = inspect(session.connection())
        return {name: [c["name"] for c in seen.get_columns(name)] for name in held(db)}


def narrowed(rows: Held, to: dict[str, list[str]]) -> dict[str, list[str]]:
    """The rows with these columns alone, sorted."""
    return {name: sorted(repr([row[one] for one in wanted]) for row in rows[name]) for name, wanted in to.items()}


@settings(
    max_examples=3, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(rows=any_rows())
def test_each_step_keeps_every_value_of_the_columns_that_it_leaves(
    new_database_url: Callable[[], str], rows: Rows
) -> None:
    """Whatever the tables hold: after each step down, and after each step up again."""
    url = new_database_url()
    upgrade.upgrade(url)
    db = Database.open(url)
    insert_all(db, rows)
    assert sum(map(len, held(db).values())) == sum(map(len, rows.values()))

    def move(step: Callable[..., None], to: str) -> None:
        before, had = held(db), columns(db)
        config = upgrade.configuration()
        with db.write() as session:
            config.attributes["connection"] = session.connection()
            step(config, to)
        db.close()  # a connection that has read a table knows its old columns
        left = {name: [one for one in names if one in had.get(name, [])] for name, names in columns(db).items()}
        left = {name: names for name, names in left.items() if names}
        after, kept = narrowed(held(db), left), narrowed(before, left)
        lost = {name: Counter(kept[name]) - Counter(after[name]) for name in left}
        assert not any(lost.values()), "a step may add what the tables must have then, and loses no row"

    while upgrade.revision_of(db) != "0001":
        move(command.downgrade, "-1")
    while upgrade.revision_of(db) != upgrade.HEAD:
        move(command.upgrade, "+1")
    assert check_schema(db) == []
    db.close()


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

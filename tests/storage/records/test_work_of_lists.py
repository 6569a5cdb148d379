"""What a page costs: on populated tables, no filter with the default sort reads more than 20 rows for each of its page.

On a lab of some thousand runs each time, and with the slow tests on one of 100,000.

PostgreSQL counts the rows itself (EXPLAIN ANALYZE). SQLite does not; there every table that a statement touches must
be searched by an index that takes the whole condition, so that it reads a row for each that it gives and one for each
correlated look-up; and the instructions of its virtual machine are counted, which grow with whatever it reads.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from benchmarks.populate import analyse, experiment_id, experiment_row, made_at, populate, run_id
from migrations.upgrade import upgrade
from storage.records import experiments, walks
from storage.records.database import Database
from storage.records.experiments import ExperimentFilter
from storage.records.run_filters import MetricBound, RunFilter, RunSort
from storage.records.tables import ExperimentRow
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.postgres import new_database

SMALL, GROWN = 6000, 100_000
"""Runs of a lab: as many as each run of the tests can write, and as many as a page must be as cheap at."""
LIMIT = 20
MOST_ROWS = 20 * LIMIT
MOST_INSTRUCTIONS = 45 * MOST_ROWS
"""A row of a run that is read whole takes about 45, one that is walked by 10 to 30."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A database that nobody writes to, and how many runs it holds."""

    db: Database
    num_runs: int


def filters(num_runs: int) -> dict[str, RunFilter]:
    """Every kind of filter, on a lab of so many runs."""
    (old, new), best = bounds(num_runs), (MetricBound.parse("miou>0.9"),)
    return {
        "none": RunFilter(),
        "a state that only old runs have": RunFilter(state="failed"),
        "a state that most have": RunFilter(state="succeeded"),
        "a state of few": RunFilter(state="ready"),
        "stage": RunFilter(stage="evaluate"),
        "a stage that none has": RunFilter(stage="nothing"),
        "experiment": RunFilter(experiment=experiment_id(num_runs // 2)),
        "dataset": RunFilter(dataset="homes"),
        "a common tag": RunFilter(tag="all"),
        "a rare tag": RunFilter(tag="rare"),
        "an owner who left": RunFilter(owner="eve"),
        "an owner of most": RunFilter(owner="ada"),
        "a text that many have": RunFilter(text="sweep"),
        "a text that none has": RunFilter(text="nowhere to be found"),
        "created long ago": RunFilter(created_before=old),
        "created of late": RunFilter(created_after=new),
        "created between": RunFilter(created_after=old, created_before=old + timedelta(hours=3), state="failed"),
        "finished long ago": RunFilter(finished_before=old),
        "finished of late": RunFilter(finished_after=new),
        "a metric of all, within no bound": RunFilter(metrics=(MetricBound.parse("loss<-1"),)),
        "a metric of few": RunFilter(metrics=(MetricBound.parse("miou>0.99"),)),
        "a metric of none": RunFilter(metrics=(MetricBound.parse("nothing>0"),)),
        "two metrics": RunFilter(metrics=(MetricBound.parse("loss>0"), MetricBound.parse("max(accuracy)<0"))),
        "all at once": RunFilter("succeeded", "evaluate", None, None, "ada", "all", "sweep", old, new, old, new, best),
    }


def bounds(num_runs: int) -> tuple[datetime, datetime]:
    """Before the first only a hundredth of the runs was submitted, after the second only fifty were."""
    return made_at(num_runs // 100), made_at(num_runs - 50)


def cursors(num_runs: int) -> dict[str, str | None]:
    """Where a page begins."""
    return {"first page": None, "page in the middle": walks.cursor_of("newest", (run_id(num_runs // 2),))}


GROWN_TOO = (pytest.mark.slow, pytest.mark.timeout(1800))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("sqlite", SMALL), id="sqlite"),
        pytest.param(("postgres", SMALL), id="postgres", marks=pytest.mark.postgres),
        pytest.param(("sqlite", GROWN), id="sqlite-grown", marks=GROWN_TOO),
        pytest.param(("postgres", GROWN), id="postgres-grown", marks=(pytest.mark.postgres, *GROWN_TOO)),
    ],
)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A database that nobody writes to, full of runs."""
    kind, num_runs = request.param
    if kind == "sqlite":
        url = f"sqlite:///{Path(tmp_path_factory.mktemp('lab')) / 'vlglab.db'}"
    else:
        url = new_database(request.getfixturevalue("postgres_server"))
    upgrade(url)
    db = Database.open(url)
    populate(db, num_runs, 5)
    with db.write() as session:  # so many that looking at all of them is not the cheapest
        first = range(num_runs, num_runs + 50_000, 10)
        session.execute(insert(ExperimentRow), [experiment_row(index) for index in first])
    analyse(db)
    yield Lab(db, num_runs)
    db.close()


@contextmanager
def statements(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """What the block asks the database, with the values."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(db.reading, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(db.reading, "before_cursor_execute", note)


def check(db: Database, asked: list[tuple[str, Any]]) -> None:
    assert asked
    if db.is_sqlite:
        check_on_sqlite(str(db.engine.url.database), asked)
    else:
        check_on_postgres(db, asked)


def check_on_postgres(db: Database, asked: list[tuple[str, Any]]) -> None:
    read, plans = 0, []
    with db.engine.connect() as connection:
        for statement, parameters in asked:
            explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
            (answer,) = connection.exec_driver_sql(explain, parameters).one()
            plans.append(answer[0]["Plan"])
            read += rows_read(answer[0]["Plan"])
    assert read <= MOST_ROWS, f"read {read} rows:\n{json.dumps(plans, indent=1)}"


def rows_read(plan: dict[str, Any]) -> int:
    """Rows that the scans of a plan looked at, those that a filter then dropped among them."""
    own = 0
    if plan["Node Type"].endswith("Scan") and "Relation Name" in plan:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        own = int((plan["Actual Rows"] + removed) * plan["Actual Loops"])
    return own + sum(rows_read(below) for below in plan.get("Plans", []))


def check_on_sqlite(path: str, asked: list[tuple[str, Any]]) -> None:
    connection = sqlite3.connect(path)
    instructions = 0

    def count() -> int:
        nonlocal instructions
        instructions += 1
        return 0

    read = 0
    for statement, parameters in asked:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        searched = [step for step in plan if re.match("SEARCH|SCAN", step)]
        for step in searched:
            walks_all = step.startswith("SCAN") and "WHERE" not in statement and "LIMIT" in statement
            assert step.startswith("SEARCH") or walks_all, f"{plan}\n{statement}"
        if "LIMIT" in statement:
            assert not any("TEMP B-TREE" in step for step in plan), f"{plan}\n{statement}"
        connection.set_progress_handler(count, 1)
        given = connection.execute(statement, parameters).fetchall()
        connection.set_progress_handler(None, 1)
        read += len(given) * len(searched)
    connection.close()
    assert read <= MOST_ROWS
    assert instructions <= MOST_INSTRUCTIONS


@pytest.mark.parametrize("at", cursors(SMALL))
@pytest.mark.parametrize("name", filters(SMALL))
def test_a_page_of_runs_reads_few_rows(lab: Lab, name: str, at: str) -> None:
    with statements(lab.db) as asked:
        page = list_runs(lab.db, filters(lab.num_runs)[name], cursors(lab.num_runs)[at], LIMIT)
    assert len(page.items) <= LIMIT
    check(lab.db, asked)


@pytest.mark.parametrize("sort", ["oldest", "finished", "priority", "highest:loss", "lowest:loss", "highest:miou"])
@pytest.mark.parametrize("name", ["none", "an owner who left", "a text that none has"])
def test_another_sort_reads_few_rows_too(lab: Lab, name: str, sort: str) -> None:
    order = RunSort.parse(sort)
    first = list_runs(lab.db, RunFilter(), limit=LIMIT, sort=order)
    for cursor in (None, first.next):
        with statements(lab.db) as asked:
            list_runs(lab.db, filters(lab.num_runs)[name], cursor, LIMIT, sort=order)
        check(lab.db, asked)


def experiment_filters(num_runs: int) -> dict[str, ExperimentFilter]:
    """Every kind of filter of experiments, on a lab of so many runs."""
    old, new = bounds(num_runs)
    return {
        "none": ExperimentFilter(),
        "owner": ExperimentFilter(owner="bob"),
        "recipe": ExperimentFilter(recipe="ablation-a"),
        "a text that none has": ExperimentFilter(text="nowhere to be found"),
        "created": ExperimentFilter(created_after=old, created_before=new),
        "oldest": ExperimentFilter(owner="bob", oldest_first=True),
    }


@pytest.mark.parametrize("name", experiment_filters(SMALL))
def test_a_page_of_experiments_reads_few_rows(lab: Lab, name: str) -> None:
    with statements(lab.db) as asked:
        experiments.list_experiments(lab.db, None, LIMIT, experiment_filters(lab.num_runs)[name])
    check(lab.db, asked)

"""Plans of what events were about: they come to what a plan of everything would, and read no more for what waits."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from service.scheduler import loop
from service.scheduler.planner import plan
from storage.artifacts.run_files import RunFiles
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import IllegalMove
from storage.records import agenda, claims, database, experiments, leases, lost_attempts, planning, retries, runs
from storage.records.database import Database
from storage.records.removals import Remover
from storage.records.states import FINAL
from storage.settings import Settings
from storage.specs import presets, recipes, stages
from storage.specs.plans import OutputRef, PlannedRun
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.moving_runs import end, work

LABELS = stages.EmbedLabels(label_set="s3dis13")
CONFIG = Settings()
KEY = "k" * 32


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The JSON values that were read of the database since it was opened, specs among them."""
    read: list[object] = []
    real = database._from_json
    monkeypatch.setattr(database, "_from_json", lambda value: read.append(value) or real(value))
    return read


@pytest.fixture
def db(documents: list[object], database_url: str) -> Iterator[Database]:
    opened = Database.open(database_url)
    yield opened
    opened.close()


def scheduler_of(db: Database, clock: Any = lambda: 0.0) -> loop.Scheduler:
    """A scheduler that by default plans everything only at first."""
    return loop.Scheduler(db, CONFIG, clock)


def settle(scheduler: loop.Scheduler) -> int:
    moved = 0
    while some := scheduler.tick():
        moved += some
    return moved


def submit(db: Database) -> str:
    return runs.create(db, [PlannedRun("new", LABELS)])[0].id


def wait_for_a_run(db: Database, number: int) -> None:
    """Makes runs that wait for one that nobody claims."""
    source = {"scenes": OutputRef("source", "scenes")}
    planned = [PlannedRun("source", stages.Ingest(label_set="s3dis13"), {}, "offices")]
    planned += [PlannedRun(f"waits {n}", stages.Extract(), source, "offices") for n in range(number)]
    runs.create(db, planned)


def wait_for_a_key(db: Database, host: str, number: int) -> claims.Claim:
    """Makes runs that a running one of the same key holds back; returns that."""
    runs.create(db, [PlannedRun(f"same {n}", LABELS) for n in range(number + 1)])
    settle(scheduler_of(db))
    first = claims.claim(db, host, 3600.0)
    assert first is not None and leases.set_key(db, first.token, KEY) is None
    for _ in range(number):
        other = claims.claim(db, host, 3600.0)
        assert other is not None and leases.set_key(db, other.token, KEY) == first.run_id
        leases.release(db, other.token, "another computes it")
    return first


@contextlib.contextmanager
def steps_of_sqlite(db: Database) -> Iterator[list[int]]:
    """The instructions of SQLite's machine in the block: they grow with whatever it looks at. None on PostgreSQL."""
    steps = [0]
    if not db.is_sqlite:
        yield steps
        return

    def count() -> int:
        steps[0] += 1
        return 0

    def watch(connection: Any, _record: Any) -> None:
        connection.set_progress_handler(count, 1)

    for engine in (db.engine, db.reading):
        event.listen(engine, "connect", watch)
        engine.dispose()
    yield steps
    for engine in (db.engine, db.reading):
        event.remove(engine, "connect", watch)
        engine.dispose()


def cost_of_a_submission(db: Database, scheduler: loop.Scheduler, documents: list[object]) -> tuple[int, int]:
    """How many specs and, on SQLite, how many instructions it takes to plan one more run."""
    made = submit(db)
    documents.clear()
    with steps_of_sqlite(db) as steps:
        assert settle(scheduler) == 1
    specs = len(documents)
    assert runs.get(db, made).state == "ready"
    return specs, steps[0]


@pytest.mark.parametrize("why", ["a run", "a key"])
def test_a_submission_is_planned_without_a_look_at_what_waits(
    db: Database, host: str, offices: str, documents: list[object], why: str
) -> None:
    """One spec in the trial and one in the transaction that makes it ready, whether 5 runs wait or 205."""
    costs = []
    for number in (5, 200):
        if why == "a run":
            wait_for_a_run(db, number)
        else:
            wait_for_a_key(db, host, number) if number == 5 else more_of_the_key(db, host, number)
        scheduler = scheduler_of(db)
        settle(scheduler)
        cost_of_a_submission(db, scheduler, documents)  # the first fills caches of prepared statements
        costs.append(cost_of_a_submission(db, scheduler, documents))
    (few, steps_of_few), (many, steps_of_many) = costs
    assert (few, many) == (2, 2)
    if db.is_sqlite:
        assert steps_of_many < steps_of_few + 200, "not one instruction more for each run that waits"


def more_of_the_key(db: Database, host: str, number: int) -> None:
    """Makes more runs that wait for the key of one that runs already."""
    made = runs.create(db, [PlannedRun(f"more {n}", LABELS) for n in range(number)])
    with db.write() as session:
        session.execute(text("UPDATE runs SET key = :key WHERE name LIKE 'more %'"), {"key": KEY})
    settle(scheduler_of(db))
    assert {runs.get(db, run.id).state for run in made} == {"queued"}


def test_a_first_plan_reads_no_spec_of_a_run_that_waits_for_another(
    db: Database, offices: str, documents: list[object]
) -> None:
    wait_for_a_run(db, 50)
    documents.clear()
    assert settle(scheduler_of(db)) == 1
    assert len(documents) == 2, "that of `ingest`, tried and done"


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled", "released", "lost"])
def test_what_a_key_held_back_goes_when_the_run_that_has_it_ends_or_waits_again(
    db: Database, host: str, how: str
) -> None:
    first = wait_for_a_key(db, host, 3)
    scheduler = scheduler_of(db)
    assert settle(scheduler) == 0
    submit(db)
    assert settle(scheduler) == 1, "another's end or beginning lets none go"
    if how == "lost":
        with db.write() as session:
            session.execute(text("UPDATE attempts SET lease_until = '2020-01-01'"))
        lost_attempts.expire(db, 3)
    else:
        end(db, first.token, how)
    assert settle(scheduler) == 1
    with db.read() as session:
        count = session.scalar(text("SELECT count(*) FROM runs WHERE state = 'ready' AND key = :key"), {"key": KEY})
    assert count == 1


@pytest.mark.parametrize("how", ["cancelled and deleted", "failed and deleted", "its worker found another key"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_what_a_key_held_back_goes_at_the_next_look_where_no_event_tells(
    db: Database, host: str, tmp_path: Path, how: str, busy: bool
) -> None:
    first = wait_for_a_key(db, host, 3)
    scheduler = scheduler_of(db)
    assert settle(scheduler) == 0
    if how == "its worker found another key":
        leases.set_key(db, first.token, "f" * 32)
    else:
        end(db, first.token, how.split()[0])
        store = ZarrStore(tmp_path)
        Remover(db, store, RunFiles(store.root)).run(first.run_id)
    others = [submit(db)] if busy else []
    assert settle(scheduler) == 1 + len(others)
    with db.read() as session:
        count = session.scalar(text("SELECT count(*) FROM runs WHERE state = 'ready' AND key = :key"), {"key": KEY})
    assert count == 1


def test_a_plan_that_could_not_be_carried_out_is_made_again(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = scheduler_of(db)
    settle(scheduler)
    made = submit(db)

    def refuse(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(planning, "_apply", refuse)
        with pytest.raises(ZeroDivisionError):
            scheduler.tick()
    assert scheduler.tick() == 1
    assert runs.get(db, made).state == "ready"


def test_more_than_a_statement_asks_for_is_planned_all_the_same(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = scheduler_of(db)
    settle(scheduler)
    made = runs.create(db, [PlannedRun(f"run {n}", LABELS) for n in range(agenda.MOST + 100)])
    assert settle(scheduler) == len(made)


def test_what_somebody_changes_by_hand_is_planned_within_a_minute(db: Database, offices: str) -> None:
    """As where the input of a run that waits was taken away, which no deletion does."""
    time_s = 0.0
    scheduler = scheduler_of(db, lambda: time_s)
    wait_for_a_run(db, 2)
    settle(scheduler)
    with db.write() as session:
        session.execute(text("UPDATE run_inputs SET source_run_id = NULL"))
    time_s = loop.ALL_S - 1
    assert settle(scheduler) == 0
    time_s = loop.ALL_S
    assert settle(scheduler) == 2


@pytest.mark.parametrize("seed", range(3))
def test_two_planners_leave_nothing_that_a_plan_of_everything_would_move(
    db: Database, host: str, offices: str, seed: int
) -> None:
    """Experiments of the same runs, whose keys hold each other back; workers that end them in every way; retries."""
    chance = random.Random(seed)
    planners = [scheduler_of(db), scheduler_of(db)]
    held, states = 0, set[str]()
    for number in range(120):
        if number % 20 == 0:
            request = presets.Request(offices, "s3dis13", ("train", "test"), "demo", seed=number)
            for name in ("one", "two", "three"):
                experiments.create(db, name, "ablation-b", "demo", {}, recipes.build("ablation-b", request))
        something_happens(db, host, chance)
        if chance.random() < 0.6:
            planner = chance.choice(planners)
            settle(planner)
            held += len(planner._agenda._held)
            assert planning.advance(db, plan) == []
        with db.read() as session:
            states |= set(session.scalars(text("SELECT state FROM runs")))
    assert held, "some keys held a run back"
    assert states >= {"succeeded", "cached", "cancelled"}


def something_happens(db: Database, host: str, chance: random.Random) -> None:
    """A worker takes a run and ends it somehow, or somebody cancels or retries one."""
    known = list_runs(db, limit=500).items
    what = chance.choice([*["work"] * 14, "failed", "cancelled", "released", "cancel", "retry", "retry", "retry"])
    if what == "cancel":
        chosen = [run.id for run in known if run.state not in FINAL]
        runs.request_cancel(db, chance.choice(chosen)) if chosen else None
    elif what == "retry":
        for run in chance.sample(known, len(known)):
            with contextlib.suppress(IllegalMove):  # it has not failed, or reads one that has
                retries.retry(db, run.id)
                return
    elif (claim := claims.claim(db, host, 3600.0)) is not None:
        work(db, host, claim) if what == "work" else end(db, claim.token, what)

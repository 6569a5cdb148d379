"""The scheduler over a real database: a recipe is played through by workers that only publish keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from migrations.upgrade import upgrade
from service.scheduler import loop, planner
from storage.errors import WrongRevision
from storage.records import claims, datasets, events, experiments, hosts, leases, planning, runs
from storage.records.agenda import Agenda
from storage.records.database import Database
from storage.records.datasets import Dataset
from storage.records.revision import REVISION
from storage.records.runs import Run
from storage.records.states import FINAL
from storage.settings import Settings
from storage.specs import presets, recipes, stages
from storage.specs.plans import PlannedRun
from tests.fixtures.moving_runs import work

CONFIG = Settings(tick_s=0.01)


@pytest.fixture
def plan(db: Database) -> Sequence[PlannedRun]:
    datasets.add(db, Dataset("offices", "synthrooms", "/rooms", "s3dis13"))
    return recipes.build("3dss-vlg", presets.Request("offices", "s3dis13", ("train", "test"), "demo"))


@pytest.fixture
def host(db: Database) -> str:
    return hosts.register(db, "here", 1, 64, [])


def play(db: Database, host: str, config: Settings = CONFIG) -> None:
    """Ticks and works until nothing is left to claim."""
    for _ in range(100):
        loop.tick(db, config)
        claim = claims.claim(db, host, 60.0)
        if claim is None:
            return
        work(db, host, claim)


def states(db: Database, experiment_id: str) -> dict[str, str]:
    return {run.name: run.state for run in runs.of_experiment(db, experiment_id)}


def by_name(db: Database, experiment_id: str) -> dict[str, Run]:
    return {run.name: run for run in runs.of_experiment(db, experiment_id)}


def test_a_recipe_is_played_through_and_the_second_time_cached(
    db: Database, host: str, plan: Sequence[PlannedRun]
) -> None:
    first = experiments.create(db, "one", "3dss-vlg", "demo", {}, plan)
    play(db, host)
    assert set(states(db, first.id).values()) == {"succeeded"}
    done = by_name(db, first.id)
    assert done["predict"].inputs["network"]["artifact_key"] == done["distill"].outputs["network"]
    order = [e.run_id for e in events.after(db, limit=500) if e.state == "succeeded"]
    assert order.index(done["ingest"].id) < order.index(done["extract"].id) < order.index(done["evaluate"].id)

    second = experiments.create(db, "two", "3dss-vlg", "demo", {}, plan)
    play(db, host)
    assert set(states(db, second.id).values()) == {"cached"}
    again = by_name(db, second.id)
    assert {n: r.outputs for n, r in again.items()} == {n: r.outputs for n, r in done.items()}
    assert {n for n, r in again.items() if r.attempt} == {"ingest", "embed_labels", "extract"}
    assert loop.tick(db, CONFIG) == 0


def test_two_experiments_at_once_compute_each_artifact_once(
    db: Database, host: str, plan: Sequence[PlannedRun]
) -> None:
    both = [experiments.create(db, name, None, None, {}, plan) for name in ("one", "two")]
    play(db, host)
    for name in [planned.name for planned in plan]:
        assert sorted(states(db, e.id)[name] for e in both) == ["cached", "succeeded"], name


def test_a_failure_gives_up_what_needs_it_and_nothing_else(db: Database, host: str, plan: Sequence[PlannedRun]) -> None:
    made = experiments.create(db, "one", None, None, {}, plan)
    for _ in range(50):
        loop.tick(db, CONFIG)
        claim = claims.claim(db, host, 60.0)
        if claim is None:
            break
        if claim.stage == "specialize":
            leases.fail(db, claim.token, "training_failed", "the loss is not finite", None)
        else:
            work(db, host, claim)
    found = by_name(db, made.id)
    lost = {"specialize", "distill", "predict", "evaluate", "report"}
    assert {name for name, run in found.items() if run.state not in ("succeeded", "cached")} == lost
    assert found["specialize"].reason_code == "training_failed"
    assert {found[name].reason_code for name in lost - {"specialize"}} == {"input_failed"}


def test_a_waiting_run_takes_over_when_the_first_is_lost(db: Database, host: str) -> None:
    plan = [PlannedRun("labels", stages.EmbedLabels(label_set="s3dis13"))]
    one, two = (runs.create(db, plan)[0] for _ in range(2))
    loop.tick(db, CONFIG)
    first = claims.claim(db, host, -1.0)
    assert first is not None
    assert leases.set_key(db, first.token, "k" * 32) is None
    second = claims.claim(db, host, 60.0)
    assert second is not None
    assert leases.set_key(db, second.token, "k" * 32) == one.id
    leases.release(db, second.token, "another run computes it")
    loop.tick(db, Settings(max_attempts=1))
    assert (runs.get(db, one.id).state, runs.get(db, two.id).state) == ("failed", "ready")


def test_the_loop_survives_errors_and_ends_when_told(
    db: Database, host: str, plan: Sequence[PlannedRun], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = experiments.create(db, "one", None, None, {}, plan)
    failures = 3
    real = loop.plan_all

    def fragile(db: Database, agenda: Agenda) -> int:
        nonlocal failures
        if failures:
            failures -= 1
            raise ZeroDivisionError("the moon was full")
        return real(db, agenda)

    monkeypatch.setattr(loop, "plan_all", fragile)

    async def scene() -> None:
        stopping = asyncio.Event()
        task = asyncio.create_task(loop.run(db, CONFIG, stopping))
        while experiments.get(db, made.id).states.get("ready", 0) < 2:
            await asyncio.sleep(0.01)
        stopping.set()
        await task

    with caplog.at_level(logging.ERROR, logger="vlglab.scheduler"):
        asyncio.run(asyncio.wait_for(scene(), 60))
    assert [record.message for record in caplog.records].count(
        "the scheduler met an error and goes on: ZeroDivisionError: the moon was full"
    ) == 1
    assert not {run.state for run in runs.of_experiment(db, made.id)} & FINAL


def test_it_plans_again_only_when_a_run_has_changed(
    db: Database, host: str, plan: Sequence[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int] = []
    real = loop.plan_all

    def counted(db: Database, agenda: Agenda) -> int:
        planned.append(real(db, agenda))
        return planned[-1]

    monkeypatch.setattr(loop, "plan_all", counted)
    scheduler = loop.Scheduler(db, CONFIG)
    for _ in range(3):
        scheduler.tick()
    assert planned == [0]
    experiments.create(db, "one", None, None, {}, plan)
    for _ in range(4):
        scheduler.tick()
    assert planned == [0, 2, 0]
    claim = claims.claim(db, host, 60.0)
    assert claim is not None
    work(db, host, claim)
    for _ in range(4):
        scheduler.tick()
    assert planned[3] > 0
    assert planned[4:] == [0]


def test_many_moves_are_made_in_transactions_that_let_others_write(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "AT_ONCE", 3)
    spec = stages.EmbedLabels(label_set="s3dis13")
    made = runs.create(db, [PlannedRun(f"run {number}", spec) for number in range(8)])
    assert [len(planning.advance(db, planner.plan)) for _ in range(4)] == [3, 3, 2, 0]
    readied = [event.run_id for event in events.after(db, limit=500) if event.state == "ready"]
    assert readied == [run.id for run in made]
    more = runs.create(db, [PlannedRun("one more", spec)])
    assert loop.tick(db, CONFIG) == 1
    assert runs.get(db, more[0].id).state == "ready"


@pytest.mark.parametrize("found", ["0001", "9999"])
def test_a_service_whose_database_is_of_another_revision_plans_nothing(empty_database_url: str, found: str) -> None:
    upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    (run,) = runs.create(db, [PlannedRun("labels", stages.EmbedLabels(label_set="s3dis13"))])
    scheduler = loop.Scheduler(db, CONFIG)
    with db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    with pytest.raises(WrongRevision, match=f"revision {found}"):
        scheduler.tick()
    assert runs.get(db, run.id).state == "queued"
    with db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": REVISION})
    assert scheduler.tick() == 1
    assert runs.get(db, run.id).state == "ready"
    db.close()

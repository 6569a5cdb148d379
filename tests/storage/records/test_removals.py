"""Deleting: what only the deleted runs used goes, the rest stays; beside workers at the same moment, and in pieces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select

from service.scheduler.planner import plan
from storage import keys
from storage.artifacts import run_files, zarr_store
from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import IllegalMove, NotFound, PartGone
from storage.records import (
    artifacts,
    claims,
    events,
    experiments,
    hosts,
    leases,
    planning,
    retries,
    runs,
    withdrawals,
)
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.database import Database, now
from storage.records.evaluations import EvaluationRow
from storage.records.removals import Remover
from storage.records.submissions import Submission, Wishes
from storage.records.tables import Base, MetricSummaryRow, RemovalRow, RunInputRow, RunRow
from storage.specs import stages
from storage.specs.plans import OutputRef, PlannedRun
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.moving_runs import make_ready
from tests.fixtures.publishing import publish

Claimed = Callable[..., Claim]


@pytest.fixture
def remover(db: Database, store: ZarrStore) -> Remover:
    return Remover(db, store, RunFiles(store.root))


@pytest.fixture
def gave(db: Database, store: ZarrStore, claimed: Claimed) -> Callable[..., str]:
    """Makes a run that has succeeded with embeddings of these scenes; its id."""

    def make(*scenes: str) -> str:
        claim = claimed()
        key = publish(db, store, claim, *scenes)
        leases.append_metrics(db, claim.token, [("loss", step, 1.0) for step in range(30)])
        leases.succeed(db, claim.token, {"scenes": key}, cached=False)
        return claim.run_id

    return make


def rows(db: Database) -> dict[str, int]:
    """Table -> number of its rows, without those that no run belongs to."""
    with db.read() as session:
        counts = {t.name: session.scalar(select(func.count()).select_from(t)) or 0 for t in Base.metadata.sorted_tables}
    return {name: number for name, number in counts.items() if name not in ("hosts", "datasets") and number}


def there(store: ZarrStore, *scenes: str) -> list[bool]:
    return [store.part(keys.digest(scene)) is not None for scene in scenes]


def test_what_only_a_run_used_goes_with_it_and_nothing_is_left(
    db: Database, store: ZarrStore, remover: Remover, gave: Callable[..., str]
) -> None:
    run_id = gave("a", "b")
    for path in (RunFiles(store.root).log(run_id, 1), RunFiles(store.root).resume(run_id, 2) / "x"):
        path.parent.mkdir(parents=True)
        path.touch()
    size = artifacts.get(db, keys.digest(["a", "b"])).num_bytes
    before = rows(db)
    foreseen = remover.run(run_id, at_once=True, dry_run=True)
    assert rows(db) == before and there(store, "a", "b") == [True, True]
    done = remover.run(run_id, at_once=True)
    assert done == foreseen
    (gone,) = done.removed
    assert (gone.num_parts, gone.num_bytes, gone.shared_parts, done.kept) == (2, size, 0, ())
    assert rows(db) == {}
    assert there(store, "a", "b") == [False, False] and list(store.artifacts()) == []
    store.clear()
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    with pytest.raises(NotFound):
        remover.run(run_id, at_once=True)


def test_an_artifact_that_another_run_reads_or_gives_stays_and_its_reader_is_named(
    db: Database, store: ZarrStore, remover: Remover, gave: Callable[..., str], claimed: Claimed, offices: str
) -> None:
    first = gave("a")
    key = keys.digest(["a"])
    twin = claimed()
    leases.succeed(db, twin.token, {"scenes": key}, cached=True)
    kept = remover.run(first, at_once=True).kept
    assert [(one.key, one.why) for one in kept] == [(key, f"an output of the run {twin.run_id}")]
    assert artifacts.get(db, key).run_id == first, "who computed it is still known"
    with db.write() as session:
        session.add(
            RunRow(
                id="r9", name="label", stage="pseudo_label", spec={}, spec_digest="d", state="cancelled",
                priority=0, attempt=0, created_at=runs.get(db, twin.run_id).created_at, code={}, environment={},
                cancel_requested=False, peak_rss_bytes=0, inputs=[RunInputRow(port="embeddings", artifact_key=key)],
            )
        )  # fmt: skip
    assert [one.why for one in remover.run(twin.run_id, at_once=True).kept] == ["an input of the run r9"]
    assert there(store, "a") == [True]
    assert remover.run("r9", at_once=True).removed == ()
    assert artifacts.exists(db, [key]) == {key}, "the run that is deleted last had only read it"


def test_parts_that_another_artifact_holds_stay(
    db: Database, store: ZarrStore, remover: Remover, gave: Callable[..., str]
) -> None:
    small, large = gave("a", "b"), gave("a", "b", "c")
    (gone,) = remover.run(large, at_once=True).removed
    assert (gone.num_parts, gone.shared_parts) == (1, 2)
    assert there(store, "a", "b", "c") == [True, True, False]
    assert store.verify(keys.digest(["a", "b"])) == []
    assert remover.run(small, at_once=True).removed[0].num_parts == 2
    assert there(store, "a", "b") == [False, False]


def test_a_manifest_that_cannot_be_read_keeps_what_it_may_hold(
    db: Database, store: ZarrStore, remover: Remover, gave: Callable[..., str]
) -> None:
    small, _ = gave("a"), gave("a", "b")
    store.artifact_path(keys.digest(["a", "b"])).write_text("{")
    assert remover.run(small, at_once=True).removed[0].num_parts == 0
    assert there(store, "a") == [True]


def test_what_has_not_ended_or_is_waited_for_is_not_deleted(
    db: Database, remover: Remover, offices: str, host: str, gave: Callable[..., str]
) -> None:
    scenes = {"scenes": OutputRef("ingest", "scenes")}
    planned = [
        PlannedRun("ingest", stages.Ingest(label_set="s3dis13"), {}, offices),
        PlannedRun("extract", stages.Extract(), scenes, offices),
    ]
    made = experiments.create(db, "x", None, None, {}, planned)
    ingest, extract = runs.of_experiment(db, made.id)
    with pytest.raises(IllegalMove, match="cancel it first"):
        remover.run(ingest.id, at_once=True)
    make_ready(db, ingest.id)
    claim = claims.claim(db, host, 60.0)
    assert claim is not None
    leases.fail(db, claim.token, "c", "m")
    with pytest.raises(IllegalMove, match=f"{extract.id} has not begun and reads 'scenes'"):
        remover.run(ingest.id, at_once=True)
    with pytest.raises(IllegalMove, match="cancel it first"):
        remover.experiment(made.id, at_once=True)
    planning.advance(db, plan)
    assert runs.get(db, extract.id).reason_code == "input_failed"
    remover.run(ingest.id, at_once=True)
    with pytest.raises(IllegalMove, match="no input 'scenes' any more"):
        retries.retry(db, extract.id)
    assert runs.get(db, extract.id).inputs["scenes"]["run_id"] is None
    remover.experiment(made.id, at_once=True)
    with pytest.raises(NotFound):
        experiments.get(db, made.id)
    with pytest.raises(NotFound):
        remover.experiment(made.id, at_once=True)
    assert rows(db) == {}


def test_an_experiment_goes_whole_but_for_what_runs_outside_use(
    db: Database, store: ZarrStore, remover: Remover, offices: str, host: str, claimed: Claimed
) -> None:
    """Artifacts that its runs only gave to one another go."""
    planned = [PlannedRun(f"run {n}", stages.EmbedLabels(label_set="s3dis13")) for n in range(3)]
    made = experiments.create(db, "x", None, None, {}, planned)
    for run, scene in zip(runs.of_experiment(db, made.id), "abc", strict=True):
        make_ready(db, run.id)
        claim = claims.claim(db, host, 60.0)
        assert claim is not None
        key = publish(db, store, claim, scene)
        classes: list[dict[str, Any]] = []
        leases.record_evaluations(
            db, claim.token, key, [EvaluationRow("ours", "covered", 0.5, 0.5, 4, classes, None, None)]
        )
        leases.succeed(db, claim.token, {"text_embeddings": key}, cached=False)
    outside = claimed()
    leases.succeed(db, outside.token, {"scenes": keys.digest(["b"])}, cached=True)
    done = remover.experiment(made.id, at_once=True)
    assert sorted(one.key for one in done.removed) == sorted(keys.digest([scene]) for scene in "ac")
    assert [one.key for one in done.kept] == [keys.digest(["b"])]
    assert there(store, "a", "b", "c") == [False, True, False]
    of_runs = {"runs", "run_outputs", "attempts", "events", "metric_summaries"}
    left = {*of_runs, "artifacts", "artifact_sources", "features", "evaluations"}
    assert set(rows(db)) == left
    with db.read() as session:
        assert set(session.scalars(select(MetricSummaryRow.run_id))) == {outside.run_id}


def test_events_get_no_id_twice_when_the_last_ones_are_deleted(
    db: Database, remover: Remover, gave: Callable[..., str]
) -> None:
    run_id = gave("a")
    last = events.last(db)
    remover.run(run_id, at_once=True)
    made = runs.create(db, [PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))])[0]
    assert min(event.id for event in events.after(db, made.id)) > last


# ---- dying in between


class Died(Exception):
    """The process is gone."""


STEPS = ("withdraw", "_forget_runs", "rmtree", "_forget_experiment")


@pytest.fixture(params=STEPS)
def dies_at(request: pytest.FixtureRequest, store: ZarrStore) -> Iterator[pytest.MonkeyPatch]:
    """Lets the process die before, or within, a step of a deletion, until it is undone."""
    step = str(request.param)
    with pytest.MonkeyPatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise Died(step)

        match step:
            case "withdraw":
                whole = ZarrStore.withdraw

                def half(self: ZarrStore, key: str, parts: Any) -> None:
                    whole(self, "none", sorted(parts)[:1])
                    die()

                patch.setattr(ZarrStore, "withdraw", half)
            case "rmtree":
                patch.setattr(run_files, "shutil", SimpleNamespace(rmtree=die))
            case _:
                patch.setattr(Remover, step, die)
        yield patch


@pytest.mark.parametrize("by", ["deleting again", "the next start"])
def test_a_deletion_whose_process_died_is_ended_by_another(
    db: Database, store: ZarrStore, remover: Remover, host: str, dies_at: pytest.MonkeyPatch,
    by: str,
) -> None:  # fmt: skip
    made = experiments.create(db, "x", None, None, {}, [PlannedRun("t", stages.EmbedLabels(label_set="s3dis13"))])
    (run,) = runs.of_experiment(db, made.id)
    make_ready(db, run.id)
    claim = claims.claim(db, host, 60.0)
    assert claim is not None
    publish(db, store, claim, "a", "b")
    leases.succeed(db, claim.token, {"text_embeddings": keys.digest(["a", "b"])}, cached=False)
    with pytest.raises(Died):
        remover.experiment(made.id, at_once=True)
    with db.read() as session:
        assert session.scalars(select(RemovalRow)).first() is not None
    dies_at.undo()
    if by == "deleting again":
        remover.experiment(made.id, at_once=True)
    else:
        assert remover.finish_all() > 0
    assert rows(db) == {}
    assert there(store, "a", "b") == [False, False] and list(store.artifacts()) == []


def test_what_is_being_deleted_is_neither_retried_nor_read(
    db: Database, remover: Remover, claimed: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed()
    leases.fail(db, claim.token, "c", "m")
    with db.write() as session:
        session.add(RemovalRow(what="run", id=claim.run_id, at=now(session)))
    with pytest.raises(IllegalMove, match="is being deleted"):
        retries.retry(db, claim.run_id)
    reads = PlannedRun("extract", stages.Extract(), {"scenes": OutputRef(claim.run_id, "scenes")}, "offices")
    with pytest.raises(IllegalMove, match="is being deleted"):
        runs.create(db, [reads])
    assert remover.finish_all() == 1
    assert rows(db) == {}


# ---- beside a worker


def test_a_worker_that_counts_on_a_part_that_goes_records_nothing(
    db: Database, store: ZarrStore, remover: Remover, gave: Callable[..., str], claimed: Claimed
) -> None:
    """It found the part of scene a, which goes before it has recorded what it made of it."""
    run_id = gave("a")
    claim = claimed()
    entry = store.entry(keys.digest("a"))
    assert entry is not None
    manifest = ArtifactManifest("ab" * 16, "embeddings", "extract", "embeddings", {}, {}, (entry,))
    digest = store.publish(manifest, token=claim.token)
    remover.run(run_id, at_once=True)
    row = ArtifactRow("ab" * 16, "embeddings", "extract", "embeddings", claim.run_id, digest, 1, 1, 7)
    with pytest.raises(PartGone):
        leases.record_artifact(db, claim.token, row, lambda: store.is_whole(manifest))
    assert artifacts.exists(db, ["ab" * 16]) == frozenset()


def test_what_is_computed_anew_while_it_is_deleted_stays(
    db: Database, store: ZarrStore, remover: Remover, gave: Callable[..., str], claimed: Claimed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Between its row and its files, a worker publishes and records the same key."""
    run_id, claim = gave("a"), claimed()
    before = withdrawals.withdraw_all

    def beside(*given: Any) -> Any:
        publish(db, store, claim, "a")
        return before(*given)

    monkeypatch.setattr(withdrawals, "withdraw_all", beside)
    remover.run(run_id, at_once=True)
    leases.succeed(db, claim.token, {"scenes": keys.digest(["a"])}, cached=False)
    assert store.verify(keys.digest(["a"])) == []
    assert artifacts.get(db, keys.digest(["a"])).run_id == claim.run_id


def test_a_worker_whose_artifact_was_withdrawn_as_it_was_published_begins_again(
    db: Database, store: ZarrStore, claimed: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, before = claimed(), zarr_store._publish

    def beside(staging: Path, target: Path) -> None:
        before(staging, target)
        if target == store.artifact_path(keys.digest(["a"])).parent:
            store.withdraw(target.name, [keys.digest("a")])

    with monkeypatch.context() as patch:
        patch.setattr(zarr_store, "_publish", beside)
        with pytest.raises(PartGone):
            publish(db, store, claim, "a")
    assert store.verify(publish(db, store, claim, "a")) == []


def test_deleting_beside_workers_that_publish_the_same_parts_damages_nothing(
    db: Database, store: ZarrStore, remover: Remover, offices: str, host: str
) -> None:
    """Four workers publish artifacts of overlapping scenes and begin again where they must; a fifth thread deletes."""
    scenes, faults, done = "abcd", [], threading.Event()
    planned = [PlannedRun(f"run {n}", stages.Ingest(label_set="s3dis13"), {}, offices) for n in range(24)]
    for run in runs.create(db, planned, Submission(wishes={run.name: Wishes() for run in planned})):
        make_ready(db, run.id)

    def work() -> None:
        while (claim := claims.claim(db, host, 600.0)) is not None:
            number = int(runs.get(db, claim.run_id).name.split()[1])
            chosen = [scene for i, scene in enumerate(scenes) if (number % 15 + 1) >> i & 1]
            for _ in range(50):
                try:
                    key = publish(db, store, claim, *chosen)
                    leases.succeed(db, claim.token, {"scenes": key}, cached=False)
                    break
                except (PartGone, NotFound):
                    continue
                except Exception as error:  # noqa: BLE001
                    if "publish the part first" in str(error) or "swept" in str(error):
                        continue
                    faults.append(error)
                    return

    def delete() -> None:
        while not done.is_set():
            for run in list_runs(db, runs.RunFilter(state="succeeded")).items[::2]:
                try:
                    remover.run(run.id, at_once=True)
                except Exception as error:  # noqa: BLE001
                    faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    deleter = threading.Thread(target=delete)
    for thread in (*threads, deleter):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    deleter.join()
    assert faults == []
    left = list_runs(db).items
    assert all(run.state == "succeeded" for run in left)
    for run in left:
        assert store.verify(run.outputs["scenes"]) == []
    for run in left:
        remover.run(run.id, at_once=True)
    assert rows(db) == {} and there(store, *scenes) == [False] * 4
    assert hosts.list_hosts(db).items

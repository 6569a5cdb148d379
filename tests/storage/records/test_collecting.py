"""The collector: what nothing needs goes after its grace period, and whatever somebody needs stays."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from storage import keys
from storage.artifacts.run_files import RunFiles
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import IllegalMove, NotFound, PartGone, StoreUnwritable
from storage.records import (
    artifacts,
    claims,
    collecting,
    events,
    leases,
    part_index,
    pins,
    policies,
    read_leases,
    retries,
    runs,
    soundness,
    usage,
    uses,
    withdrawals,
)
from storage.records.claims import Claim
from storage.records.collecting import Collection, Collector
from storage.records.database import Database
from storage.records.keeping_tables import CollectionMarkRow
from storage.records.removals import Remover
from storage.records.submissions import Submission, Wishes
from storage.records.tables import Base, RemovalRow, RunInputRow, RunRow
from storage.specs import stages
from storage.specs.plans import ArtifactRef, OutputRef, PlannedRun
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.moving_runs import make_ready
from tests.fixtures.publishing import leave, publish, write_manifest, write_parts

Claimed = Callable[..., Claim]


@pytest.fixture
def without_grace(db: Database) -> None:
    policies.change(db, "", grace_s=0)


def ids(found: Any) -> list[tuple[str, str, str]]:
    return sorted((one.what, one.id, one.code) for one in found)


def rows(db: Database) -> dict[str, int]:
    with db.read() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def on_disk(store: ZarrStore) -> set[Path]:
    return {path for path in store.root.rglob("*") if path.is_file()}


def age(db: Database, days: float) -> None:
    """Makes everything in the database so much older."""
    with db.write() as session:
        for table in Base.metadata.sorted_tables:
            for column in table.columns:
                if (
                    column.name not in ("at", "created_at", "started_at", "ended_at", "due_at")
                    or table.name == "events"
                ):
                    continue
                for key in session.execute(select(*table.primary_key.columns, column)).all():
                    *own, moment = key
                    if moment is not None:
                        where = [c == v for c, v in zip(table.primary_key.columns, own, strict=True)]
                        older = moment - timedelta(days=days)
                        session.execute(update(table).where(*where).values({column.name: older}))


# ---- what goes


def test_what_no_run_is_left_of_is_marked_and_goes_when_its_grace_period_is_over(
    db: Database, store: ZarrStore, collector: Collector
) -> None:
    key = leave(db, store, "a", "b")
    size = artifacts.get(db, key).num_bytes
    first = collector.collect()
    assert (ids(first.marked), first.removed) == ([("artifact", key, "unreferenced")], ())
    (waits,) = first.marked
    assert (waits.num_bytes, waits.due_at - db.now() > timedelta(days=6.9)) == (size, True)
    assert store.verify(key) == []
    age(db, 6.9)
    again = collector.collect()
    assert (ids(again.marked), again.removed, again.unmarked) == (ids(first.marked), (), 0)
    age(db, 0.2)
    last = collector.collect()
    assert (ids(last.removed), last.removed_bytes, last.marked) == ([("artifact", key, "unreferenced")], size, ())
    assert on_disk(store) == set()
    assert {name: number for name, number in rows(db).items() if number} == {}


def test_a_dry_run_tells_what_would_go_and_changes_nothing(
    db: Database, store: ZarrStore, collector: Collector
) -> None:
    kept = leave(db, store, "a", "b")
    pins.add(db, kept, "ada", "published with the paper")
    going = leave(db, store, "b", "c")
    write_parts(store, "left", "orphan")
    staged = store.root / "staging" / "dead" / "x"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"12345")
    part_index.update(db, store)
    before, files = rows(db), on_disk(store)
    dry = collector.look()
    assert (rows(db), on_disk(store)) == (before, files)
    assert ids(dry.marked) == sorted([("artifact", going, "unreferenced"), ("part", keys.digest("orphan"), "orphan")])
    each = artifacts.get(db, going).num_bytes // 2
    assert [one.num_bytes for one in dry.marked] == [each, each], "the part that another artifact holds stays"
    assert (dry.removed, dry.num_staged, dry.staged_bytes) == ((), 1, 5)
    policies.change(db, "", grace_s=0)
    dry = collector.look()
    done = collector.collect()
    assert (ids(done.removed), done.removed_bytes) == (ids(dry.removed + dry.marked), dry.removed_bytes)
    assert store.verify(kept) == []
    assert on_disk(store) == {
        path
        for path in files
        if path != staged and not {keys.digest("c"), keys.digest("orphan"), going} & {*path.parts}
    }


def test_what_nobody_has_used_for_so_long_goes_and_its_run_says_so(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed, without_grace: None
) -> None:
    policies.change(db, "", unused_days=30)
    claim = claimed()
    key = publish(db, store, claim, "a")
    leases.succeed(db, claim.token, {"embeddings": key}, cached=False)
    age(db, 29)
    assert collector.collect().removed == ()
    age(db, 2)
    assert ids(collector.look().removed + collector.look().marked) == [("artifact", key, "expired")]
    assert ids(collector.collect().removed) == [("artifact", key, "expired")]
    run = runs.get(db, claim.run_id)
    assert (run.state, run.outputs) == ("succeeded", {})
    said = events.after(db, run.id)[-1].message
    assert said.startswith(f"its output 'embeddings' ({key}) was collected: nobody has used it since ")
    assert soundness.check_rows(db) == []


@pytest.mark.parametrize("use", ["a reader", "a lease", "a run that read it", "a run that gave it again"])
def test_whoever_uses_an_artifact_keeps_it_from_expiring(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed, without_grace: None, use: str
) -> None:
    policies.change(db, "", unused_days=30)
    claim = claimed()
    key = publish(db, store, claim, "a")
    leases.succeed(db, claim.token, {"embeddings": key}, cached=False)
    age(db, 31)
    match use:
        case "a reader":
            uses.note_read(db, key)
        case "a lease":
            read_leases.release(db, read_leases.take(db, key, "eve", 60).id)
        case "a run that read it":
            reads = {"embeddings": ArtifactRef(key)}
            run = runs.create(db, [PlannedRun("x", stages.External(), reads)])[0]
            runs.request_cancel(db, run.id)
        case _:
            twin = claimed()
            leases.succeed(db, twin.token, {"embeddings": key}, cached=True)
    assert (collector.collect().removed, collector.collect().marked) == ((), ())
    age(db, 31)
    assert ids(collector.collect().removed) == [("artifact", key, "expired")]


def test_only_kinds_that_expire_do(db: Database, store: ZarrStore, collector: Collector, claimed: Claimed) -> None:
    policies.change(db, "", unused_days=1, expiring=["labels"], grace_s=0)
    claim = claimed()
    publish(db, store, claim, "a")
    leases.succeed(db, claim.token, {}, cached=False)
    age(db, 100)
    assert collector.collect().removed == ()


def test_what_dead_workers_published_without_a_row_goes_when_no_run_may_count_on_it(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed, without_grace: None
) -> None:
    kept = leave(db, store, "a")
    pins.add(db, kept, "", "x")
    claim = claimed()
    with db.write() as session:
        session.execute(update(RunRow).values(stage="extract"))
    manifest, _ = write_manifest(store, "dead", "a", "b")
    write_parts(store, "dead", "c")
    going = [("manifest", manifest.key, "unrecorded"), ("part", keys.digest("c"), "orphan")]
    waits = collector.collect()
    assert (ids(waits.marked), waits.removed) == (going, ()), "a run of a stage that writes scenes has begun"
    leases.release(db, claim.token, "r")
    assert collector.collect().removed == (), "and will go on"
    runs.request_cancel(db, claim.run_id)
    assert ids(collector.collect_due()) == going
    assert sorted(store.parts()) == [keys.digest("a")]
    assert (list(store.artifacts()), store.verify(kept)) == ([kept], [])


def test_a_manifest_that_cannot_be_read_keeps_every_part_that_it_may_hold(
    db: Database, store: ZarrStore, collector: Collector, without_grace: None
) -> None:
    key = leave(db, store, "a")
    pins.add(db, key, "", "x")
    write_parts(store, "dead", "b")
    path = store.artifact_path(key)
    whole = path.read_text()
    path.write_text("{")
    assert collector.collect().removed == ()
    path.write_text(whole)
    assert ids(collector.collect().removed) == [("part", keys.digest("b"), "orphan")]


def test_what_dead_workers_staged_goes_at_once_and_what_living_ones_write_stays(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed
) -> None:
    claim = claimed()
    for token in (claim.token, "dead"):
        path = store.root / "staging" / token / "x"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"123")
    done = collector.collect()
    assert (done.num_staged, done.staged_bytes, done.removed_bytes) == (1, 3, 3)
    assert store.staged() == {claim.token}


# ---- what stays


def test_a_pin_keeps_an_artifact_from_the_collector_until_it_ends(
    db: Database, store: ZarrStore, collector: Collector, without_grace: None
) -> None:
    key = leave(db, store, "a")
    pins.add(db, key, "ada", "for the paper", db.now() + timedelta(days=1))
    pins.add(db, key, "eve", "mine")
    assert collector.collect() == Collection((), (), 0, 0, 0)
    pins.remove(db, key, "eve")
    assert collector.collect().marked == ()
    with db.write() as session:
        session.execute(update(pins.PinRow).values(until=db.now() - timedelta(seconds=1)))
    assert ids(collector.collect().removed) == [("artifact", key, "unreferenced")]


def test_an_artifact_that_is_pinned_or_leased_stays_when_its_run_is_deleted_and_the_run_goes(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed, without_grace: None
) -> None:
    claim = claimed()
    pinned, leased, going = (publish(db, store, claim, scene) for scene in "abc")
    leases.succeed(db, claim.token, {"x": pinned, "y": leased, "z": going}, cached=False)
    pins.add(db, pinned, "ada", "for the paper")
    lease = read_leases.take(db, leased, "eve", 600)
    foreseen = Remover(db, store, RunFiles(store.root)).run(claim.run_id, at_once=True, dry_run=True)
    done = Remover(db, store, RunFiles(store.root)).run(claim.run_id, at_once=True)
    assert done == foreseen
    assert [one.key for one in done.removed] == [going]
    why = {one.key: one.why for one in done.kept}
    assert why[pinned] == "pinned by ada: for the paper"
    assert why[leased].startswith(f"read by eve under the lease {lease.id} until ")
    with pytest.raises(NotFound):
        runs.get(db, claim.run_id)
    assert artifacts.get(db, pinned).run_id == claim.run_id
    assert store.verify(pinned) == store.verify(leased) == []
    assert collector.collect().removed == ()
    read_leases.release(db, lease.id)
    assert ids(collector.collect().removed) == [("artifact", leased, "unreferenced")]
    pins.remove(db, pinned, "ada")
    assert ids(collector.collect().removed) == [("artifact", pinned, "unreferenced")]
    assert on_disk(store) == set()


@pytest.mark.parametrize("state", ["queued", "ready", "running"])
@pytest.mark.parametrize("by", ["key", "run"])
def test_what_a_run_that_has_not_ended_reads_stays_however_long_it_is_unused(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed, host: str, without_grace: None,
    state: str, by: str,
) -> None:  # fmt: skip
    """By key: the planner has filled it in. By run: the reader names the run that gave it, and nobody planned yet."""
    policies.change(db, "", unused_days=1)
    source = claimed()
    key = publish(db, store, source, "a")
    leases.succeed(db, source.token, {"scenes": key}, cached=False)
    reads = {"embeddings": ArtifactRef(key)} if by == "key" else {"scenes": OutputRef(source.run_id, "scenes")}
    reader = runs.create(db, [PlannedRun("x", stages.External(), reads)])[0]
    if by == "run":
        with db.write() as session:
            session.execute(update(RunInputRow).values(artifact_key=None))
    with db.write() as session:
        session.execute(update(RunRow).where(RunRow.id == reader.id).values(state=state))
    age(db, 100)
    assert collector.look().marked == collector.collect().removed == ()
    with db.write() as session:
        session.execute(update(RunRow).where(RunRow.id == reader.id).values(state="cancelled"))
    assert ids(collector.collect().removed) == [("artifact", key, "expired")]


def test_a_run_whose_input_was_collected_is_not_retried(
    db: Database, store: ZarrStore, collector: Collector, without_grace: None
) -> None:
    policies.change(db, "", unused_days=1)
    key = leave(db, store, "a")
    reader = runs.create(db, [PlannedRun("x", stages.External(), {"embeddings": ArtifactRef(key)})])[0]
    runs.request_cancel(db, reader.id)
    assert collector.collect().removed == (), "a run that has ended reads it"
    age(db, 2)
    collector.collect()
    with pytest.raises(IllegalMove, match=f"the artifact {key}, the input 'embeddings' .* was collected"):
        retries.retry(db, reader.id)


@pytest.mark.parametrize("use", ["pin", "lease", "read", "run"])
def test_a_use_between_marking_and_deleting_unmarks(
    db: Database, store: ZarrStore, collector: Collector, use: str
) -> None:
    key = leave(db, store, "a")
    policies.change(db, "", unused_days=1)
    age(db, 2)
    collector.collect()
    match use:
        case "pin":
            pins.add(db, key, "", "x")
        case "lease":
            read_leases.take(db, key, "", 60)
        case "read":
            uses.note_read(db, key)
        case _:
            runs.create(db, [PlannedRun("x", stages.External(), {"embeddings": ArtifactRef(key)})])
    if use != "run":  # a run is seen when the mark is due
        with db.read() as session:
            assert session.get(CollectionMarkRow, ("artifact", key)) is None
    with db.write() as session:
        session.execute(update(CollectionMarkRow).values(due_at=db.now() - timedelta(seconds=1)))
    assert collector.collect_due() == ()
    assert store.verify(key) == []
    assert not (use == "run" and collector.collect().marked)


def test_a_key_that_is_published_again_in_its_grace_period_stays(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed
) -> None:
    key = leave(db, store, "a")
    collector.collect()
    claim = claimed()
    publish(db, store, claim, "a")
    leases.succeed(db, claim.token, {"embeddings": key}, cached=False)
    age(db, 8)
    assert (collector.collect_due(), collector.collect().marked, store.verify(key)) == ((), (), [])


def test_a_lease_is_taken_of_what_is_there_and_of_nothing_that_has_gone(
    db: Database, store: ZarrStore, collector: Collector, without_grace: None
) -> None:
    key = leave(db, store, "a")
    lease = read_leases.take(db, key, "eve", 600)
    assert collector.collect().removed == ()
    with db.write() as session:
        session.execute(update(read_leases.ReadLeaseRow).values(until=db.now() - timedelta(seconds=1)))
    assert read_leases.list_leases(db) == []
    assert read_leases.renew(db, lease.id, 600).until > db.now(), "one that lapsed is good again while it can be"
    assert collector.collect().removed == ()
    with db.write() as session:
        session.execute(update(read_leases.ReadLeaseRow).values(until=db.now() - timedelta(seconds=1)))
    assert len(collector.collect().removed) == 1
    for late in (lambda: read_leases.take(db, key, "eve", 60), lambda: read_leases.renew(db, lease.id, 60)):
        with pytest.raises(NotFound):
            late()


# ---- disks that will not


@pytest.mark.parametrize("fault", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_is_a_clear_error_and_the_next_collector_ends_what_was_begun(
    db: Database, store: ZarrStore, collector: Collector, without_grace: None, fault: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kept, going = leave(db, store, "a", "b"), leave(db, store, "b", "c")
    pins.add(db, kept, "", "x")
    write_parts(store, "dead", "d")

    def refuse(*_: object) -> None:
        raise OSError(fault, "the disk says no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StoreUnwritable, match="the disk says no"):
            collector.collect()
    with pytest.raises(NotFound):
        artifacts.get(db, going)
    assert store.verify(kept) == []
    collector.collect()
    assert (list(store.artifacts()), len(list(store.parts()))) == ([kept], 2)
    with db.read() as session:
        assert session.scalars(select(RemovalRow)).all() == session.scalars(select(CollectionMarkRow)).all() == []


# ---- beside others


def test_what_is_used_between_the_look_and_the_deletion_stays(
    db: Database, store: ZarrStore, collector: Collector, without_grace: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader takes a lease after the collector has chosen, before it takes the row away."""
    key = leave(db, store, "a")
    before = Collector._hide

    def beside(self: Collector, keys: Any) -> Any:
        read_leases.take(db, key, "eve", 600)
        return before(self, keys)

    monkeypatch.setattr(Collector, "_hide", beside)
    assert collector.collect().removed == ()
    assert store.verify(key) == []


def test_a_key_that_is_published_while_its_files_go_is_whole(
    db: Database, store: ZarrStore, collector: Collector, claimed: Claimed, without_grace: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key, claim = leave(db, store, "a"), claimed()
    before = withdrawals.withdraw_all

    def beside(*given: Any) -> Any:
        publish(db, store, claim, "a")
        return before(*given)

    monkeypatch.setattr(collecting.withdrawals, "withdraw_all", beside)
    collector.collect()
    leases.succeed(db, claim.token, {"embeddings": key}, cached=False)
    assert (store.verify(key), artifacts.get(db, key).run_id) == ([], claim.run_id)


def test_collecting_beside_workers_of_the_same_keys_and_readers_with_leases_damages_nothing(
    db: Database, store: ZarrStore, collector: Collector, offices: str, host: str, without_grace: None
) -> None:
    """Workers publish overlapping scenes, their runs are deleted, readers lease and read, two collectors collect."""
    scenes, faults, done = "abcd", [], threading.Event()
    planned = [PlannedRun(f"run {n}", stages.Ingest(label_set="s3dis13"), {}, offices) for n in range(16)]
    for run in runs.create(db, planned, Submission(wishes={run.name: Wishes() for run in planned})):
        make_ready(db, run.id)
    read = threading.Semaphore(0)

    def work() -> None:
        while (claim := claims.claim(db, host, 600.0)) is not None:
            number = int(runs.get(db, claim.run_id).name.split()[1])
            chosen = [scene for i, scene in enumerate(scenes) if (number % 15 + 1) >> i & 1]
            for _ in range(100):
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

    def read_on() -> None:
        while not done.is_set():
            for row in artifacts.list_artifacts(db).items:
                try:
                    lease = read_leases.take(db, row.key, "eve", 600)
                except NotFound:
                    continue
                faults.extend(store.verify(row.key))
                read_leases.release(db, lease.id)
                read.release()

    def forget() -> None:
        while not done.is_set():
            for run in list_runs(db, runs.RunFilter(state="succeeded")).items[::2]:
                Remover(db, store, RunFiles(store.root)).run(run.id)

    def guarded(what: Callable[[], object]) -> None:
        try:
            what()
        except Exception as error:  # noqa: BLE001
            faults.append(error)

    def collect_on() -> None:
        while not done.is_set():
            collector.collect()

    workers = [threading.Thread(target=guarded, args=(work,)) for _ in range(2)]
    others = [threading.Thread(target=guarded, args=(one,)) for one in (read_on, forget, collect_on, collect_on)]
    for thread in (*workers, *others):
        thread.start()
    for thread in workers:
        thread.join()
    assert read.acquire(timeout=60), "no reader has read anything"
    done.set()
    for thread in others:
        thread.join()
    assert faults == []
    for row in artifacts.list_artifacts(db).items:
        assert store.verify(row.key) == []
    for run in list_runs(db).items:
        Remover(db, store, RunFiles(store.root)).run(run.id)
    collector.collect()
    assert (on_disk(store), soundness.check_rows(db)) == (set(), [])
    assert usage.report(db, store, store.root).num_artifacts == 0

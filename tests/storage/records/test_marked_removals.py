"""What is deleted waits for the end of its grace period; artifacts that no run is left of are deleted by their key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from storage import keys
from storage.artifacts.run_files import RunFiles
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import InUse, NotFound
from storage.records import (
    artifact_removals,
    artifacts,
    leases,
    part_index,
    pins,
    policies,
    read_leases,
    runs,
    soundness,
    uses,
)
from storage.records.claims import Claim
from storage.records.collecting import Collector
from storage.records.database import Database
from storage.records.keeping_tables import CollectionMarkRow
from storage.records.removals import Removal, Remover
from storage.records.tables import Base, RemovalRow, RunRow
from storage.specs import stages
from storage.specs.plans import ArtifactRef, PlannedRun
from tests.fixtures.publishing import leave, publish

Claimed = Callable[..., Claim]
Delete = Callable[..., Removal]


@pytest.fixture
def gave(db: Database, store: ZarrStore, claimed: Claimed) -> Callable[..., tuple[str, str]]:
    """Makes a run that has succeeded with embeddings of these scenes; its id and their key."""

    def make(*scenes: str) -> tuple[str, str]:
        claim = claimed()
        key = publish(db, store, claim, *scenes)
        leases.succeed(db, claim.token, {"embeddings": key}, cached=False)
        return claim.run_id, key

    return make


@pytest.fixture
def remove(db: Database, store: ZarrStore) -> Delete:
    """Deletes a run."""
    return Remover(db, store, RunFiles(store.root)).run


@pytest.fixture
def delete(db: Database, store: ZarrStore) -> Delete:
    """Deletes an artifact as ada."""

    def made(key: str, *, at_once: bool = False, dry_run: bool = False) -> Removal:
        return artifact_removals.delete(db, store, key, "ada", at_once=at_once, dry_run=dry_run)

    return made


def rows(db: Database) -> dict[str, int]:
    """Table -> number of its rows, of those that a deletion may touch."""
    with db.read() as session:
        counts = {t.name: session.scalar(select(func.count()).select_from(t)) or 0 for t in Base.metadata.sorted_tables}
    return {name: number for name, number in counts.items() if number and name not in ("hosts", "datasets", "policies")}


def marks(db: Database) -> dict[str, tuple[str, str, int]]:
    with db.read() as session:
        return {row.id: (row.code, row.why, row.num_bytes) for row in session.scalars(select(CollectionMarkRow))}


def end_grace(db: Database) -> None:
    with db.write() as session:
        session.execute(update(CollectionMarkRow).values(due_at=db.now() - timedelta(seconds=1)))


def on_disk(store: ZarrStore) -> list[Path]:
    """Files in the store, without those that were renamed away."""
    store.clear()
    return [path for path in store.root.rglob("*") if path.is_file()]


# ---- runs


def test_what_a_deleted_run_leaves_is_whole_until_its_grace_period_is_over(
    db: Database, store: ZarrStore, collector: Collector, gave: Callable[..., tuple[str, str]], remove: Delete
) -> None:
    policies.change(db, "", grace_s=3600)
    run_id, key = gave("a", "b")
    size, before = artifacts.get(db, key).num_bytes, rows(db)
    foreseen = remove(run_id, dry_run=True)
    assert rows(db) == before
    done = remove(run_id)
    assert (done.runs, done.removed, done.kept) == (foreseen.runs, foreseen.removed, ())
    assert [(one.key, one.num_parts, one.num_bytes) for one in done.removed] == [(key, 2, size)]
    assert foreseen.due_at is not None and done.due_at is not None
    assert timedelta(0) <= done.due_at - foreseen.due_at < timedelta(minutes=5)
    assert timedelta(minutes=50) < done.due_at - db.now() <= timedelta(hours=1)
    with pytest.raises(NotFound):
        runs.get(db, run_id)
    assert marks(db) == {key: ("deleted", "the last run that gave it was deleted", size)}
    assert (collector.collect_due(), collector.collect().unmarked, store.verify(key)) == ((), 0, [])
    assert soundness.check_rows(db) == []
    end_grace(db)
    assert [(one.id, one.code, one.num_bytes) for one in collector.collect_due()] == [(key, "deleted", size)]
    assert (on_disk(store), set(rows(db))) == ([], {"store_policies"})


@pytest.mark.parametrize("use", ["pin", "lease", "read", "run", "cached"])
def test_a_use_in_the_grace_period_keeps_what_was_deleted(
    db: Database, store: ZarrStore, collector: Collector, gave: Callable[..., tuple[str, str]], remove: Delete,
    claimed: Claimed, use: str,
) -> None:  # fmt: skip
    run_id, key = gave("a")
    remove(run_id)
    match use:
        case "pin":
            pins.add(db, key, "", "x")
        case "lease":
            read_leases.take(db, key, "", 60)
        case "read":
            uses.note_read(db, key)
        case "run":
            runs.create(db, [PlannedRun("x", stages.External(), {"embeddings": ArtifactRef(key)})])
        case _:
            leases.succeed(db, claimed().token, {"embeddings": key}, cached=True)
    end_grace(db)
    assert collector.collect_due() == ()
    assert (store.verify(key), marks(db)) == ([], {})


def test_what_waits_can_be_freed_at_once(
    db: Database, store: ZarrStore, gave: Callable[..., tuple[str, str]], remove: Delete, delete: Delete
) -> None:
    run_id, key = gave("a")
    assert remove(run_id, at_once=True).due_at is None
    assert on_disk(store) == []
    run_id, key = gave("b")
    remove(run_id)
    assert [one.key for one in delete(key, at_once=True).removed] == [key]
    assert (on_disk(store), rows(db)) == ([], {})


def test_who_deletes_again_waits_from_then_on(db: Database, store: ZarrStore, delete: Delete) -> None:
    key = leave(db, store, "a")
    delete(key)
    end_grace(db)
    again = delete(key).due_at
    assert again is not None and again > db.now() + timedelta(days=6)
    with db.read() as session:
        assert list(session.scalars(select(CollectionMarkRow.due_at))) == [again]


# ---- artifacts


@pytest.mark.parametrize("run_id", ["", "r0gone"])
def test_an_artifact_that_no_run_is_left_of_is_deleted_by_its_key(
    db: Database, store: ZarrStore, collector: Collector, delete: Delete, run_id: str
) -> None:
    kept = leave(db, store, "b", "c")
    key = leave(db, store, "a", "b", run_id=run_id)
    part_index.update(db, store)
    before, own = rows(db), artifacts.get(db, key).num_bytes // 2
    foreseen = delete(key, dry_run=True)
    assert (rows(db), marks(db)) == (before, {})
    (gone,) = foreseen.removed
    assert (gone.num_parts, gone.num_bytes, gone.shared_parts) == (1, own, 1)
    assert delete(key).removed == foreseen.removed
    assert marks(db) == {key: ("deleted", "ada deleted it", own)}
    pins.add(db, kept, "", "else the collector takes it too")
    assert [one.id for one in collector.collect().marked] == [key]
    assert store.verify(key) == []
    end_grace(db)
    assert [one.id for one in collector.collect().removed] == [key]
    with pytest.raises(NotFound):
        delete(key)
    assert store.verify(kept) == [] and store.entry(keys.digest("a")) is None


def test_an_artifact_that_somebody_needs_is_not_deleted_and_they_are_named(
    db: Database, store: ZarrStore, gave: Callable[..., tuple[str, str]], claimed: Claimed, delete: Delete
) -> None:
    giver, given = gave("a")
    claim = claimed()
    computed = publish(db, store, claim, "b")
    read = leave(db, store, "c")
    reader = runs.create(db, [PlannedRun("x", stages.External(), {"embeddings": ArtifactRef(read)})])[0].id
    pinned, leased = leave(db, store, "d"), leave(db, store, "e")
    pins.add(db, pinned, "eve", "for the paper")
    lease = read_leases.take(db, leased, "bob", 60)
    before = rows(db)
    for key, said in {
        given: f"an output of the run {giver}",
        computed: f"an output of the run {claim.run_id}, which has not ended",
        read: f"an input of the run {reader}",
        pinned: "pinned by eve: for the paper",
        leased: f"read by bob under the lease {lease.id}",
    }.items():
        for asked in ({}, {"at_once": True}, {"dry_run": True}):
            with pytest.raises(InUse, match=said):
                delete(key, **asked)
    assert rows(db) == before
    with db.write() as session:
        session.execute(update(RunRow).where(RunRow.id == reader).values(state="cancelled"))
    with pytest.raises(InUse, match=reader):
        delete(read)
    pins.remove(db, pinned, "eve")
    read_leases.release(db, lease.id)
    assert [one.key for key in (pinned, leased) for one in delete(key).removed] == [pinned, leased]


@pytest.mark.parametrize("by", ["deleting again", "the next start"])
def test_a_deletion_that_died_before_the_files_went_is_ended_by_another(
    db: Database, store: ZarrStore, delete: Delete, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    key = leave(db, store, "a")

    class Died(Exception):
        pass

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(ZarrStore, "withdraw", die)
        with pytest.raises(Died):
            delete(key, at_once=True)
    assert artifacts.exists(db, [key]) == frozenset() and store.manifest(key) is not None
    with db.read() as session:
        assert session.get(RemovalRow, ("artifact", key)) is not None
    if by == "deleting again":
        assert [one.key for one in delete(key, at_once=True).removed] == [key]
    else:
        Remover(db, store, RunFiles(store.root)).finish_all()
    assert (on_disk(store), rows(db)) == ([], {})


def test_whose_an_artifact_is_is_known_of_features_for_good_and_of_others_while_their_run_is_there(
    db: Database, store: ZarrStore, claimed: Claimed, remove: Delete, artifact: Callable[..., artifacts.ArtifactRow]
) -> None:
    claim = claimed()
    with db.write() as session:
        session.execute(update(RunRow).values(owner="ada"))
        artifacts.insert(session, claim.run_id, artifact("ab" * 16, "labels"))
    features = publish(db, store, claim, "a")
    leases.succeed(db, claim.token, {"embeddings": features, "labels": "ab" * 16}, cached=False)
    assert [artifacts.owner_of(db, key) for key in (features, "ab" * 16)] == ["ada", "ada"]
    remove(claim.run_id)
    assert [artifacts.owner_of(db, key) for key in (features, "ab" * 16)] == ["ada", ""]
    with pytest.raises(NotFound):
        artifacts.owner_of(db, "cd" * 16)

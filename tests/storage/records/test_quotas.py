"""A full store lets no new run begin and says so; usage counts shared bytes once, and what reads a store is noted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from storage import keys
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import InvalidInput, LeaseLost, NotFound, QuotaExceeded
from storage.records import artifacts, claims, leases, part_index, pins, policies, quotas, runs, usage, uses, waits
from storage.records.claims import Claim
from storage.records.collecting import Collector
from storage.records.database import Database
from storage.records.keeping_tables import ArtifactPartRow, ArtifactUseRow
from storage.records.runs import Run
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.moving_runs import make_ready
from tests.fixtures.publishing import leave, publish, write_parts

Claimed = Callable[..., Claim]


def files_of(store: ZarrStore, *scenes: str) -> int:
    """Bytes of the parts of scenes as the disk has them, without manifests."""
    paths = [path for scene in scenes for path in store.part_path(keys.digest(scene)).rglob("*")]
    return sum(path.stat().st_size for path in paths if path.is_file() and path.name != "manifest.json")


def test_a_full_store_lets_no_run_begin_and_says_what_they_wait_for(
    db: Database, store: ZarrStore, host: str, ready_run: Callable[..., Run]
) -> None:
    run = ready_run()
    key = leave(db, store, "a", "b")
    size = artifacts.get(db, key).num_bytes
    policies.change(db, "ada", quota_bytes=size)
    assert claims.claim(db, host, 60) is None
    waits_for = waits.read(db, run.id)[1]
    assert waits_for is not None and waits_for.startswith(
        f"room in the store: the store holds {size:,} of the {size:,}"
    )
    assert runs.get(db, run.id).state == "ready"
    external = runs.create(db, [PlannedRun("x", stages.External())])[0]
    make_ready(db, external.id)
    assert waits.read(db, external.id)[1] == "its owner, who starts it", "it writes nothing"
    policies.change(db, "ada", quota_bytes=size + 1)
    claim = claims.claim(db, host, 60)
    assert claim is not None and claim.run_id == run.id


def test_room_made_by_the_collector_lets_runs_go_on(
    db: Database, store: ZarrStore, host: str, ready_run: Callable[..., Run]
) -> None:
    ready_run()
    leave(db, store, "a")
    policies.change(db, "", quota_bytes=1, grace_s=0)
    assert claims.claim(db, host, 60) is None
    Collector(db, store, store.root).collect()
    assert claims.claim(db, host, 60) is not None


def test_a_run_that_is_running_when_the_store_fills_up_ends_well(
    db: Database, store: ZarrStore, claimed: Claimed
) -> None:
    claim = claimed()
    policies.change(db, "", quota_bytes=1)
    leases.succeed(db, claim.token, {"scenes": publish(db, store, claim, "a")}, cached=False)
    assert runs.get(db, claim.run_id).state == "succeeded"


@pytest.mark.parametrize(
    ("quota", "fill"),
    [(0, "no_quota"), (1000, "ok"), (112, "ok"), (111, "nearly_full"), (101, "nearly_full"), (100, "full")],
)
def test_people_are_warned_from_nine_tenths_on(quota: int, fill: str) -> None:
    found = quotas.Room(100, quota)
    assert found.fill == fill
    assert bool(found.warning) is (fill in ("nearly_full", "full"))


def test_what_comes_from_outside_is_refused_where_it_does_not_fit(db: Database, store: ZarrStore) -> None:
    size = artifacts.get(db, leave(db, store, "a")).num_bytes
    with db.read() as session:
        quotas.check_room(session, 10**15)
    policies.change(db, "", quota_bytes=size + 10)
    with db.read() as session:
        quotas.check_room(session, 10)
        with pytest.raises(QuotaExceeded, match=rf"11 more bytes do not fit: 10 of the {size + 10:,} .*{size:,} are"):
            quotas.check_room(session, 11)
    policies.change(db, "", quota_bytes=1)
    with db.read() as session:
        quotas.check_room(session, 0)
        with pytest.raises(QuotaExceeded, match="0 of the 1 bytes"):
            quotas.check_room(session, 1)


def test_room_that_one_attempt_keeps_is_not_another_s_until_it_ends(
    db: Database, store: ZarrStore, claimed: Claimed
) -> None:
    one, other = claimed(), claimed()
    size = artifacts.get(db, leave(db, store, "a")).num_bytes
    policies.change(db, "", quota_bytes=size + 100)
    leases.keep_room(db, one.token, {"p": 30, "q": 30})
    with pytest.raises(QuotaExceeded, match=r"41 more bytes do not fit: 40 of .* 60 kept"):
        leases.keep_room(db, other.token, {"r": 41})
    leases.keep_room(db, other.token, {"r": 40})
    leases.keep_room(db, one.token, {"p": 60})
    leases.fail(db, one.token, "x", "x")
    leases.keep_room(db, other.token, {"r": 100})
    with pytest.raises(QuotaExceeded, match=r"101 more bytes do not fit: 100 of"):
        leases.keep_room(db, other.token, {"r": 101})
    with pytest.raises(LeaseLost):
        leases.keep_room(db, one.token, {})


def test_parts_that_are_published_take_no_more_room(db: Database, store: ZarrStore, claimed: Claimed) -> None:
    size = artifacts.get(db, leave(db, store, "a")).num_bytes
    part_index.update(db, store)
    policies.change(db, "", quota_bytes=size + 5)
    token = claimed().token
    leases.keep_room(db, token, {keys.digest("a"): size, "new": 5})
    with pytest.raises(QuotaExceeded, match="6 more bytes"):
        leases.keep_room(db, token, {keys.digest("a"): size, "new": 6})
    policies.change(db, "", quota_bytes=1)
    leases.keep_room(db, token, {keys.digest("a"): size})


def test_a_policy_keeps_what_is_not_given_and_refuses_nonsense(db: Database) -> None:
    assert policies.get(db) == policies.Policy()
    policies.change(db, "ada", quota_bytes=10**13, expiring=["labels", "embeddings", "labels"])
    found = policies.change(db, "eve", unused_days=30)
    assert (found.quota_bytes, found.unused_days, found.expiring) == (10**13, 30, ("labels", "embeddings"))
    assert (found.set_by, found.grace_s) == ("eve", 7 * 86400)
    for wrong in ({"quota_bytes": -1}, {"grace_s": -0.1}, {"expiring": ["evaluation"]}, {"expiring": ["scene"]}):
        with pytest.raises(InvalidInput):
            policies.change(db, "", **wrong)  # type: ignore[arg-type]
    assert policies.get(db) == found


# ---- usage


def test_usage_is_what_the_disk_holds_and_shared_parts_are_counted_once(
    db: Database, store: ZarrStore, claimed: Claimed
) -> None:
    claim = claimed()
    first = publish(db, store, claim, "a", "b")
    leases.succeed(db, claim.token, {"scenes": first}, cached=False)
    second = leave(db, store, "b", "c")
    pins.add(db, second, "", "x")
    for copied in (False, True):
        if copied:
            assert (part_index.update(db, store), part_index.update(db, store)) == (2, 0)
        found = usage.report(db, store, store.root)
        sizes = {key: artifacts.get(db, key).num_bytes for key in (first, second)}
        assert found.num_artifacts == 2
        assert found.shared_bytes == (files_of(store, "b") if copied else 0)
        assert found.num_bytes == sum(sizes.values()) - found.shared_bytes
        with db.read() as session:
            assert part_index.used_bytes(session) == found.num_bytes
    assert found.num_bytes == files_of(store, "a", "b", "c")
    assert [(one.name, one.num_artifacts, one.num_bytes) for one in found.by_dataset] == [
        ("offices", 1, files_of(store, "a", "b")), ("", 1, files_of(store, "c"))
    ]  # fmt: skip
    assert [(one.name, one.num_bytes) for one in found.by_kind] == [("embeddings", found.num_bytes)]
    assert [one.key for one in found.largest] == sorted((first, second))
    assert (found.pinned_bytes, found.reclaimable_bytes, found.marked_bytes) == (sizes[second], 0, 0)
    assert 0 < found.free_bytes <= found.disk_bytes


def test_usage_tells_what_may_go_what_is_marked_and_what_is_staged(db: Database, store: ZarrStore) -> None:
    leave(db, store, "a", "b")
    kept = leave(db, store, "b")
    pins.add(db, kept, "", "x")
    write_parts(store, "dead", "orphan")
    part_index.update(db, store)
    path = store.root / "staging" / "dead" / "x"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1234")
    found = usage.report(db, store, store.root)
    assert (found.reclaimable_bytes, found.marked_bytes) == (files_of(store, "a"), 0), (
        "parts without a row: gc finds them"
    )
    assert (found.num_staged, found.staged_bytes) == (1, 4)
    Collector(db, store, store.root).collect()
    found = usage.report(db, store, store.root)
    assert found.reclaimable_bytes == found.marked_bytes == files_of(store, "a", "orphan")
    assert (found.num_staged, found.staged_bytes) == (0, 0)


def test_a_store_that_nobody_has_written_to_is_empty(db: Database, tmp_path: Path) -> None:
    store = ZarrStore(tmp_path / "no" / "such" / "folder")
    found = usage.report(db, store, store.root)
    assert (found.num_artifacts, found.num_bytes, found.largest, found.fill) == (0, 0, (), "no_quota")
    assert Collector(db, store, store.root).collect().removed_bytes == 0
    assert not store.root.exists()


def test_an_artifact_without_parts_is_copied_too(db: Database, store: ZarrStore, claimed: Claimed) -> None:
    key = publish(db, store, claimed())
    assert (part_index.update(db, store), part_index.update(db, store)) == (1, 0)
    with db.read() as session:
        assert session.get(ArtifactPartRow, (key, part_index.NOTHING)) is not None
        assert part_index.used_bytes(session) == 0


def test_a_read_is_written_down_once_an_hour(db: Database, store: ZarrStore) -> None:
    key = leave(db, store, "a")

    def last() -> object:
        with db.read() as session:
            row = session.get(ArtifactUseRow, key)
            return None if row is None else row.at

    uses.note_read(db, key)
    first = last()
    uses.note_read(db, key)
    assert last() == first is not None
    with db.write() as session:
        session.execute(update(ArtifactUseRow).values(at=db.now() - timedelta(hours=2)))
    older = last()
    uses.note_read(db, key)
    assert last() > older  # type: ignore[operator]
    with pytest.raises(NotFound):
        uses.note_read(db, "gone")

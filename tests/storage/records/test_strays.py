"""Logs and checkpoints that are written after their run was deleted are found, and go after the grace period."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from storage.artifacts.objects import Objects
from storage.artifacts.run_files import RunFiles
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import StoreUnreachable
from storage.records import leases, policies, usage
from storage.records.claims import Claim
from storage.records.collecting import Collector
from storage.records.database import Database
from storage.records.keeping_tables import CollectionMarkRow
from storage.records.removals import Remover
from tests.fixtures.object_storage import ObjectStorage

Lying = Callable[[], dict[str, bytes]]


@pytest.fixture(params=["on a disk", "in a bucket"])
def shared(
    request: pytest.FixtureRequest, tmp_path: Path, store: ZarrStore, bucket_server: ObjectStorage
) -> tuple[RunFiles, RunFiles, Lying]:
    """Where the service has the files of runs, where a host has them, and what every host sees."""
    if request.param == "on a disk":
        files = RunFiles(store.root)
        return files, files, lambda: on_disk(store.root)
    bucket = bucket_server.bucket()
    name = str(bucket.config["bucket"])
    service, host = (RunFiles(tmp_path / where, Objects(bucket)) for where in ("service", "host"))
    return service, host, lambda: bucket_server.objects(name)


def on_disk(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def say(files: RunFiles, run_id: str) -> None:
    """Writes, and sends where that is asked for, a log of an attempt and a checkpoint."""
    for path in (files.log(run_id, 1), files.resume(run_id, 0) / "x.safetensors"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
        files.send(path)


def of_run(run_id: str) -> dict[str, bytes]:
    return {f"logs/{run_id}/001.log": b"12345", f"resume/{run_id}/x.safetensors": b"12345"}


def test_what_an_attempt_sends_after_its_run_was_deleted_goes_after_the_grace_period(
    db: Database, collector: Collector, claimed: Callable[..., Claim], shared: tuple[RunFiles, RunFiles, Lying]
) -> None:
    files, host, lying = shared
    collector = replace(collector, files=files)
    lives, late = claimed(), claimed()
    say(host, lives.run_id)
    say(host, late.run_id)
    leases.fail(db, late.token, "by_a_test", "failed")
    Remover(db, collector.store, files).run(late.run_id)
    assert lying() == of_run(lives.run_id)
    assert (collector.look().marked, collector.look().removed) == ((), ())

    say(host, late.run_id)
    everything = of_run(lives.run_id) | of_run(late.run_id)
    (found,) = collector.look().marked
    assert (found.what, found.id, found.num_bytes) == ("run_files", late.run_id, 10)
    assert found.due_at - db.now() > timedelta(days=6.9)
    (marked,) = collector.collect().marked
    assert (marked.id, lying(), collector.collect_due()) == (late.run_id, everything, ())
    found_usage = usage.report(db, collector.store, collector.store_root)
    assert (found_usage.marked_bytes, found_usage.reclaimable_bytes) == (10, 10)

    with db.write() as session:
        session.execute(update(CollectionMarkRow).values(due_at=db.now() - timedelta(seconds=1)))
    assert [one.id for one in collector.look().removed] == [late.run_id]
    assert lying() == everything, "a dry run changes nothing"
    (gone,) = collector.collect_due()
    assert (gone.what, gone.id) == ("run_files", late.run_id)
    assert lying() == of_run(lives.run_id)
    assert (collector.look().marked, collector.collect().marked) == ((), ())


def test_a_bucket_that_does_not_answer_leaves_the_mark(
    db: Database, collector: Collector, shared: tuple[RunFiles, RunFiles, Lying], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, host, lying = shared
    collector = replace(collector, files=files)
    policies.change(db, "", grace_s=0)
    say(host, "r0gone")

    def away(*_: object) -> None:
        raise StoreUnreachable("the bucket sleeps")

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "forget", away)
        with pytest.raises(StoreUnreachable):
            collector.collect()
    assert lying() == of_run("r0gone")
    assert [one.id for one in collector.collect_due()] == ["r0gone"]
    assert lying() == {}

"""What dead attempts have left is swept beside a host's other work."""

from __future__ import annotations

import errno
import threading
from functools import partial
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore as Bucket
from sqlalchemy import update

from storage.artifacts.objects import Objects
from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactStore
from storage.errors import StoreUnreachable
from storage.records import runs
from storage.records.database import Database
from storage.records.tables import RunRow
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures import waiting
from workers import sweeping
from workers.sweeping import Sweeper

LABELS = stages.EmbedLabels(label_set="s3dis13")
wait_until = partial(waiting.wait_until, within_s=20)


@pytest.fixture
def sweeper(db: Database, settings: Settings) -> Sweeper:
    return Sweeper(db, settings, RunFiles(settings.store_path))


def leave(settings: Settings) -> Path:
    """Something that a dead attempt has staged."""
    path = settings.store_path / "staging" / "dead" / "x"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.mark.parametrize("fault", [errno.EROFS, errno.ENOSPC])
def test_a_disk_that_says_no_is_tried_again(
    sweeper: Sweeper, settings: Settings, fault: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = leave(settings)

    def refuse(*_: object) -> None:
        raise OSError(fault, "the disk says no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        sweeper.sweep()
    assert "the disk says no" in caplog.text and path.exists()
    sweeper.sweep()
    assert not path.exists()


def test_a_bucket_that_does_not_answer_is_a_warning(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: Settings) -> ArtifactStore:
        raise StoreUnreachable("the bucket sleeps")

    monkeypatch.setattr("workers.sweeping.choose.open_store", away)
    sweeper.sweep()
    assert "the bucket sleeps" in caplog.text


def test_one_sweep_goes_on_at_a_time(sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ends = list[int](), threading.Event()

    def wait(self: Sweeper) -> None:
        begun.append(1)
        ends.wait(20)

    monkeypatch.setattr(Sweeper, "sweep", wait)
    monkeypatch.setattr(sweeping, "EVERY_S", 0.0)
    sweeper.look()
    wait_until(lambda: len(begun) == 1)
    for _ in range(5):
        sweeper.look()
    assert len(begun) == 1
    ends.set()
    sweeper.close()
    sweeper.look()
    wait_until(lambda: len(begun) == 2)
    sweeper.close()


@pytest.mark.parametrize("shared", [False, True], ids=["a bucket", "a disk that hosts share"])
def test_what_lies_on_a_host_alone_goes_when_its_run_needs_it_no_more(
    db: Database, settings: Settings, shared: bool, tmp_path: Path
) -> None:
    made = [run.id for run in runs.create(db, [PlannedRun(f"{n}", LABELS) for n in range(4)])]
    well, badly, waits, deleted = made[0], made[1], made[2], "r0gone"
    with db.write() as session:
        for run_id, state in ((well, "succeeded"), (badly, "failed")):
            session.execute(update(RunRow).where(RunRow.id == run_id).values(state=state))
    bucket = Bucket()
    files = RunFiles(tmp_path, None if shared else Objects(bucket))
    for run_id in (well, badly, waits, deleted):
        for path in (files.log(run_id, 1), files.resume(run_id, 2) / "x"):
            path.parent.mkdir(parents=True)
            path.write_text("x")
            files.send(path)
    before = [meta["path"] for page in obstore.list(bucket) for meta in page]
    Sweeper(db, settings, files).sweep()
    logged = {run_id for run_id in (well, badly, waits, deleted) if files.log(run_id, 1).exists()}
    resumable = {run_id for run_id in (well, badly, waits, deleted) if (files.resume(run_id, 2) / "x").exists()}
    if shared:
        assert logged == resumable == {well, badly, waits, deleted}, "whoever deletes a run removes its files there"
    else:
        assert (logged, resumable) == ({well, badly, waits}, {badly, waits})
    assert [meta["path"] for page in obstore.list(bucket) for meta in page] == before

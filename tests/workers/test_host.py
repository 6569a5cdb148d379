"""A host: what it claims with the slots and GPUs it has, and how it ends. GPUs are an inventory given by hand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore as Bucket
from sqlalchemy import text

from storage.artifacts.objects import Objects
from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactStore
from storage.errors import InvalidInput, StoreUnreachable, UnknownName, WrongRevision
from storage.records import claims, datasets, events, hosts, leases, lost_attempts, runs
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.datasets import Dataset
from storage.records.revision import REVISION
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import OutputRef, PlannedRun
from tests.fixtures import waiting
from tests.fixtures.moving_runs import make_ready
from workers.host import Host, find_gpus, find_stages
from workers.log_sending import LogSender

wait_until = partial(waiting.wait_until, within_s=20)


@dataclass
class Puppet:
    """A started run that does what the test says."""

    claim: Claim
    over: bool = False
    terminated: bool = False
    of_another_revision: bool = False

    def ended(self) -> bool:
        return self.over

    def outcome(self) -> str:
        return "a test ended its process"

    def refused(self) -> bool:
        return self.of_another_revision

    def rss_bytes(self) -> int:
        return 0 if self.over else 1 << 40

    def terminate(self) -> None:
        self.terminated = self.over = True

    def kill(self) -> None:
        self.over = True


@dataclass
class Stage:
    """A launcher that starts puppets."""

    started: list[Puppet] = field(default_factory=list)

    def start(self, claim: Claim) -> Puppet:
        self.started.append(Puppet(claim))
        return self.started[-1]


def make_all_ready(db: Database, count: int, *, gpu: bool) -> None:
    """Adds runs that are ready to be claimed."""
    if gpu:
        datasets.add(db, Dataset("offices", "synthrooms", "/nowhere", "s3dis13"))
        ingest = PlannedRun("ingest", stages.Ingest(label_set="s3dis13"), {}, "offices")
        inputs = {"scenes": OutputRef("ingest", "scenes")}
        planned = [ingest, *(PlannedRun(f"run {i}", stages.Extract(), inputs, "offices") for i in range(count))]
    else:
        planned = [PlannedRun(f"run {i}", stages.EmbedLabels(label_set="s3dis13")) for i in range(count)]
    for run in runs.create(db, planned)[-count:]:
        make_ready(db, run.id)


def be_at(db: Database, revision: str) -> None:
    """Makes the database say that it is at a revision."""
    with db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})


@pytest.fixture(autouse=True)
def _at_this_revision(db: Database) -> Iterator[None]:
    """Puts the revision back that a test has changed: on PostgreSQL the next test has the same database."""
    yield
    be_at(db, REVISION)


@pytest.fixture
def host(db: Database, settings: Settings) -> Host:
    """A host of two slots with a launcher of puppets."""
    return Host(db, Stage(), settings.model_copy(update={"slots": 2, "tick_s": 0.02}))


@contextmanager
def serving(host: Host) -> Iterator[Stage]:
    """The host at work in a thread of its own, and its launcher; stopped at the end, whatever comes of it."""
    launcher = host.launcher
    assert isinstance(launcher, Stage)
    thread = threading.Thread(target=host.serve)
    thread.start()
    try:
        yield launcher
    finally:
        host.stopping.set()
        thread.join(20)


@contextmanager
def ending(host: Host) -> Iterator[tuple[Stage, list[WrongRevision]]]:
    """The host at work in a thread of its own until it ends by itself; its launcher, and why it ended."""
    launcher, faults = host.launcher, list[WrongRevision]()
    assert isinstance(launcher, Stage)

    def serve() -> None:
        try:
            host.serve()
        except WrongRevision as error:
            faults.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield launcher, faults
        thread.join(20)
        assert not thread.is_alive()
    finally:
        host.stopping.set()
        thread.join(20)


def test_a_host_takes_as_many_runs_as_it_has_slots_and_more_when_they_end(db: Database, host: Host) -> None:
    make_all_ready(db, 3, gpu=False)
    with serving(host) as launcher:
        wait_until(lambda: len(launcher.started) == 2)
        time.sleep(0.2)
        assert len(launcher.started) == 2
        leases.succeed(db, launcher.started[0].claim.token, {}, cached=False)
        launcher.started[0].over = True
        wait_until(lambda: len(launcher.started) == 3)
        assert len({puppet.claim.run_id for puppet in launcher.started}) == 3
        assert {puppet.claim.gpus for puppet in launcher.started} == {()}
        wait_until(lambda: bool(hosts.list_hosts(db).items[0].peak_rss_bytes >= 2 << 40))
    assert [puppet.terminated for puppet in launcher.started] == [False, True, True]
    assert not hosts.list_hosts(db).items[0].alive


def test_each_run_gets_a_gpu_of_its_own(db: Database, host: Host) -> None:
    make_all_ready(db, 3, gpu=True)
    host.gpus = (0, 3)
    with serving(host) as launcher:
        wait_until(lambda: len(launcher.started) == 2)
        assert sorted(puppet.claim.gpus for puppet in launcher.started if puppet.claim.gpus) == [(0,), (3,)]
        first = next(puppet for puppet in launcher.started if puppet.claim.gpus == (3,))
        leases.succeed(db, first.claim.token, {}, cached=False)
        first.over = True
        wait_until(lambda: len(launcher.started) == 3)
        assert launcher.started[2].claim.gpus == (3,)


def test_a_host_leaves_the_gpu_alone_that_a_run_of_a_killed_host_still_holds(db: Database, host: Host) -> None:
    make_all_ready(db, 3, gpu=True)
    killed = hosts.register(db, socket.gethostname(), 1, 2, [0, 3])
    orphan = claims.claim(db, killed, 60.0)
    assert orphan is not None
    assert orphan.gpus == (0,)
    host.gpus = (0, 3)
    with serving(host) as launcher:
        wait_until(lambda: len(launcher.started) == 1)
        time.sleep(0.2)
        assert [puppet.claim.gpus for puppet in launcher.started] == [(3,)]
        leases.succeed(db, orphan.token, {}, cached=False)
        wait_until(lambda: len(launcher.started) == 2)
        assert launcher.started[1].claim.gpus == (0,)


def test_a_gpu_whose_process_the_host_still_sees_is_taken_though_the_lease_is_gone(db: Database, host: Host) -> None:
    make_all_ready(db, 1, gpu=True)
    host.gpus = (0, 3)
    with serving(host) as launcher:
        wait_until(lambda: len(launcher.started) == 1)
        lost = launcher.started[0].claim
        leases.release(db, lost.token, "by a test")
        make_ready(db, lost.run_id)
        wait_until(lambda: len(launcher.started) == 2)
        assert [puppet.claim.gpus for puppet in launcher.started] == [(0,), (3,)]


def test_a_run_whose_process_died_goes_back_at_once_and_not_when_its_lease_runs_out(db: Database, host: Host) -> None:
    make_all_ready(db, 1, gpu=False)
    with serving(host) as launcher:
        wait_until(lambda: len(launcher.started) == 1)
        claim = launcher.started[0].claim
        assert runs.get(db, claim.run_id).state == "running"
        launcher.started[0].over = True
        wait_until(lambda: runs.get(db, claim.run_id).state == "queued")
    said = [event.message for event in events.after(db, claim.run_id)]
    assert "attempt 1 was lost: a test ended its process" in said


def test_a_run_that_ended_by_itself_is_left_as_it_is_when_its_process_goes(db: Database, host: Host) -> None:
    make_all_ready(db, 2, gpu=False)
    host.config = host.config.model_copy(update={"slots": 1})
    with serving(host) as launcher:
        wait_until(lambda: len(launcher.started) == 1)
        claim = launcher.started[0].claim
        leases.fail(db, claim.token, "training_failed", "the loss is not finite")
        launcher.started[0].over = True
        wait_until(lambda: len(launcher.started) == 2)
    run = runs.get(db, claim.run_id)
    assert (run.state, run.reason) == ("failed", "the loss is not finite")


def test_a_process_that_cannot_be_started_gives_its_run_back_and_the_host_waits(
    db: Database, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all_ready(db, 1, gpu=False)
    launcher = host.launcher
    assert isinstance(launcher, Stage)
    tries: list[Claim] = []

    def start(claim: Claim) -> Puppet:
        tries.append(claim)
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        return Stage.start(launcher, claim)

    monkeypatch.setattr(launcher, "start", start, raising=False)
    monkeypatch.setattr("workers.host.PAUSE_S", 0.3)
    with serving(host):
        wait_until(lambda: bool(tries) and runs.get(db, tries[0].run_id).state == "queued")
        make_ready(db, tries[0].run_id)
        wait_until(lambda: len(launcher.started) == 1)
        said = [event.message for event in events.after(db, tries[0].run_id)]
        assert any("No space left on device" in message for message in said)


def test_a_host_keeps_the_run_of_a_process_that_needs_longer_than_a_lease_to_start(db: Database, host: Host) -> None:
    make_all_ready(db, 1, gpu=False)
    host.config = host.config.model_copy(update={"lease_s": 1.5})
    with serving(host) as launcher:
        wait_until(lambda: len(launcher.started) == 1)
        kept_until = db.now() + timedelta(seconds=3.0)
        wait_until(lambda: db.now() > kept_until)
        assert lost_attempts.expire(db, 3) == []


def test_a_host_sweeps_what_attempts_that_are_over_left_staged(
    db: Database, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = host.config.store_path / "staging" / "a-dead-token" / "ab12"
    monkeypatch.setattr("workers.sweeping.EVERY_S", 0.1)
    with serving(host):
        wait_until(lambda: any(one.alive for one in hosts.list_hosts(db).items))
        left.mkdir(parents=True)
        wait_until(lambda: not left.parent.exists())


def test_a_host_works_while_its_store_does_not_answer_and_fails(
    db: Database, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = threading.Event(), threading.Event()

    def hang(_: Settings) -> ArtifactStore:
        asked.set()
        answers.wait(20)
        raise StoreUnreachable("the bucket sleeps")

    monkeypatch.setattr("workers.sweeping.choose.open_store", hang)
    monkeypatch.setattr("workers.sweeping.EVERY_S", 0.05)
    with serving(host) as launcher:
        assert asked.wait(20)
        make_all_ready(db, 1, gpu=False)
        wait_until(lambda: len(launcher.started) == 1)
        answers.set()
        asked.clear()
        assert asked.wait(20), "it is tried again"
        make_all_ready(db, 1, gpu=False)
        wait_until(lambda: len(launcher.started) == 2)


def test_logs_that_a_host_which_died_had_not_sent_are_sent_by_the_next(
    db: Database, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.log_sending.EVERY_S", 0.02)
    bucket = Bucket()
    files = RunFiles(tmp_path, Objects(bucket))
    make_all_ready(db, 3, gpu=False)
    here, elsewhere = (hosts.register(db, name, 1, 9, []) for name in (socket.gethostname(), "elsewhere"))
    goes_on, over, other = (claims.claim(db, each, 60.0) for each in (here, here, elsewhere))
    assert goes_on is not None and over is not None and other is not None
    for claim in (goes_on, over):
        files.log(claim.run_id, 1).parent.mkdir(parents=True)
        files.log(claim.run_id, 1).write_text("said\n")
    leases.fail(db, over.token, "x", "x")
    host.logs = LogSender(files)

    def sent() -> dict[str, int]:
        return {meta["path"]: meta["size"] for page in obstore.list(bucket) for meta in page}

    with serving(host):
        wait_until(lambda: sent() == {f"logs/{claim.run_id}/001.log": 5 for claim in (goes_on, over)})
        with files.log(goes_on.run_id, 1).open("a") as log:
            log.write("and more\n")
        wait_until(lambda: sent()[f"logs/{goes_on.run_id}/001.log"] == 14)


@pytest.mark.parametrize(("found", "advice"), [("0001", "vlglab db upgrade"), ("9999", "newer vlglab")])
def test_a_host_of_another_revision_than_its_database_does_not_begin(
    db: Database, host: Host, found: str, advice: str
) -> None:
    make_all_ready(db, 1, gpu=False)
    be_at(db, found)
    with pytest.raises(WrongRevision, match=rf"revision {found}.*needs {REVISION}.*{advice}"):
        host.serve()
    assert hosts.list_hosts(db).items == ()


@pytest.mark.parametrize("found", ["0001", "9999"])
def test_a_host_whose_database_is_upgraded_under_it_claims_nothing_more_and_stops(
    db: Database, host: Host, found: str
) -> None:
    make_all_ready(db, 1, gpu=False)
    with ending(host) as (launcher, faults):
        wait_until(lambda: len(launcher.started) == 1)
        be_at(db, found)
    assert len(faults) == 1
    assert launcher.started[0].terminated, "its runs are asked to give themselves back"
    with pytest.raises(WrongRevision):
        claims.claim(db, hosts.list_hosts(db).items[0].id, 60.0)


def test_a_run_whose_process_has_the_code_of_another_revision_loses_no_attempt(db: Database, host: Host) -> None:
    make_all_ready(db, 1, gpu=False)
    with ending(host) as (launcher, faults):
        wait_until(lambda: len(launcher.started) == 1)
        claim = launcher.started[0].claim
        launcher.started[0].of_another_revision = launcher.started[0].over = True
    assert "installed under it" in str(faults[0])
    assert runs.get(db, claim.run_id).state == "queued"
    with db.read() as session:
        states = session.execute(text("SELECT state FROM attempts")).scalars().all()
    assert states == ["released"], "only lost attempts count towards a run's last one"


def test_the_stages_that_a_host_takes_can_be_named() -> None:
    assert find_stages("") == frozenset() and find_stages(" extract ,verify") == {"extract", "verify"}
    for wrong in ("extrakt", "external"):
        with pytest.raises(UnknownName, match="VLGLAB_STAGES.*extract"):
            find_stages(wrong)


def test_a_host_says_which_stages_it_takes_and_takes_no_others(db: Database, host: Host) -> None:
    make_all_ready(db, 1, gpu=True)
    make_all_ready(db, 1, gpu=False)
    host.only = frozenset({"extract", "verify"})
    with serving(host) as launcher:
        wait_until(lambda: launcher.started)
        time.sleep(5 * host.config.tick_s)
        assert [one.claim.stage for one in launcher.started] == ["extract"], "it has room for another"
        assert hosts.list_hosts(db).items[0].stages == ("extract", "verify")


def test_the_inventory_of_gpus_can_be_given_by_hand() -> None:
    assert find_gpus("0,1") == (0, 1)
    assert find_gpus(" 3 , 1,3") == (1, 3)
    assert find_gpus("") == ()
    with pytest.raises(InvalidInput, match="expected indices such as 0,1"):
        find_gpus("both")

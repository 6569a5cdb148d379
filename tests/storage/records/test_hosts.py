"""What is free on a machine: read from the table, whichever host process started what runs there."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from storage import keys
from storage.errors import NotFound
from storage.records import claims, hosts, leases, lost_attempts
from storage.records.claims import Claim
from storage.records.database import Database, now
from storage.records.hosts import Room
from storage.records.runs import Run
from storage.records.tables import RunRow
from storage.specs import stages

NewRun = Callable[..., Run]

LIGHT = stages.EmbedLabels(label_set="s3dis13")


@pytest.fixture
def heavy(db: Database) -> Callable[[int], None]:
    """Makes ready runs of a stage that uses a GPU, without their inputs, which only the planner looks at."""

    def make(count: int) -> None:
        with db.write() as session:
            session.add_all(
                RunRow(
                    id=keys.new_id("r"), name="specialize", stage="specialize", spec={}, spec_digest="d", state="ready",
                    priority=0, attempt=0, created_at=now(session), code={}, environment={}, cancel_requested=False,
                    peak_rss_bytes=0,
                ) for _ in range(count)
            )  # fmt: skip

    return make


def room(db: Database, host_id: str, *started: str) -> Room:
    with db.read() as session:
        return hosts.room(session, host_id, started)


def claim(db: Database, host_id: str, lease_s: float = 60.0) -> Claim:
    got = claims.claim(db, host_id, lease_s)
    assert got is not None
    return got


def test_a_gpu_that_a_dead_hosts_run_holds_is_not_given_again(db: Database, heavy: Callable[[int], None]) -> None:
    heavy(3)
    first = hosts.register(db, "lab", 1, 2, [0, 3])
    orphan = claim(db, first)
    second = hosts.register(db, "lab", 2, 2, [0, 3])
    assert (orphan.gpus, claim(db, second).gpus) == ((0,), (3,))
    assert claims.claim(db, second, 60.0) is None
    leases.succeed(db, orphan.token, {}, cached=False)
    assert claim(db, second).gpus == (0,)


def test_a_slot_that_a_dead_hosts_run_holds_is_not_given_again(db: Database, ready_run: NewRun) -> None:
    for _ in range(4):
        ready_run(LIGHT)
    first = hosts.register(db, "lab", 1, 2, [])
    orphan = claim(db, first)
    hosts.retire(db, first)
    second = hosts.register(db, "lab", 2, 2, [])
    claim(db, second)
    assert claims.claim(db, second, 60.0) is None
    leases.release(db, orphan.token, "by a test")
    claim(db, second)
    assert claims.claim(db, second, 60.0) is None


def test_room_is_free_again_when_the_lease_has_run_out_by_the_databases_time(
    db: Database, heavy: Callable[[int], None]
) -> None:
    heavy(2)
    first = hosts.register(db, "lab", 1, 1, [0])
    lapsed = claim(db, first, lease_s=-1.0)
    second = hosts.register(db, "lab", 2, 1, [0])
    assert room(db, second) == Room(1, (0,), True)
    leases.beat(db, lapsed.token, lease_s=60.0)
    assert room(db, second) == Room(0, (), True)


def test_a_process_that_the_host_still_sees_takes_room_without_a_lease(
    db: Database, heavy: Callable[[int], None]
) -> None:
    heavy(2)
    host = hosts.register(db, "lab", 1, 2, [0, 1])
    stuck = claim(db, host, lease_s=-1.0)
    lost_attempts.expire(db, max_attempts=3)
    assert room(db, host).gpus == (0, 1)
    assert room(db, host, stuck.token) == Room(1, (1,), True)
    got = claims.claim(db, host, 60.0, [stuck.token])
    assert got is not None
    assert got.gpus == (1,)


def test_runs_of_another_machine_take_no_room(db: Database, heavy: Callable[[int], None], ready_run: NewRun) -> None:
    heavy(1)
    there = hosts.register(db, "elsewhere", 1, 1, [0])
    claim(db, there)
    assert room(db, hosts.register(db, "lab", 2, 1, [0])) == Room(1, (0,), True)


def test_hosts_of_one_machine_with_gpus_apart_leave_each_other_alone(
    db: Database, heavy: Callable[[int], None], ready_run: NewRun
) -> None:
    heavy(2)
    left, right = (hosts.register(db, "lab", pid, 1, [gpu]) for pid, gpu in ((1, 0), (2, 1)))
    assert [claim(db, left).gpus, claim(db, right).gpus] == [(0,), (1,)]
    beside = hosts.register(db, "lab", 3, 1, [])
    assert room(db, beside) == Room(1, (), False)
    ready_run(LIGHT)
    claim(db, beside)
    assert room(db, hosts.register(db, "lab", 4, 1, [2])) == Room(1, (2,), True)


def test_a_run_without_a_gpu_takes_a_slot_of_the_next_host_with_the_same_gpus(db: Database, ready_run: NewRun) -> None:
    ready_run(LIGHT)
    assert claim(db, hosts.register(db, "lab", 1, 2, [0, 1])).gpus == ()
    assert room(db, hosts.register(db, "lab", 2, 2, [0, 1])) == Room(1, (0, 1), True)


def test_hosts_that_claim_at_once_never_share_a_gpu(db: Database, heavy: Callable[[int], None]) -> None:
    heavy(8)
    both = [hosts.register(db, "lab", pid, 4, [0, 1, 2, 3]) for pid in range(4)]
    start = threading.Barrier(len(both))
    got: list[Claim] = []

    def work(host_id: str) -> None:
        start.wait()
        while (claim := claims.claim(db, host_id, 60.0)) is not None:
            got.append(claim)

    threads = [threading.Thread(target=work, args=(host_id,)) for host_id in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.gpus for claim in got) == [(0,), (1,), (2,), (3,)]


def test_a_host_that_is_not_registered_cannot_claim(db: Database) -> None:
    with pytest.raises(NotFound, match="register it first"):
        claims.claim(db, "h404", 60.0)

"""What runs ask of a machine, and that those for which there is no room say so and are not passed for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from storage import keys
from storage.errors import IllegalMove, NotFound
from storage.records import claims, hosts, leases, runs, waits
from storage.records.claims import Claim
from storage.records.database import Database, now
from storage.records.submissions import Submission, Wishes
from storage.records.tables import HostRow, RunRow
from storage.specs import stages
from storage.specs.plans import OutputRef, PlannedRun
from tests.fixtures.moving_runs import make_ready

Ask = Callable[..., str]


@pytest.fixture
def ask(db: Database) -> Ask:
    """Makes a ready run that asks for GPUs and memory; of a stage that uses no GPU by itself."""

    def make(gpus: int | None = None, memory_gb: float | None = None, priority: int = 0) -> str:
        wishes = {"text": Wishes(gpus=gpus, memory_gb=memory_gb, priority=priority)}
        planned = PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))
        (run,) = runs.create(db, [planned], Submission(wishes=wishes))
        make_ready(db, run.id)
        return run.id

    return make


def taken(db: Database, host: str) -> list[tuple[str, tuple[int, ...]]]:
    """Claims until nothing fits."""
    got: list[Claim] = []
    while (claim := claims.claim(db, host, 600.0)) is not None:
        got.append(claim)
    return [(claim.run_id, claim.gpus) for claim in got]


def test_a_run_gets_as_many_gpus_as_it_asked_for(db: Database, ask: Ask) -> None:
    host = hosts.register(db, "lab", 1, 4, [0, 2, 5, 7])
    two, none, one, late = ask(gpus=2), ask(gpus=0), ask(gpus=1), ask(gpus=1)
    assert taken(db, host) == [(two, (0, 2)), (none, ()), (one, (5,)), (late, (7,))]


def test_memory_that_runs_asked_for_is_given_once(db: Database, ask: Ask) -> None:
    host = hosts.register(db, "lab", 1, 10, [], memory_gb=16.0)
    ask(memory_gb=6.5)
    first = claims.claim(db, host, 600.0)
    second, third, free = ask(memory_gb=9.5), ask(memory_gb=6.5), ask()
    assert taken(db, host) == [(second, ()), (free, ())]
    assert first is not None
    leases.succeed(db, first.token, {}, cached=False)
    assert taken(db, host) == [(third, ())]


def test_memory_that_runs_of_a_dead_host_hold_is_not_given_again(db: Database, ask: Ask) -> None:
    ask(memory_gb=10)
    second = ask(memory_gb=10)
    orphan = claims.claim(db, hosts.register(db, "lab", 1, 4, [], memory_gb=16.0), 600.0)
    host = hosts.register(db, "lab", 2, 4, [], memory_gb=16.0)
    assert taken(db, host) == []
    assert orphan is not None
    leases.succeed(db, orphan.token, {}, cached=False)
    assert taken(db, host) == [(second, ())]


def test_small_runs_do_not_pass_a_large_one_for_ever(db: Database, ask: Ask) -> None:
    """The first that waits keeps what it waits for; runs that need nothing of it go on."""
    host = hosts.register(db, "lab", 1, 3, [0, 1, 2])
    first = claims.claim(db, host, 600.0) if ask(gpus=2) else None
    assert first is not None
    large, small, light = ask(gpus=2), ask(gpus=1), ask(gpus=0)
    assert taken(db, host) == [(light, ())]
    leases.succeed(db, first.token, {}, cached=False)
    assert taken(db, host) == [(large, (0, 1)), (small, (2,))]


def test_a_run_that_no_host_could_hold_stands_in_nobody_s_way_and_says_why_it_waits(db: Database, ask: Ask) -> None:
    hosts.register(db, "small", 1, 2, [0], memory_gb=32.0)
    host = hosts.register(db, "large", 2, 4, [0, 1], memory_gb=64.0)
    much, many, fine = ask(memory_gb=100), ask(gpus=3), ask(gpus=2, memory_gb=64)
    assert taken(db, host) == [(fine, (0, 1))]
    assert waits.read(db, many)[1] == (
        "a worker host with 3 GPUs: none of the 2 that live has that (large: 2 GPUs, 64 GB; small: 1 GPUs, 32 GB)"
    )
    assert "0 GPUs and 100 GB of memory" in str(waits.read(db, much)[1])


def test_what_a_ready_run_waits_for(db: Database, ask: Ask) -> None:
    run = ask()
    assert str(waits.read(db, run)[1]).startswith("a worker host: none lives")
    host = hosts.register(db, "lab", 1, 1, [])
    assert waits.read(db, run)[1] == "room: 1 living worker host could hold it, as soon as runs there end"
    hosts.set_mode(db, host, "paused")
    assert waits.read(db, run)[1] == f"a worker host that is not paused: {host} on lab is paused"
    with db.write() as session:
        row = session.get(HostRow, host)
        assert row is not None
        row.heartbeat_at = row.heartbeat_at.replace(year=2000)
    assert str(waits.read(db, run)[1]).startswith("a worker host: none lives")
    with pytest.raises(NotFound):
        waits.read(db, "r404")


def test_a_run_of_a_stage_that_no_living_host_takes_says_so(db: Database, ask: Ask) -> None:
    run, large = ask(), ask(gpus=2)
    encoder = hosts.register(db, "encoder", 1, 1, [0, 1, 2], stages=["verify", "extract"])
    assert waits.read(db, run)[1] == (
        "a worker host that takes embed_labels (VLGLAB_STAGES): none of the 1 that live does (encoder: extract, verify)"
    )
    assert taken(db, encoder) == []
    trainer = hosts.register(db, "trainer", 2, 1, [0], stages=["embed_labels"])
    assert waits.read(db, run)[1] == "room: 1 living worker host could hold it, as soon as runs there end"
    assert waits.read(db, large)[1] == (
        "a worker host with 2 GPUs: none of the 1 that live and take embed_labels has that (trainer: 1 GPUs)"
    )
    hosts.retire(db, trainer)
    assert "none of the 1 that live does" in str(waits.read(db, run)[1])
    hosts.register(db, "all", 3, 1, [])
    assert str(waits.read(db, run)[1]).startswith("room: 1 living worker host")


def test_what_a_queued_run_waits_for(db: Database, offices: str) -> None:
    planned = [
        PlannedRun("ingest", stages.Ingest(label_set="s3dis13"), {}, offices),
        PlannedRun("extract", stages.Extract(), {"scenes": OutputRef("ingest", "scenes")}, offices),
    ]
    ingest, extract = runs.create(db, planned)
    assert waits.read(db, extract.id)[1] == f"its input 'scenes': the run {ingest.id} is queued"
    assert waits.read(db, ingest.id)[1] is None
    twin = runs.create(db, [replace(planned[0], name="twin")])[0]
    with db.write() as session:
        for run_id in (ingest.id, twin.id):
            runs.row_of(session, run_id).key = "k" * 32
    make_ready(db, ingest.id)
    assert waits.read(db, twin.id)[1] == f"the run {ingest.id}, which computes the same"
    hosts.register(db, "lab", 1, 1, [])
    assert str(waits.read(db, ingest.id)[1]).startswith("room: ")


def test_a_run_that_waits_for_the_first_time_names_the_one_that_computes_the_same(db: Database, offices: str) -> None:
    given = {port: OutputRef(run, port) for port, run in (("scenes", "ingest"), ("embeddings", "extract"))}
    text = OutputRef("text", "text_embeddings")
    labels = PlannedRun("labels", stages.PseudoLabel(), {**given, "text_embeddings": text})
    *_, first, twin, other = runs.create(
        db,
        [
            PlannedRun("ingest", stages.Ingest(label_set="s3dis13"), {}, offices),
            PlannedRun("extract", stages.Extract(), {"scenes": given["scenes"]}, offices),
            PlannedRun("text", stages.EmbedLabels(label_set="s3dis13")),
            labels,
            replace(labels, name="twin"),
            replace(labels, name="other", spec=stages.PseudoLabel(filtering=False)),
        ],
    )
    inputs = {port: port[0] * 32 for port in labels.inputs}
    with db.write() as session:
        for run in (first, twin, other):
            for entry in runs.row_of(session, run.id).inputs:
                entry.artifact_key = inputs[entry.port]
        runs.row_of(session, first.id).key = keys.artifact_key(labels.spec, "", inputs)
    make_ready(db, first.id)
    assert runs.get(db, twin.id).key is None
    assert waits.read(db, twin.id)[1] == f"the run {first.id}, which computes the same"
    assert waits.read(db, other.id)[1] is None


def test_a_stage_that_uses_a_gpu_runs_without_where_there_is_none_unless_it_was_asked_for(db: Database) -> None:
    plain = hosts.register(db, "plain", 1, 4, [])

    def ready(gpus: int | None) -> str:
        with db.write() as session:
            row = RunRow(
                id=keys.new_id("r"), name="specialize", stage="specialize", spec={}, spec_digest="d", state="ready",
                priority=0, attempt=0, created_at=now(session), code={}, environment={}, cancel_requested=False,
                peak_rss_bytes=0, gpus=gpus,
            )  # fmt: skip
            session.add(row)
            return row.id

    as_stage, wanted = ready(None), ready(1)
    assert taken(db, plain) == [(as_stage, ())]
    assert "a worker host with 1 GPU:" in str(waits.read(db, wanted)[1])
    assert taken(db, hosts.register(db, "fast", 2, 1, [4])) == [(wanted, (4,))]


def test_a_paused_host_claims_nothing_until_it_is_told_to_go_on(db: Database, ask: Ask) -> None:
    host = hosts.register(db, "lab", 1, 4, [])
    run = ask()
    for mode in ("paused", "draining"):
        assert hosts.set_mode(db, host, mode).mode == mode  # type: ignore[arg-type]
        assert taken(db, host) == []
    assert hosts.set_mode(db, host, "active").alive
    assert taken(db, host) == [(run, ())]
    hosts.retire(db, host)
    with pytest.raises(IllegalMove, match="has ended; start another"):
        hosts.set_mode(db, host, "paused")
    with pytest.raises(NotFound):
        hosts.set_mode(db, "h404", "paused")

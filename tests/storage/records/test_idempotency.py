from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from storage.artifacts.run_files import RunFiles
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import KeyReused, KeySpent, SpecInvalid
from storage.records import experiments, idempotency, runs
from storage.records.database import Database
from storage.records.database import now as db_now
from storage.records.idempotency import KEPT, Once
from storage.records.removals import Remover
from storage.records.submissions import Submission
from storage.records.tables import IdempotencyRow
from storage.specs import stages
from storage.specs.plans import ArtifactRef, PlannedRun
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.single_runs import create_one

LABELS = PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))


def asked(key: str, request: Any = "x", owner: str = "ada") -> Submission:
    return Submission(owner, once=Once(owner, key, request))


def test_a_request_that_is_sent_again_finds_what_the_first_made(db: Database) -> None:
    first, is_new = create_one(db, LABELS, asked("k1", {"a": 1, "b": 2}))
    assert is_new
    assert create_one(db, LABELS, asked("k1", {"b": 2, "a": 1})) == (first, False)
    runs.request_cancel(db, first.id)
    assert create_one(db, LABELS, asked("k1", {"a": 1, "b": 2}))[0].state == "cancelled", "as it stands now"
    assert len(list_runs(db).items) == 1
    experiment = experiments.create(db, "one", None, None, {}, [LABELS], asked("k2"))
    again = experiments.create(db, "one", None, None, {}, [LABELS], asked("k2"))
    assert (again.id, again.is_new, experiment.is_new, again.states) == (experiment.id, False, True, {"queued": 1})


def test_a_key_is_of_one_owner_and_one_request(db: Database) -> None:
    first, _ = create_one(db, LABELS, asked("k"))
    with pytest.raises(KeyReused, match=f"'k'.*it made {first.id}"):
        create_one(db, LABELS, asked("k", "y"))
    other, is_new = create_one(db, LABELS, asked("k", "y", owner="eve"))
    assert is_new and other.id != first.id
    for _ in range(2):
        assert create_one(db, LABELS, Submission("ada"))[1], "a request without a key is always new"


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_a_key_whose_run_was_deleted_says_so_and_makes_nothing(db: Database, tmp_path: Path, what: str) -> None:
    def submit(key: str, request: Any = "x") -> str:
        if what == "run":
            return create_one(db, LABELS, asked(key, request))[0].id
        return experiments.create(db, "x", None, None, {}, [LABELS], asked(key, request)).id

    made = submit("k")
    other = submit("other")
    for run_id in [made] if what == "run" else [run.id for run in runs.of_experiment(db, made)]:
        runs.request_cancel(db, run_id)
    remover = Remover(db, ZarrStore(tmp_path), RunFiles(tmp_path))
    (remover.run if what == "run" else remover.experiment)(made)
    for _ in range(2):
        with pytest.raises(KeySpent, match=f"'k'.* for this request .*made {made}, which has been deleted"):
            submit("k")
        with pytest.raises(KeySpent):
            Once("ada", "k", "x").made(db)
    with pytest.raises(KeyReused):
        submit("k", "y")
    assert submit("other") == other, "what is still there is found"
    assert submit("new") not in (made, other)


def test_a_request_that_failed_takes_no_key(db: Database) -> None:
    wrong = PlannedRun("predict", stages.Predict(), {"scenes": ArtifactRef("f" * 32)})
    for _ in range(2):
        with pytest.raises(Exception, match="no published artifact|misses"):
            create_one(db, wrong, asked("k"))
    assert create_one(db, LABELS, asked("k"))[1]
    with pytest.raises(SpecInvalid):
        experiments.create(db, "x", None, None, {}, [LABELS, LABELS], asked("k3"))
    assert experiments.create(db, "x", None, None, {}, [LABELS], asked("k3")).is_new


def test_of_many_at_once_one_makes_it(db: Database) -> None:
    start, got = threading.Barrier(6), []

    def work() -> None:
        start.wait()
        got.append(create_one(db, LABELS, asked("k")))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.id for run, _ in got}) == 1
    assert sorted(is_new for _, is_new in got) == [False] * 5 + [True]
    assert len(list_runs(db).items) == 1


def test_old_keys_are_forgotten_in_pieces_and_young_ones_stay(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "PIECE", 2)
    for name in ("old1", "old2", "old3", "old4", "old5", "young"):
        create_one(db, LABELS, asked(name))
    with db.write() as session:
        moment = db_now(session)
        for name, age in (("old", KEPT + timedelta(minutes=1)), ("young", KEPT - timedelta(minutes=1))):
            change = update(IdempotencyRow).where(IdempotencyRow.key.startswith(name))
            session.execute(change.values(created_at=moment - age))
    monkeypatch.setattr(idempotency, "MOST", 4)
    assert idempotency.forget_old(db) == 4, "the rest waits for the next look"
    assert idempotency.forget_old(db) == 1
    assert idempotency.forget_old(db) == 0
    assert not create_one(db, LABELS, asked("young"))[1]
    assert create_one(db, LABELS, asked("old1", "another"))[1], "a key that was forgotten is as good as new"
    assert len(list_runs(db).items) == 7, "what was made stays"

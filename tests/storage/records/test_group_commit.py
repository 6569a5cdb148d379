"""What many threads ask for at once: written together, each as if it had been alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from storage.errors import DatabaseError, KeyReused, NotFound
from storage.records import creating
from storage.records.database import Database
from storage.records.group_commit import GroupCommit
from storage.records.idempotency import Once
from storage.records.runs import Run
from storage.records.submissions import Submission
from storage.specs import stages
from storage.specs.plans import ArtifactRef, PlannedRun
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.waiting import wait_until

Asked = tuple[PlannedRun, Submission]

LABELS = PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))
WRONG = PlannedRun(
    "predict",
    stages.Predict(),
    {name: ArtifactRef(digit * 32) for name, digit in (("network", "0"), ("scenes", "1"), ("text_embeddings", "2"))},
)


class Watched:
    """Group commit of runs that tells how many each transaction made."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.sizes: list[int] = []
        self.group: GroupCommit[Asked, tuple[Run, bool]] = GroupCommit(db, self._make)

    def _make(self, session: Session, asked: Sequence[Asked]) -> list[tuple[Run, bool]]:
        self.sizes.append(len(asked))
        return creating.create_each(session, asked)

    def at_once(self, asked: Sequence[Asked]) -> list[Any]:
        """What comes of requests that all wait for one writer; the first goes alone, for it was there first."""
        got: list[Any] = [None] * len(asked)

        def work(number: int) -> None:
            try:
                got[number] = self.group(asked[number])
            except Exception as error:  # noqa: BLE001 - compared by the tests
                got[number] = error

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(asked))]
        with self.db.write():
            threads[0].start()
            wait_until(lambda: self.group._making.locked() and not self.group._waiting, 20)
            for thread in threads[1:]:
                thread.start()
            wait_until(lambda: len(self.group._waiting) == len(asked) - 1, 20)
        for thread in threads:
            thread.join()
        return got


def test_those_that_wait_are_written_in_one_transaction(db: Database) -> None:
    watched = Watched(db)
    names = [f"run {number}" for number in range(6)]
    got = watched.at_once([(PlannedRun(name, LABELS.spec), Submission(f"owner of {name}")) for name in names])
    assert watched.sizes == [1, 5]
    assert [(run.name, run.owner, is_new) for run, is_new in got] == [(n, f"owner of {n}", True) for n in names]
    assert {run.id: run for run, _ in got} == {run.id: run for run in list_runs(db).items}


def test_a_request_that_is_wrong_fails_alone(db: Database) -> None:
    watched = Watched(db)
    got = watched.at_once([(one, Submission("ada")) for one in (LABELS, LABELS, WRONG, LABELS)])
    assert isinstance(got.pop(2), NotFound)
    assert {run.id for run, _ in got} == {run.id for run in list_runs(db).items} and len(got) == 3


def test_requests_of_one_key_that_wait_together_make_one_run(db: Database) -> None:
    watched = Watched(db)
    same, other = (Submission("ada", once=Once("ada", "k", said)) for said in ("x", "y"))
    got = watched.at_once([(LABELS, one) for one in (Submission("eve"), same, same, other)])
    assert sorted(is_new for _, is_new in got[1:3]) == [False, True] and got[1][0].id == got[2][0].id
    assert isinstance(got[3], KeyReused)
    assert len(list_runs(db).items) == 2


def test_no_more_than_so_many_are_written_together(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.records.group_commit.MOST", 2)
    watched = Watched(db)
    got = watched.at_once([(LABELS, Submission("ada"))] * 6)
    assert len({run.id for run, _ in got}) == 6 and sum(watched.sizes) == 6 and max(watched.sizes) == 2


def test_a_database_that_is_away_is_asked_once_for_all_that_wait(db: Database) -> None:
    asked: list[int] = []

    def fail(_session: Session, those: Sequence[int]) -> list[int]:
        asked.append(len(those))
        raise OperationalError("INSERT", None, Exception("gone"))

    watched = Watched(db)
    watched.group = GroupCommit(db, fail)  # type: ignore[arg-type]
    got = watched.at_once([(LABELS, Submission("ada"))] * 4)
    assert all(isinstance(error, DatabaseError) for error in got)
    assert asked == [1, 3]

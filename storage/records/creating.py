"""Single runs as requests ask for them: several at once, and each only once where it has a key. Knows no table."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from storage.records import run_fields, runs
from storage.records.database import Database
from storage.records.idempotency import remember
from storage.records.runs import Run
from storage.records.submissions import NewRun, Submission, prepare, write
from storage.specs.plans import PlannedRun


def create_one(db: Database, planned: PlannedRun, submission: Submission) -> tuple[Run, bool]:
    """Writes one new run, or finds the one that the same request made before; True where it is new.

    Raises:
        SpecInvalid, UnknownName, NotFound, IllegalMove: as `runs.create`.
        KeyReused, KeySpent: the submission's key was used for another request, or what it made has been deleted.
    """
    with db.write() as session:
        (made,) = create_each(session, [(planned, submission)])
        return made


def create_each(session: Session, asked: Sequence[tuple[PlannedRun, Submission]]) -> list[tuple[Run, bool]]:
    """What `create_one` makes of each of several requests, within one transaction; raises as it does for any of them.

    Two of one key fail together (IntegrityError), for neither sees the other.
    """
    found: list[tuple[Run, bool]] = []
    new: list[NewRun] = []
    for planned, submission in asked:
        known = None if submission.once is None else submission.once.made_before(session)
        if known is None:
            (one,) = prepare(session, [planned], None, submission)
            new.append(one)
            found.append((Run(**run_fields.of_new(one)), True))
        else:
            found.append((runs.within(session, known), False))
    write(session, new)
    made = zip(asked, found, strict=True)
    remember(session, [(one.once, run.id) for (_, one), (run, is_new) in made if is_new and one.once is not None])
    return found

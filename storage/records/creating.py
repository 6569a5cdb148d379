"""Single runs as requests ask for them: several at once, and each only once where it has a key. Knows no table."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from storage.records import run_fields, runs
from storage.records.idempotency import remember
from storage.records.runs import Run
from storage.records.submissions import NewRun, Submission, prepare, write
from storage.specs.plans import PlannedRun


def create_each(session: Session, asked: Sequence[tuple[PlannedRun, Submission]]) -> list[tuple[Run, bool]]:
    """Writes a new run for each request, or finds the one that the same request made before; True where it is new.

    Args:
        session: an ordered write transaction.
        asked: what each wants. Two of one key fail together (IntegrityError), for neither sees the other.

    Raises:
        SpecInvalid, UnknownName, NotFound, IllegalMove: as `runs.create`, for any of them.
        KeyReused, KeySpent: a key was used for another request, or what it made has been deleted.
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

"""Which waiting runs a planner must look at: those that may have something to do. Knows the tables; plans nothing.

A queued run can move only once it is queued, once a run that it reads has ended, or once the live run of its key is one
no more. Each of these writes an event, so that what is to be planned is found from the events since the last plan, by
indexes, however many runs wait. A planner also looks at everything now and then: at its start, and in case that a run's
fate was changed without an event, as by a deletion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select
from sqlalchemy.orm import Session, aliased

from storage.records.runs import living_keys
from storage.records.states import FINAL, LIVE
from storage.records.tables import EventRow, RunInputRow, RunRow

MOST = 500
"""Where more runs than this are to be planned, all are: as many as one statement asks for."""

_SOURCE = aliased(RunRow)
_MISSING = and_(RunInputRow.run_id == RunRow.id, RunInputRow.artifact_key.is_(None))
_SETTLED = or_(RunInputRow.source_run_id.is_(None), RunInputRow.output.is_(None), _SOURCE.state.in_(FINAL))
_HAS_SETTLED = (
    select(RunInputRow.port)
    .outerjoin(_SOURCE, _SOURCE.id == RunInputRow.source_run_id)
    .where(_MISSING, _SETTLED)
    .correlate(RunRow)
    .exists()
)
MAY_MOVE = and_(RunRow.state == "queued", or_(_HAS_SETTLED, ~select(RunInputRow.port).where(_MISSING).exists()))
"""Whether a run waits, and not only for runs that have not ended: whether looking at its inputs can move it."""

_IDS: Any = bindparam("ids", expanding=True)
_LAST = select(func.max(EventRow.id))
_TOUCHED = (
    select(RunRow.id, RunRow.state, RunRow.key)
    .join(EventRow, EventRow.run_id == RunRow.id)
    .where(EventRow.id > bindparam("last"), EventRow.kind == "state")
    .distinct()
    .limit(MOST + 1)
)
_READERS = select(RunInputRow.run_id).where(RunInputRow.source_run_id.in_(_IDS)).distinct().limit(MOST + 1)


class Agenda:
    """What a planner remembers from one plan to the next. For one thread at a time."""

    def __init__(self) -> None:
        self._runs: set[str] | None = None
        """Runs that are to be planned; None: all that wait."""
        self._last = 0
        """The last event that it has looked at."""
        self._held: dict[str, str] = {}
        """Run that could go but for a live run of its key -> that key."""

    def take_all(self) -> None:
        """Puts every waiting run on the agenda."""
        self._runs = None

    def look(self, session: Session) -> Collection[str] | None:
        """The runs that are to be planned as the transaction sees them; None where those are all that wait."""
        last = session.scalar(_LAST) or 0
        if self._runs is not None and last > self._last:
            runs = self._runs | self._moved_by_events(session)
            self._runs = runs if len(runs) <= MOST else None
        self._last = max(self._last, last)
        return self._runs

    def note(self, held: Mapping[str, str], *, moved: bool) -> None:
        """Notes what a plan of the agenda came to.

        Args:
            held: run that could go but for a live run of its key -> that key.
            moved: whether it had moves: then the same runs are planned again, for only some may have been applied.
        """
        if self._runs is None:
            self._held = dict(held)
        else:
            for run_id in self._runs:
                self._held.pop(run_id, None)
            self._held.update(held)
        if not moved:
            self._runs = set()

    def _moved_by_events(self, session: Session) -> set[str]:
        """The runs to plan because of the events since the last look."""
        touched = session.execute(_TOUCHED, {"last": self._last}).all()
        runs = {run.id for run in touched if run.state == "queued"}
        ended = [run.id for run in touched if run.state in FINAL]
        if ended:
            runs.update(session.scalars(_READERS, {"ids": ended}))
        freed = {run.key for run in touched if run.state not in LIVE}.intersection(self._held.values())
        if freed:
            freed -= living_keys(session, freed)
            runs.update(run_id for run_id, key in self._held.items() if key in freed)
        # Of more runs than these the states of some are not known: whoever reads those is found by looking at all.
        return runs if len(touched) <= MOST else runs.union(run.id for run in touched)

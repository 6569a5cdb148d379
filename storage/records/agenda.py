"""Which waiting runs a planner must look at: those that may have something to do. Knows the tables; plans nothing.

A queued run can move only once it is queued, once a run that it reads has ended, or once no live run has its key any
more. The first two write an event that is there as long as the run waits, so that what is to be planned is found from
the events since the last plan, by indexes, however many runs wait. Of the third the event may be gone, where that run
was cancelled and deleted at once, or there is none, where a worker found another key: the keys themselves are looked
at. A planner also looks at everything now and then: at its start, and in case that somebody changed tables by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select
from sqlalchemy.orm import Session, aliased

from storage.records.pages import pieces
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
    select(RunRow.id, RunRow.state)
    .join(EventRow, EventRow.run_id == RunRow.id)
    .where(EventRow.id > bindparam("last"), EventRow.kind == "state")
    .distinct()
    .limit(MOST + 1)
)
_STILL = select(RunRow.id, RunRow.key).where(RunRow.id.in_(_IDS), RunRow.state.in_(LIVE))
_LIVING = (
    select(func.min(RunRow.id), RunRow.key)
    .where(RunRow.key.in_(bindparam("keys", expanding=True)), RunRow.state.in_(LIVE))
    .group_by(RunRow.key)
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
        self._living: dict[str | None, str] = {}
        """Key that holds some back -> a live run that has it."""

    def take_all(self) -> None:
        """Puts every waiting run on the agenda."""
        self._runs = None

    @property
    def holds(self) -> bool:
        """Whether keys hold runs back: what lets these go need not write an event."""
        return bool(self._held)

    def look(self, session: Session) -> Collection[str] | None:
        """The runs that are to be planned as the transaction sees them; None where those are all that wait."""
        last = session.scalar(_LAST) or 0
        if self._runs is not None:
            runs = self._runs | self._let_go(session)
            if last > self._last:
                runs |= self._moved_by_events(session)
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

    def _let_go(self, session: Session) -> set[str]:
        """The runs that a key held back which no live run has any more.

        Of each key one live run is remembered: as long as it is, the many that may wait for the key are not read.
        """
        held = set(self._held.values())
        known = [self._living[key] for key in held & self._living.keys()]
        living: dict[str | None, str] = {}
        for some in pieces(known):
            living.update((key, run_id) for run_id, key in session.execute(_STILL, {"ids": some}))
        unsure = held - living.keys()
        for some in pieces(unsure):
            living.update((key, run_id) for run_id, key in session.execute(_LIVING, {"keys": some}))
        self._living = living
        return {run_id for run_id, key in self._held.items() if key not in living}

    def _moved_by_events(self, session: Session) -> set[str]:
        """The runs to plan because of the events since the last look."""
        touched = session.execute(_TOUCHED, {"last": self._last}).all()
        runs = {run.id for run in touched if run.state == "queued"}
        ended = [run.id for run in touched if run.state in FINAL]
        if ended:
            runs.update(session.scalars(_READERS, {"ids": ended}))
        # Of more runs than these the states of some are not known: whoever reads those is found by looking at all.
        return runs if len(touched) <= MOST else runs.union(run.id for run in touched)

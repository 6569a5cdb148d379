"""Attempts that a machine should no longer be at: cancelled, or over though their process lives. Knows the tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from storage.records.database import Database
from storage.records.tables import AttemptRow, HostRow, RunRow


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Attempts of one machine whose processes should end."""

    cancelled: dict[str, str]
    """Token -> id of its run, of attempts that hold a run which somebody cancelled, whichever host started them."""
    over: frozenset[str]
    """Tokens, among those asked about, of attempts that have ended."""


def unwanted(db: Database, machine: str, started: Collection[str]) -> Unwanted:
    """What should end on a machine.

    Args:
        db: the database.
        machine: the name that its hosts register under.
        started: tokens of attempts whose processes live there.
    """
    of_machine = (
        select(AttemptRow.token, AttemptRow.run_id)
        .join(RunRow, RunRow.id == AttemptRow.run_id)
        .join(HostRow, HostRow.id == AttemptRow.host_id)
        .where(AttemptRow.state == "running", RunRow.cancel_requested.is_(True), HostRow.name == machine)
    )
    ended = select(AttemptRow.token).where(AttemptRow.token.in_(started), AttemptRow.state != "running")
    with db.read() as session:
        cancelled = {str(token): str(run_id) for token, run_id in session.execute(of_machine)}
        return Unwanted(cancelled, frozenset(session.scalars(ended)) if started else frozenset())

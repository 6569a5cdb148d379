"""Whether what the tables say hangs together, by reading alone. Knows what rows mean; not how tables are made.

Every finding says what is wrong and what to do; a sound lab has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from storage.artifacts.store import ArtifactStore
from storage.errors import StoreError
from storage.records.database import Database, now
from storage.records.tables import ArtifactTableRow, AttemptRow, Base, RunRow

STUCK_AFTER_S = 60.0
"""Seconds after its lease ran out from which an attempt that nobody ended is stuck: a control plane does it in one."""
SHOWN = 20
"""Most findings of one kind that are named one by one; the rest is counted."""

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    code: str
    """Stable: revision, schema, dangling, run_state, stuck_lease, artifact_missing, artifact_unknown, ..."""
    subject: str
    """What it is about: a table, a run, an artifact."""
    message: str
    """What is wrong, and what to do."""


def check_rows(db: Database) -> list[Finding]:
    """What contradicts itself in the tables, as they are at one moment.

    Raises:
        DatabaseError: the database cannot be asked.
    """
    with db.read() as session:
        return [*_dangling(session), *_states(session), *_stuck(session)]


def check_store(db: Database, store: ArtifactStore) -> list[Finding]:
    """Artifacts that are recorded and do not lie in the store, or cannot be read there; and the reverse."""
    found: list[Finding] = []
    lying = _Ahead(store.artifacts())
    for key in _recorded(db):
        for stranger in lying.up_to(key):
            found.append(_unrecorded(stranger))
        if lying.at(key):
            found.extend(_unreadable(store, key))
        else:
            message = "it is recorded, and the store has no manifest of it: restore the store's folder from a backup"
            found.append(Finding("artifact_missing", key, message))
    found.extend(_unrecorded(stranger) for stranger in lying.up_to(None))
    return _shortened(found)


class _Ahead:
    """Sorted keys of the store, taken one by one beside the sorted keys of the records."""

    def __init__(self, keys: Iterator[str]) -> None:
        self._keys = keys
        self._next = next(keys, None)

    def up_to(self, key: str | None) -> Iterator[str]:
        """Those before `key`; None: all that are left."""
        while self._next is not None and (key is None or self._next < key):
            yield self._next
            self._next = next(self._keys, None)

    def at(self, key: str) -> bool:
        """Whether the next one is `key`; it is taken then."""
        if self._next != key:
            return False
        self._next = next(self._keys, None)
        return True


def _recorded(db: Database) -> Iterator[str]:
    """Keys of the recorded artifacts, sorted, read by pages."""
    last = ""
    while True:
        query = select(ArtifactTableRow.key).where(ArtifactTableRow.key > last).order_by(ArtifactTableRow.key)
        with db.read() as session:
            page = list(session.scalars(query.limit(_BATCH)))
        yield from page
        if not page:
            return
        last = page[-1]


def _unrecorded(key: str) -> Finding:
    message = (
        "its manifest lies in the store, and no row names it: a run that is about to end records it, a dead one's is"
        " adopted by the next run of its key; nothing reads it until then"
    )
    return Finding("artifact_unknown", key, message)


def _unreadable(store: ArtifactStore, key: str) -> Iterator[Finding]:
    try:
        if store.manifest(key) is None:
            yield Finding("artifact_missing", key, "its folder in the store has gone while it was looked at")
    except StoreError as error:
        yield Finding("artifact_unreadable", key, error.message)


def _dangling(session: Session) -> Iterator[Finding]:
    """Rows that name a row which is not there: a database that enforces its foreign keys has none."""
    for table in Base.metadata.sorted_tables:
        for constraint in sorted(table.foreign_key_constraints, key=lambda c: tuple(c.column_keys)):
            parent = constraint.referred_table.alias("parent")
            pairs = [(e.parent, parent.c[e.column.name]) for e in constraint.elements]
            meets = and_(*(child == wanted for child, wanted in pairs))
            named = and_(*(child.is_not(None) for child, _ in pairs))
            lone = and_(named, ~select(1).select_from(parent).where(meets).correlate(table).exists())
            columns = ", ".join(child.name for child, _ in pairs)
            where = f"{table.name}.{columns} -> {constraint.referred_table.name}"
            yield from _rows_of(session, table, lone, where)


def _rows_of(session: Session, table: Any, lone: ColumnElement[bool], where: str) -> Iterator[Finding]:
    total = session.scalar(select(func.count()).select_from(table).where(lone)) or 0
    if not total:
        return
    some = session.execute(select(*table.primary_key.columns).where(lone).limit(3)).all()
    shown = "; ".join(", ".join(map(str, row)) for row in some)
    message = f"{total} rows name what is not there ({shown}{', ...' if total > len(some) else ''}); restore a backup"
    yield Finding("dangling", where, message)


def _states(session: Session) -> Iterator[Finding]:
    """Runs whose state is not what their attempts say."""
    latest, other = aliased(AttemptRow), aliased(AttemptRow)
    last_number = select(func.max(other.number)).where(other.run_id == RunRow.id).correlate(RunRow).scalar_subquery()
    living = and_(latest.state == "running", RunRow.token == latest.token)
    ended_otherwise = or_(
        and_(RunRow.state == "succeeded", latest.state != "succeeded"),
        and_(RunRow.state == "failed", latest.state.in_(("succeeded", "cached"))),
        and_(RunRow.state == "running", or_(latest.state != "running", RunRow.token.is_(None), ~living)),
        and_(RunRow.state != "running", latest.state == "running"),
    )
    query = (
        select(RunRow.id, RunRow.state, RunRow.attempt, latest.number, latest.state)
        .join(latest, and_(latest.run_id == RunRow.id, latest.number == last_number))
        .where(or_(ended_otherwise, RunRow.attempt != latest.number))
        .order_by(RunRow.id)
    )
    for run_id, state, attempt, number, how in _first(session, query):
        if attempt != number:
            said = f"it says that its latest attempt is number {attempt}, and attempt {number} is there"
        else:
            said = f"it is {state}, and its latest attempt, number {number}, is {how}"
        yield Finding("run_state", run_id, f"{said}; cancel or retry it, and report this: nothing should write it")
    bare = select(RunRow.id).where(RunRow.state == "running", ~_attempted(RunRow)).order_by(RunRow.id)
    for (run_id,) in _first(session, bare):
        yield Finding("run_state", run_id, "it is running, and no attempt at it is there; cancel it")
    more = (
        select(AttemptRow.run_id, func.count())
        .where(AttemptRow.state == "running")
        .group_by(AttemptRow.run_id)
        .having(func.count() > 1)
    )
    for run_id, count in _first(session, more):
        yield Finding("run_state", run_id, f"{count} attempts at it are running; stop its hosts, then start them again")


def _attempted(run: type[RunRow]) -> ColumnElement[bool]:
    return select(AttemptRow.token).where(AttemptRow.run_id == run.id).correlate(run).exists()


def _stuck(session: Session) -> Iterator[Finding]:
    """Leases that ran out long ago, though a control plane would have ended them."""
    moment = now(session)
    query = (
        select(AttemptRow.run_id, AttemptRow.number, AttemptRow.lease_until)
        .where(AttemptRow.state == "running", AttemptRow.lease_until < moment - timedelta(seconds=STUCK_AFTER_S))
        .order_by(AttemptRow.lease_until)
    )
    for run_id, number, until in _first(session, query):
        late = (moment - until).total_seconds()
        message = f"the lease of attempt {number} ran out {late:.0f} s ago, and nobody ended it; start `vlglab serve`"
        yield Finding("stuck_lease", run_id, message)


def _first(session: Session, query: Any) -> list[Any]:
    return list(session.execute(query.limit(SHOWN)).all())


def _shortened(found: list[Finding]) -> list[Finding]:
    """The first of each kind, and how many more there are."""
    kept: list[Finding] = []
    count: dict[str, int] = {}
    for finding in found:
        count[finding.code] = count.get(finding.code, 0) + 1
        if count[finding.code] <= SHOWN:
            kept.append(finding)
    for code, total in count.items():
        if total > SHOWN:
            kept.append(Finding(code, f"{total - SHOWN} more", "the same"))
    return kept

"""Requests that may be sent twice: what the first of them made is what the others get. Knows the tables; no request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, delete, select, tuple_, union_all
from sqlalchemy import insert as inserting
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import KeyReused, KeySpent
from storage.records import revision
from storage.records.database import Database, now
from storage.records.tables import ExperimentRow, IdempotencyRow, RunRow

_FIND = select(IdempotencyRow.request_digest, IdempotencyRow.made, IdempotencyRow.created_at).where(
    IdempotencyRow.owner == bindparam("owner"), IdempotencyRow.key == bindparam("key")
)
_EXISTS = union_all(
    select(RunRow.id).where(RunRow.id == bindparam("id")),
    select(ExperimentRow.id).where(ExperimentRow.id == bindparam("id")),
)
KEPT = timedelta(days=30)
"""How long a key is remembered at least."""
PIECE = 1000
"""Keys that are forgotten in one transaction."""
MOST = 100_000
"""Keys that are forgotten in one call: the rest waits for the next."""

_KEEP = inserting(IdempotencyRow.__table__)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Once:
    """A request's Idempotency-Key, whose it is, and what is asked for."""

    owner: str
    key: str
    request: Any
    """JSON-like; the same key with another request is refused."""

    def made(self, db: Database) -> str | None:
        """As `made_before`, on a reading: for an early answer, before anything is planned."""
        with db.read() as session:
            return self.made_before(session)

    def made_before(self, session: Session) -> str | None:
        """Id of what the first request of this key made; None where this is the first.

        Args:
            session: a transaction; where something is made then, the ordered write transaction that makes it: of two
                requests at once, one sees what the other made.

        Raises:
            KeyReused: the first asked for something else.
            KeySpent: what the first made has been deleted.
        """
        connection = session.connection()
        row = connection.execute(_FIND, {"owner": self.owner, "key": self.key}).first()
        if row is None:
            return None
        used = f"at {row.created_at:%Y-%m-%d %H:%M} UTC (it made {row.made}"
        if row.request_digest != keys.digest(self.request):
            raise KeyReused(
                f"got the Idempotency-Key {self.key!r}, which was used for another request {used}); take a new key for"
                " a new request"
            )
        if connection.execute(_EXISTS, {"id": row.made}).first() is None:
            raise KeySpent(
                f"got the Idempotency-Key {self.key!r}, which was used for this request {used}, which has been deleted"
                " since); take a new key to submit it again"
            )
        made: str = row.made
        return made


def remember(session: Session, made: Sequence[tuple[Once, str]]) -> None:
    """Writes down what first requests made, in the transaction that makes it.

    Args:
        session: an ordered write transaction.
        made: each request, and the id of what it made.
    """
    if not made:
        return
    moment = now(session)
    rows = [
        {
            "owner": once.owner,
            "key": once.key,
            "request_digest": keys.digest(once.request),
            "made": what,
            "created_at": moment,
        }
        for once, what in made
    ]
    session.connection().execute(_KEEP, rows)


def forget_old(db: Database) -> int:
    """Forgets keys that are older than KEPT, in pieces, so that nobody waits long for the writer's lock.

    Returns:
        How many; at most MOST.

    Raises:
        WrongRevision: the database's tables are not those of this code.
    """
    forgotten = 0
    while forgotten < MOST:
        with db.read() as session:
            revision.check(session)
            old = select(IdempotencyRow.owner, IdempotencyRow.key).where(
                IdempotencyRow.created_at < now(session) - KEPT
            )
            found = [(owner, key) for owner, key in session.execute(old.limit(PIECE))]
        if found:
            with db.write() as session:
                session.execute(
                    delete(IdempotencyRow).where(tuple_(IdempotencyRow.owner, IdempotencyRow.key).in_(found))
                )
        forgotten += len(found)
        if len(found) < PIECE:
            break
    return forgotten

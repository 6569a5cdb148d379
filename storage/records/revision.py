"""The revision of the tables: the one that this code's models are, and the one that a database has.

What makes tables of that revision is `migrations`; this module knows none of its steps.
"""

from __future__ import annotations

from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from storage.errors import WrongRevision

REVISION = "0016"
"""The revision of the models in `tables`: the last one in `migrations/versions`."""

_READ = text("SELECT version_num FROM alembic_version")


def of(session: Session) -> str | None:
    """The revision of a database's tables; None where it has none yet."""
    connection = session.connection()
    found = connection.scalar(_READ) if inspect(connection).has_table("alembic_version") else None
    return None if found is None else str(found)


def check(session: Session) -> None:
    """Checks within a transaction that a database with tables still has those of this code: one small query.

    Raises:
        WrongRevision: somebody has upgraded or downgraded it; says what to do.
    """
    found = session.execute(_READ).scalar()
    if found != REVISION:
        raise WrongRevision(refusal(None if found is None else str(found)))


def refusal(found: str | None) -> str:
    """What is wrong with a database whose tables are at another revision than this code's, and what to do.

    Examples:
        >>> refusal(None)  # doctest: +ELLIPSIS
        "the database's tables are at revision none, this vlglab needs ...; run `vlglab db upgrade`"
    """
    if found is None or found < REVISION:
        advice = "run `vlglab db upgrade`"
    else:
        advice = "a newer vlglab made them: install that one here, and start this again"
    return f"the database's tables are at revision {found or 'none'}, this vlglab needs {REVISION}; {advice}"

"""Tokens of the API: who may call it, and as what. A secret is shown once and kept as a digest. Knows no request."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import Row, bindparam, func, or_, select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import InvalidInput, NotFound, TokenRefused
from storage.records.database import Database, now
from storage.records.pages import Page, clamp, page_of
from storage.records.tables import AccessTokenRow

Role = Literal["reader", "submitter", "admin"]
"""Rising: a reader sees everything, a submitter also submits and cancels what is its own, an admin does everything."""

ROLES: tuple[Role, ...] = get_args(Role)

PREFIX = "vlglab_"
"""How every secret begins, so that scanners of repositories find one that was committed."""

USED_EVERY = timedelta(seconds=60)
"""The last use is written down at most this often."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token without its secret."""

    id: str
    owner: str
    """Whose it is: what is submitted with it belongs to them."""
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def create(db: Database, owner: str, role: Role, lasts: timedelta | None = None) -> tuple[AccessToken, str]:
    """Makes a token.

    Args:
        db: the database.
        owner: whose it is.
        role: what it may do.
        lasts: how long it is good; None for ever.

    Returns:
        The token and its secret, which is kept nowhere.

    Raises:
        InvalidInput: a time that is not positive.
    """
    if lasts is not None and lasts <= timedelta(0):
        raise InvalidInput(f"got a token that lasts {lasts.total_seconds():.0f} s, expected a positive time")
    with db.write() as session:
        row, secret = _add(session, owner, role, lasts)
        return _read(row), secret


def create_first_admin(db: Database, deliver: Callable[[str], None]) -> bool:
    """Makes an admin's token where no admin has a good one, and hands its secret over before it counts.

    Args:
        db: the database.
        deliver: keeps the secret; where it raises, no token is made.

    Returns:
        False where an admin has one: nothing is made then.
    """
    with db.write() as session:
        if _has_admin(session):
            return False
        _, secret = _add(session, "admin", "admin", None)
        deliver(secret)
        return True


_OF_DIGEST = select(*AccessTokenRow.__table__.columns).where(AccessTokenRow.digest == bindparam("of"))


def find(db: Database, secret: str) -> AccessToken:
    """The token of a secret, its use written down.

    Raises:
        TokenRefused: it is unknown, expired or revoked.
    """
    with db.read() as session:
        row = session.connection().execute(_OF_DIGEST, {"of": digest(secret)}).one_or_none()
        moment = now(session)
    if row is None:
        raise TokenRefused("got a token that is not known; ask an admin for one (`vlglab tokens add`)")
    if row.revoked_at is not None:
        raise TokenRefused(f"the token {row.id} was revoked; ask an admin for another")
    if row.expires_at is not None and row.expires_at <= moment:
        raise TokenRefused(
            f"the token {row.id} expired at {row.expires_at:%Y-%m-%d %H:%M} UTC; ask an admin for another"
        )
    if row.last_used_at is None or moment - row.last_used_at > USED_EVERY:
        with db.write(ordered=False) as session:
            _row(session, row.id).last_used_at = moment
    return _read(row)


def list_tokens(db: Database, cursor: str | None = None, limit: int = 100) -> Page[AccessToken]:
    """A page of tokens, newest first, revoked and expired ones included."""
    limit = clamp(limit)
    query = select(AccessTokenRow).order_by(AccessTokenRow.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(AccessTokenRow.id < cursor)
    with db.read() as session:
        return page_of(session.scalars(query).all(), limit, lambda row: row.id, _read)


def revoke(db: Database, token_id: str) -> AccessToken:
    """Makes a token useless from now on; one that was revoked stays as it is.

    Raises:
        NotFound: there is none of that id.
    """
    with db.write() as session:
        row = _row(session, token_id)
        row.revoked_at = row.revoked_at or now(session)
        session.flush()
        return _read(row)


def has_admin(db: Database) -> bool:
    """Whether some admin's token is good now."""
    with db.read() as session:
        return _has_admin(session)


def _has_admin(session: Session) -> bool:
    good = or_(AccessTokenRow.expires_at.is_(None), AccessTokenRow.expires_at > now(session))
    query = select(func.count()).where(AccessTokenRow.role == "admin", AccessTokenRow.revoked_at.is_(None), good)
    return bool(session.scalar(query))


def _add(session: Session, owner: str, role: Role, lasts: timedelta | None) -> tuple[AccessTokenRow, str]:
    """A new token's row and its secret."""
    secret, moment = PREFIX + secrets.token_urlsafe(32), now(session)
    row = AccessTokenRow(
        id=keys.new_id("t"),
        owner=owner,
        role=role,
        digest=digest(secret),
        created_at=moment,
        expires_at=None if lasts is None else moment + lasts,
    )
    session.add(row)
    session.flush()
    return row, secret


def digest(secret: str) -> str:
    """What is kept of a secret. It has 256 random bits, so that nothing slower is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _row(session: Session, token_id: str) -> AccessTokenRow:
    row = session.get(AccessTokenRow, token_id)
    if row is None:
        raise NotFound(f"there is no token {token_id!r}; `vlglab tokens list` shows those there are")
    return row


def _read(row: AccessTokenRow | Row[Any]) -> AccessToken:
    role: Role = row.role  # type: ignore[assignment]
    return AccessToken(row.id, row.owner, role, row.created_at, row.expires_at, row.revoked_at, row.last_used_at)

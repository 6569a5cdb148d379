"""Tokens that were good a moment ago: a client that asks often is not looked up in the table each time.

A token that another process of the service revokes is let in for so long yet; one that this process revokes is not.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from fastapi.concurrency import run_in_threadpool

from storage.records import access_tokens
from storage.records.access_tokens import AccessToken
from storage.records.database import Database

FOR_S = 5.0
"""How long a token that was looked up counts as good."""
_MOST = 10_000


class KnownTokens:
    """What was looked up in the last moment. Used in the loop's thread, but for `forget`."""

    def __init__(self, db: Database) -> None:
        """Holds the database that is asked."""
        self._db = db
        self._known: dict[str, tuple[float, AccessToken]] = {}

    async def find(self, secret: str) -> AccessToken:
        """The token of a secret; see `access_tokens.find`.

        Raises:
            TokenRefused: it is unknown, expired or revoked.
        """
        of = access_tokens.digest(secret)
        known, moment = self._known.get(of), time.monotonic()
        if known is not None and moment - known[0] < FOR_S:
            token = known[1]
            if token.expires_at is None or token.expires_at > datetime.now(UTC):
                return token
        before = self._known  # `forget` puts another in its place, and what is kept here is read by nobody then
        token = await run_in_threadpool(access_tokens.find, self._db, secret)
        if len(before) >= _MOST:
            before.clear()
        before[of] = (moment, token)
        return token

    def id_of(self, secret: str) -> str | None:
        """Id of a token that was good once, which it may be no more; None for one that nobody has shown yet."""
        known = self._known.get(access_tokens.digest(secret))
        return None if known is None else known[1].id

    def forget(self) -> None:
        """Lets everything be looked up again: something was revoked."""
        self._known = {}

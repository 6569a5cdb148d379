"""Tokens that count as good for a moment after they were looked up."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from service import known_tokens
from service.known_tokens import KnownTokens
from storage.errors import TokenRefused
from storage.records import access_tokens
from storage.records.database import Database


def test_a_token_is_looked_up_once_a_moment(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    token, secret = access_tokens.create(db, "ada", "submitter")
    asked, find = [], access_tokens.find

    def counted(db: Database, secret: str) -> access_tokens.AccessToken:
        asked.append(secret)
        return find(db, secret)

    monkeypatch.setattr(access_tokens, "find", counted)
    known = KnownTokens(db)

    async def ask(times: int) -> set[str]:
        return {(await known.find(secret)).id for _ in range(times)}

    assert asyncio.run(ask(50)) == {token.id}
    assert asked == [secret]
    monkeypatch.setattr(known_tokens, "FOR_S", 0.0)
    assert asyncio.run(ask(2)) == {token.id}
    assert len(asked) == 3


def test_revoked_here_it_is_refused_at_once_and_elsewhere_a_moment_later(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, secret = access_tokens.create(db, "ada", "submitter")
    monkeypatch.setattr(known_tokens, "FOR_S", 0.2)
    known = KnownTokens(db)
    assert asyncio.run(known.find(secret)).id == token.id
    access_tokens.revoke(db, token.id)  # as another process does
    time.sleep(0.25)
    with pytest.raises(TokenRefused, match="revoked"):
        asyncio.run(known.find(secret))

    other, secret = access_tokens.create(db, "bob", "reader")
    monkeypatch.setattr(known_tokens, "FOR_S", 3600.0)
    assert asyncio.run(known.find(secret)).id == other.id
    access_tokens.revoke(db, other.id)
    known.forget()
    with pytest.raises(TokenRefused, match="revoked"):
        asyncio.run(known.find(secret))


def test_one_that_expires_meanwhile_is_refused(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = access_tokens.create(db, "ada", "submitter", timedelta(seconds=3))
    monkeypatch.setattr(known_tokens, "FOR_S", 3600.0)
    known = KnownTokens(db)
    asyncio.run(known.find(secret))
    time.sleep(3.1)
    with pytest.raises(TokenRefused, match="expired"):
        asyncio.run(known.find(secret))


def test_an_answer_that_was_on_its_way_when_something_was_revoked_is_not_kept(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, secret = access_tokens.create(db, "ada", "submitter")
    known, find = KnownTokens(db), access_tokens.find

    def revoked_meanwhile(db: Database, secret: str) -> access_tokens.AccessToken:
        found = find(db, secret)
        access_tokens.revoke(db, token.id)
        known.forget()
        return found

    monkeypatch.setattr(access_tokens, "find", revoked_meanwhile)
    asyncio.run(known.find(secret))
    monkeypatch.undo()
    with pytest.raises(TokenRefused, match="revoked"):
        asyncio.run(known.find(secret))


def test_what_was_refused_is_asked_again(db: Database) -> None:
    known = KnownTokens(db)
    for _ in range(2):
        with pytest.raises(TokenRefused, match="not known"):
            asyncio.run(known.find("vlglab_nothing"))

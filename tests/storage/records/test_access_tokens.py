from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from storage.errors import InvalidInput, NotFound, TokenRefused
from storage.records import access_tokens
from storage.records.database import Database
from storage.records.tables import AccessTokenRow


def test_a_secret_finds_its_token_and_is_kept_nowhere(db: Database) -> None:
    made, secret = access_tokens.create(db, "ada", "submitter")
    other, _ = access_tokens.create(db, "ada", "reader")
    assert secret.startswith("vlglab_") and len(secret) > 40
    assert access_tokens.find(db, secret).id == made.id != other.id
    with db.read() as session:
        kept = [str(vars(row)) for row in session.scalars(select(AccessTokenRow))]
    assert not any(secret in row or secret.removeprefix("vlglab_") in row for row in kept)
    assert [token.id for token in access_tokens.list_tokens(db).items] == [other.id, made.id]


@pytest.mark.parametrize("secret", ["", "vlglab_", "vlglab_" + "x" * 43, "'; DROP TABLE access_tokens; --"])
def test_an_unknown_secret_is_refused(db: Database, secret: str) -> None:
    access_tokens.create(db, "ada", "admin")
    with pytest.raises(TokenRefused, match="not known"):
        access_tokens.find(db, secret)


def test_a_revoked_token_is_refused_and_named(db: Database) -> None:
    made, secret = access_tokens.create(db, "ada", "admin")
    first = access_tokens.revoke(db, made.id)
    assert access_tokens.revoke(db, made.id).revoked_at == first.revoked_at is not None
    with pytest.raises(TokenRefused, match=f"{made.id} was revoked"):
        access_tokens.find(db, secret)
    with pytest.raises(NotFound, match="vlglab tokens list"):
        access_tokens.revoke(db, "t404")


def test_a_token_ends_by_the_database_s_clock(db: Database) -> None:
    made, secret = access_tokens.create(db, "ada", "admin", timedelta(days=1))
    assert made.expires_at is not None
    assert timedelta(hours=23) < made.expires_at - db.now() <= timedelta(days=1)
    assert access_tokens.find(db, secret).id == made.id
    with db.write() as session:
        session.get_one(AccessTokenRow, made.id).expires_at = db.now() - timedelta(seconds=1)
    with pytest.raises(TokenRefused, match="expired"):
        access_tokens.find(db, secret)
    with pytest.raises(InvalidInput, match="positive"):
        access_tokens.create(db, "ada", "admin", timedelta(0))


def test_the_last_use_is_written_down_at_most_once_a_minute(db: Database) -> None:
    made, secret = access_tokens.create(db, "ada", "reader")
    assert made.last_used_at is None
    access_tokens.find(db, secret)
    first = access_tokens.list_tokens(db).items[0].last_used_at
    assert first is not None
    access_tokens.find(db, secret)
    assert access_tokens.list_tokens(db).items[0].last_used_at == first
    with db.write() as session:
        session.get_one(AccessTokenRow, made.id).last_used_at = first - timedelta(seconds=61)
    access_tokens.find(db, secret)
    again = access_tokens.list_tokens(db).items[0].last_used_at
    assert again is not None and again >= first


def test_an_admin_counts_while_the_token_is_good(db: Database) -> None:
    assert not access_tokens.has_admin(db)
    access_tokens.create(db, "ada", "submitter")
    assert not access_tokens.has_admin(db)
    made, _ = access_tokens.create(db, "eve", "admin", timedelta(days=1))
    assert access_tokens.has_admin(db)
    with db.write() as session:
        session.get_one(AccessTokenRow, made.id).expires_at = db.now() - timedelta(seconds=1)
    assert not access_tokens.has_admin(db)
    made, _ = access_tokens.create(db, "eve", "admin")
    access_tokens.revoke(db, made.id)
    assert not access_tokens.has_admin(db)


def test_the_first_admin_is_made_once_and_only_where_its_secret_was_kept(db: Database) -> None:
    def refuse(secret: str) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        access_tokens.create_first_admin(db, refuse)
    assert not access_tokens.has_admin(db) and access_tokens.list_tokens(db).items == ()
    kept: list[str] = []
    threads = [threading.Thread(target=access_tokens.create_first_admin, args=(db, kept.append)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 1
    assert access_tokens.find(db, kept[0]).role == "admin"

"""Tokens made by whoever may touch the database, before the API can be asked for any. Knows settings; no request."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from service.schemas import TokenRequest
from storage.errors import InvalidInput
from storage.records import access_tokens
from storage.records.database import Database
from storage.settings import Settings


def make_token(settings: Settings, owner: str, role: str, days: float | None = None) -> str:
    """Makes a token in the settings' database, whose tables must exist, and returns its secret.

    Raises:
        InvalidInput: a role that there is not, or an owner's name that may not stand in a path.
    """
    try:
        asked = TokenRequest.model_validate({"owner": owner, "role": role, "days": days})
    except ValidationError as error:
        said = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise InvalidInput(f"got a token for {owner!r} as {role!r}: {said}") from error
    db = Database.open(settings.resolved_database_url)
    try:
        return access_tokens.create(db, asked.owner, asked.role, asked.lasts)[1]
    finally:
        db.close()


def write_first_token(settings: Settings, path: Path) -> bool:
    """Makes an admin's token where no admin has one, and writes its secret to a file that only this user can read.

    Returns:
        False where an admin has one: nothing is written then.

    Raises:
        InvalidInput: the file cannot be written; no token is made then.
    """
    db = Database.open(settings.resolved_database_url)
    try:
        return access_tokens.create_first_admin(db, partial(_keep, path))
    finally:
        db.close()


def _keep(path: Path, secret: str) -> None:
    """Writes a secret to a file that only this user can read, and waits until it is on the disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidInput(
            f"got VLGLAB_FIRST_TOKEN={str(path)!r}, which cannot be written ({error.strerror}); name another file"
        ) from error

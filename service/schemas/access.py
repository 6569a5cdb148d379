"""Tokens of the API as they are asked for and answered."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from service import examples
from service.schemas.pages import Page, gives
from service.schemas.requests import Name, takes
from storage.records.access_tokens import Role


class TokenRequest(BaseModel):
    """A token to make."""

    model_config = takes(examples.TOKEN_REQUEST)

    owner: Name = Field(description="Whose it is: what is submitted with it belongs to them.")
    role: Role = Field("submitter", description="reader: sees; submitter: also submits, cancels its own; admin: all.")
    days: float | None = Field(None, ge=0.001, le=36500, description="Days that it is good for; null for ever.")

    @property
    def lasts(self) -> timedelta | None:
        """How long it is good for; None for ever."""
        return None if self.days is None else timedelta(days=self.days)


class Token(BaseModel):
    """A token without its secret."""

    model_config = gives(examples.TOKEN)

    id: str
    owner: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")


class NewToken(Token):
    """A token that was just made, with its secret."""

    model_config = gives({**examples.TOKEN, "secret": examples.TOKEN_SECRET})

    secret: str = Field(description="Shown this once.")


class TokenPage(Page[Token]):
    """Tokens, newest first."""


class WhoAmI(BaseModel):
    """Who calls."""

    model_config = gives(examples.WHO_AM_I)

    name: str = Field(description="Owner of the token; empty where none was asked for.")
    role: Role

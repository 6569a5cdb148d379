"""Tokens of the API: make, list, revoke. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Path as PathParameter

from service import examples, problems
from service.access import TheCaller, only_admins
from service.dependencies import Cursor, Limit, TheDatabase, TheParts
from service.schemas import NewToken, Token, TokenPage, TokenRequest, WhoAmI
from storage.records import access_tokens

router = APIRouter(tags=["access"], responses=problems.RESPONSES)

TokenId = Annotated[str, PathParameter(description="A token's id.", examples=[examples.TOKEN["id"]])]


@router.get("/whoami", summary="Who calls")
def who_am_i(caller: TheCaller) -> WhoAmI:
    """The owner and the role of the token that the request shows."""
    return WhoAmI(name=caller.name, role=caller.role)


@router.post("/tokens", status_code=201, summary="Make a token", dependencies=[Depends(only_admins)])
def create_token(body: TokenRequest, db: TheDatabase) -> NewToken:
    """Makes a token. Its secret is in this answer and nowhere else."""
    made, secret = access_tokens.create(db, body.owner, body.role, body.lasts)
    return NewToken(**Token.model_validate(made).model_dump(), secret=secret)


@router.get("/tokens", summary="List tokens", dependencies=[Depends(only_admins)])
def list_tokens(db: TheDatabase, cursor: Cursor = None, limit: Limit = 100) -> TokenPage:
    """Tokens, newest first, revoked and expired ones included, with their last use (to the minute); no secret."""
    page = access_tokens.list_tokens(db, cursor, limit)
    return TokenPage(items=[Token.model_validate(token) for token in page.items], next=page.next)


@router.post("/tokens/{token_id}/revoke", summary="Revoke a token", dependencies=[Depends(only_admins)])
def revoke_token(token_id: TokenId, parts: TheParts) -> Token:
    """Makes a token useless from the next request on; where other processes serve too, for them a second later."""
    revoked = access_tokens.revoke(parts.db, token_id)
    parts.tokens.forget()
    return Token.model_validate(revoked)

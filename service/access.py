"""Who calls, and what they may do: tokens, roles, ownership, and how often. Knows requests; writes no run.

A caller shows a token as `Authorization: Bearer SECRET`. Where none is asked for (on loopback, unless the settings say
otherwise), whoever calls is an admin without a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param

from service.dependencies import Parts, parts
from service.guard import READING, noted
from service.problems import BehindProxy, ForeignPage
from storage.errors import NotPermitted, TokenRefused
from storage.records import access_tokens
from storage.records.access_tokens import ROLES, Role
from storage.records.database import Database
from storage.settings import is_loopback

OPEN = frozenset({"/healthz", "/readyz"})
"""What is answered without a token: it tells nothing but whether the service works."""

SCHEMES = {
    "HTTPBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token (`vlglab tokens add`), where the service asks for one.",
    }
}
"""How a token is shown, for the documentation."""

_ADMITTED = "admitted"

PROXIES = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via"})
"""Headers that proxies add."""

FOR_READERS = ("/artifacts/{key}/lease", "/leases/{lease_id}/renew", "/leases/{lease_id}/release")
"""Ends of the paths of routes that write and that readers may ask for all the same: they only let a reader read."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    """The owner of the token; empty where none was asked for."""
    role: Role
    counted_as: str = ""
    """Of whom requests and streams are counted: the token's id, or an address."""

    def needs(self, role: Role) -> None:
        """Raises unless the caller has this role or a higher one.

        Raises:
            NotPermitted: a lower one.
        """
        if ROLES.index(self.role) < ROLES.index(role):
            raise NotPermitted(
                f"got a token of a {self.role}, this needs a {role}'s; ask an admin for one (`vlglab tokens add`)"
            )

    def needs_to_own(self, owner: str, what: str) -> None:
        """Raises unless it is the caller's own, or the caller is an admin.

        Raises:
            NotPermitted: it is somebody else's.
        """
        if self.role != "admin" and owner != self.name:
            whose = f"belongs to {owner}" if owner else "belongs to nobody"
            raise NotPermitted(f"{what} {whose}; only its owner and admins may do this, and you are {self.name}")


def count(request: Request) -> None:
    """Counts a request, before its body is read and its token is looked up: for `Guard`.

    One with a token that was good before counts as that token's; any other as of the address that it comes from, with
    those that show an unknown token apart from those that show none.

    Raises:
        TooManyRequests: the caller sends too many.
    """
    if request.scope["path"] in OPEN:
        return
    found = parts(request)
    secret, caller = _shown(request), _asked_from(request)
    if secret is not None:
        caller = found.tokens.id_of(secret) or f"{caller} with an unknown token"
    found.rate.take(caller)


async def admit(request: Request) -> None:
    """Lets a request in or refuses it: for every route of the app. Routes then find who it is by `TheCaller`.

    Raises:
        TokenRefused: a token is asked for and none that is good was shown.
        NotPermitted: the token is a reader's and the request changes something.
        ForeignPage: no token is asked for, and a web page of another site made a browser send this.
        BehindProxy: no token is asked for, and this does not come straight from this machine.
    """
    caller = await _caller(request, parts(request))
    only_reads = request.method in READING or request.scope["route"].path.endswith(FOR_READERS)
    caller.needs("reader" if only_reads else "submitter")
    request.scope["state"][_ADMITTED] = caller


async def _caller(request: Request, found: Parts) -> Caller:
    """Who sends a request; raises as `admit`."""
    if request.scope["path"] in OPEN:
        if not found.settings.tokens_required:
            _only_this_machine(request, found)
        return Caller("", "reader")
    secret = _shown(request)
    if secret is not None:
        token = await found.tokens.find(secret)
        noted(request.scope, token.owner, token.id)
        return Caller(token.owner, token.role, token.id)
    if found.settings.tokens_required:
        raise TokenRefused("got no token, expected `Authorization: Bearer TOKEN`; the client takes VLGLAB_API_TOKEN")
    _only_this_machine(request, found)
    return Caller("", "admin", _asked_from(request))


def _shown(request: Request) -> str | None:
    """The secret of the token that a request shows; None where it shows none."""
    scheme, secret = get_authorization_scheme_param(request.headers.get("authorization"))
    return secret if secret and scheme.lower() == "bearer" else None


async def admitted(request: Request) -> Caller:
    """Who sends a request that was let in."""
    caller = request.scope["state"][_ADMITTED]
    assert isinstance(caller, Caller)
    return caller


TheCaller = Annotated[Caller, Depends(admitted)]


@dataclass(frozen=True, slots=True)
class Pass:
    """What a long answer asks again while it lasts: who listens, and whether they still may."""

    caller: str
    """`Caller.counted_as`."""
    _db: Database
    _secret: str | None

    def holds(self) -> bool:
        """Whether the token that was shown is still good; True where none was asked for."""
        try:
            if self._secret is not None:
                access_tokens.find(self._db, self._secret)
        except TokenRefused:
            return False
        return True


async def shown_pass(request: Request, caller: TheCaller) -> Pass:
    """The pass of a request that was let in."""
    return Pass(caller.counted_as, parts(request).db, _shown(request))


ThePass = Annotated[Pass, Depends(shown_pass)]


async def only_admins(caller: TheCaller) -> None:
    """Refuses everybody but admins.

    Raises:
        NotPermitted: a reader or a submitter.
    """
    caller.needs("admin")


def _asked_from(request: Request) -> str:
    """The address that a request comes from; empty where none is known."""
    return request.client.host if request.client else ""


def _only_this_machine(request: Request, found: Parts) -> None:
    """Refuses what others send or make a browser on this machine send, for no token is asked for.

    A page's requests carry its own address as Origin, or as Host where it made its name point here.

    Raises:
        ForeignPage: Host or Origin name no loopback address, and the settings do not let anyone in.
        BehindProxy: it came by a proxy or from another machine, and the settings do not let anyone in.
    """
    if found.settings.allow_anyone:
        return
    if (sign := _sign_of_others(request)) is not None:
        raise BehindProxy(
            f"got {sign}, expected a request straight from this machine: no token is asked for here, so whoever the"
            " proxy lets through would be an admin; set VLGLAB_REQUIRE_TOKENS=1 where a proxy stands in front"
        )
    for header in ("host", "origin"):
        given = request.headers.get(header)
        if given is not None and not is_loopback(_host_of(given)):
            raise ForeignPage(
                f"got the {header} {given!r}, expected one of this machine such as 127.0.0.1: no token is asked for"
                " here, so no page of another site is answered; VLGLAB_ALLOW_ANYONE=1 lifts that"
            )


def _sign_of_others(request: Request) -> str | None:
    """What shows that a request came by a proxy or from another machine; None where nothing does.

    nginx adds no header unless told to, but speaks HTTP/1.0 to what is behind it, which no client of today does. A
    proxy that was told to do neither cannot be told apart from a program of this machine.
    """
    header = next((name for name in request.headers if name in PROXIES), None)
    if header is not None:
        return f"the header {header!r}, which proxies add"
    if request.scope.get("http_version") == "1.0":
        return "HTTP/1.0, which proxies speak"
    sender = _asked_from(request)
    return None if is_loopback(sender) else f"a request from {sender or 'an unknown address'}"


def _host_of(header: str) -> str:
    """The host in a Host or Origin header; empty where it has none."""
    try:
        return urlsplit(header if "://" in header else f"//{header}").hostname or ""
    except ValueError:
        return ""

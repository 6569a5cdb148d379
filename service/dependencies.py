"""What routes are given: the parts that `create_app` wired, found on the request's app."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request

from service.problems import ForeignPage
from storage.artifacts.store import ArtifactStore
from storage.records.database import Database
from storage.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of."""

    settings: Settings
    db: Database
    store: ArtifactStore


def parts(request: Request) -> Parts:
    """The parts of the app that a request came to."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


def only_this_machine(request: Request) -> None:
    """Refuses what a web page of somebody else's makes a browser on this machine send, for there is no login.

    A page's requests carry its own address as Origin, or as Host where it made its name point here.

    Raises:
        ForeignPage: Host or Origin name no loopback address, and the settings do not let other machines in.
    """
    if parts(request).settings.allow_remote:
        return
    for header in ("host", "origin"):
        given = request.headers.get(header)
        if given is not None and not is_loopback(_host_of(given)):
            raise ForeignPage(
                f"got the {header} {given!r}, expected one of this machine such as 127.0.0.1: this version has no login"
                " and answers no page of another site; VLGLAB_ALLOW_REMOTE=1 lifts that"
            )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine, whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(header: str) -> str:
    """The host in a Host or Origin header; empty where it has none."""
    try:
        return urlsplit(header if "://" in header else f"//{header}").hostname or ""
    except ValueError:
        return ""


def _settings(request: Request) -> Settings:
    return parts(request).settings


def _db(request: Request) -> Database:
    return parts(request).db


def _store(request: Request) -> ArtifactStore:
    return parts(request).store


TheSettings = Annotated[Settings, Depends(_settings)]
TheDatabase = Annotated[Database, Depends(_db)]
TheStore = Annotated[ArtifactStore, Depends(_store)]

Cursor = Annotated[str | None, Query(description="`next` of the page before.", examples=["r0199f2a4c0de5e1a"])]
Limit = Annotated[int, Query(ge=1, le=500, description="Most items of a page.")]

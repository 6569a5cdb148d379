"""Headers of every answer, and the id that a request has in them and in the log. Knows no route."""

from __future__ import annotations

import re

from starlette.types import Scope

from storage import keys

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Set on every answer."""

NOTHING_ELSE = "default-src 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of every answer that brings none: no browser may load or run anything for it."""

REQUEST_ID = "X-Request-Id"
"""Header of every answer: the log's lines about the request carry the same id. A caller may choose it."""

_CHOSEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def headers_for(scope: Scope) -> dict[str, str]:
    """The headers of the answer to a request, unless it brings its own."""
    return {**HEADERS, "Content-Security-Policy": NOTHING_ELSE, REQUEST_ID: request_id(scope)}


def request_id(scope: Scope) -> str:
    """The id that the caller chose, or a new one; the same whenever it is asked for."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        given = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"")
        state["request_id"] = given.decode() if _CHOSEN.fullmatch(given) else keys.new_id("q")
    return str(state["request_id"])

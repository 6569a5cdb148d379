"""What every request and answer passes: bodies are limited, headers set, answers counted. Plain ASGI."""

from __future__ import annotations

import time

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.measures import Measures
from service.problems import METHODS, BodyTooLarge, refused

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Set on every answer."""

NOTHING_ELSE = "default-src 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of every answer but the documentation's pages: no browser may load or run anything for it."""

DOCUMENTATION = frozenset({"/docs", "/docs/oauth2-redirect"})


class Guard:
    """Wraps the application.

    Args:
        app: the application.
        max_body_bytes: largest body of a request.
        measures: told of every answer.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, measures: Measures) -> None:
        self._app = app
        self._most = max_body_bytes
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        headers = dict(HEADERS)
        if scope["path"] not in DOCUMENTATION:
            headers["Content-Security-Policy"] = NOTHING_ELSE

        async def careful(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                for name, value in headers.items():
                    out.setdefault(name, value)
            await send(message)

        body = await self._body(scope, receive)
        if body is None:
            problem = BodyTooLarge(
                f"got a body of more than {self._most} bytes; submit in parts, or raise VLGLAB_MAX_BODY_BYTES"
            )
            await refused(Request(scope), problem)(scope, receive, careful)
            return
        waiting = [body]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        try:
            await self._app(scope, again, careful)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            method = scope["method"] if scope["method"] in METHODS else "(other)"  # a client may send any word
            self._measures.answered(method, route, status, time.perf_counter() - began)

    async def _body(self, scope: Scope, receive: Receive) -> Message | None:
        """The whole body as one message; None as soon as it is too large."""
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or int(said) > self._most:
            return None
        content = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            content += message.get("body", b"")
            if len(content) > self._most:
                return None
            if not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(content), "more_body": False}

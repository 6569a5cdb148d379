"""What every request and answer passes: requests are counted, bodies limited, headers set. Plain ASGI."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import quote

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.answer_headers import headers_for, request_id
from service.measures import Measures
from service.problems import METHODS, BodyTooLarge, TooManyRequests, refused
from storage import log_format

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""What changes nothing, and is not logged line by line."""

log = logging.getLogger("vlglab.service")


class Guard:
    """Wraps the application.

    Args:
        app: the application.
        max_body_bytes: largest body of a request.
        measures: told of every answer.
        count: counts a request before its body is read, or raises what refuses it.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, measures: Measures, count: Callable[[Request], None]) -> None:
        self._app = app
        self._count = count
        self._most = max_body_bytes
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 429 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with log_format.about(request_id=request_id(scope)):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        began, status = time.perf_counter(), 500
        headers = headers_for(scope)

        async def careful(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                for name, value in headers.items():
                    out.setdefault(name, value)
            await send(message)

        try:
            await self._pass(scope, receive, careful)
        except (TooManyRequests, BodyTooLarge) as error:
            await refused(Request(scope), error)(scope, receive, careful)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            method = scope["method"] if scope["method"] in METHODS else "(other)"  # a client may send any word
            took_s = time.perf_counter() - began
            self._measures.answered(method, route, status, took_s)
            if method not in READING:
                _log(scope, method, status, took_s)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with its whole body.

        Raises:
            TooManyRequests: its caller sends too many; its body is not read.
            BodyTooLarge: it has more bytes than a body may.
        """
        self._count(Request(scope))
        waiting = [await self._body(scope, receive)]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)

    async def _body(self, scope: Scope, receive: Receive) -> Message:
        """The whole body as one message; raises BodyTooLarge as soon as it is."""
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or int(said) > self._most:
            raise self._too_large()
        content = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            content += message.get("body", b"")
            if len(content) > self._most:
                raise self._too_large()
            if not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(content), "more_body": False}

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"got a body of more than {self._most} bytes; submit in parts, or raise VLGLAB_MAX_BODY_BYTES"
        )


def noted(scope: Scope, owner: str, token_id: str) -> None:
    """Notes of a request whose token it shows, for its line in the log: the owner and the id, never the secret."""
    scope["state"]["caller"] = {"owner": owner, "token_id": token_id}


def _log(scope: Scope, method: str, status: int, took_s: float) -> None:
    """One line for a request that may have changed something, with who sent it where a token says so."""
    path = quote(scope["path"])
    about = {"method": method, "path": path, "status": status, "ms": round(1000 * took_s, 1)}
    caller: dict[str, str] = scope["state"].get("caller", {})
    about.update(caller)
    if "run_id" in scope.get("path_params", {}):
        about["run_id"] = scope["path_params"]["run_id"]
    by = f" by {caller['owner']} ({caller['token_id']})" if caller else ""
    log.info("%s %s%s: %d", method, path, by, status, extra=about)

"""A service that answers from a table, for the client and the command line; the shapes are those of the examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from service.client import Client


class FakeApi:
    """Answers requests by (method, path) and remembers them."""

    def __init__(self, answers: Mapping[tuple[str, str], Any]) -> None:
        self.answers = dict(answers)
        self.requests: list[httpx.Request] = []

    def client(self) -> Client:
        """A client that speaks to it."""
        return Client("http://lab.test:8765", transport=httpx.MockTransport(self._answer))

    def bodies(self) -> list[Any]:
        """The JSON bodies that it was sent."""
        return [json.loads(request.content) for request in self.requests if request.content]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        found = self.answers.get((request.method, request.url.path))
        if found is None:
            return refusal(404, "not_found", f"no {request.method} {request.url.path}")
        if callable(found):
            found = found(request)
        if isinstance(found, list) and found and isinstance(found[0], httpx.Response):
            return found.pop(0) if len(found) > 1 else found[0]
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)


def refusal(status: int, code: str, detail: str) -> httpx.Response:
    """A problem+json answer."""
    problem = {"type": f"urn:vlglab:problem:{code}", "title": "t", "status": status, "code": code, "detail": detail}
    return httpx.Response(status, json=problem, headers={"Content-Type": "application/problem+json"})

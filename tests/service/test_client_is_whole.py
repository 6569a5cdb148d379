"""The client can ask for whatever the API answers: its source is held against the API's own documentation."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

from service.app import create_app
from service.client import Client
from storage.settings import Settings

NOT_FOR_CLIENTS = {
    ("get", "/metrics"): "Prometheus scrapes it, as text of its own",
    (
        "get",
        "/store/artifacts/{}/manifest.json",
    ): "read as files, by path: `store_file`, `store_piece`",
    ("get", "/store/parts/{}/{}/{}"): "read as files, by path: `store_file`, `store_piece`",
}
"""Operations without a method of the client, and why."""

SENDING = {"_get": "get", "_pages": "get", "_post": "post", "_delete": "delete"}
"""The methods by which the client sends -> what they send; others are given the word."""
GIVEN_THE_WORD = {"_send", "stream"}


def asked_for() -> Iterator[tuple[str, str]]:
    """Method and path, with {} for what varies, of each request that the client's source writes out."""
    for part in Client.__mro__:
        if not part.__module__.startswith("service."):
            continue
        for call in ast.walk(ast.parse(inspect.getsource(part))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            name, given = call.func.attr, call.args
            if name in SENDING and (path := path_of(given[0])):
                yield SENDING[name], path
            elif name in GIVEN_THE_WORD and len(given) > 1 and (path := path_of(given[1])):
                yield str(ast.literal_eval(given[0])).lower(), path


def path_of(node: ast.expr) -> str | None:
    """The path that an argument writes out, without the API's prefix; None where it is a variable."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if not isinstance(node, ast.JoinedStr):
        return None
    pieces = [str(piece.value) if isinstance(piece, ast.Constant) else "{}" for piece in map(_plain, node.values)]
    return "".join(pieces)


def _plain(value: ast.expr) -> ast.expr:
    """A piece of an f-string; a mention of the API's prefix becomes an empty constant."""
    if isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.Name) and value.value.id == "API":
        return ast.Constant("")
    return value


def test_every_operation_has_a_method_of_the_client_or_a_reason_why_not(settings: Settings) -> None:
    document = create_app(settings).openapi()
    operations = {
        (method, re.sub(r"\{\w+\}", "{}", path).removeprefix("/api/v1"))
        for path, methods in document["paths"].items()
        for method in methods
    }
    asked = set(asked_for())
    assert len(operations) > 60 and len(asked) > 50
    assert operations - asked == set(NOT_FOR_CLIENTS)
    assert asked - operations == set(), "the client asks for what there is not"

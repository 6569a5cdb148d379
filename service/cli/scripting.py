"""What a script can rely on: JSON on stdout, exit statuses, and errors of one line on stderr.

Exit statuses stand here and in docs/submitting.md, and nowhere else. A command takes `as_json: Json = False` and, where
it is set, prints one document with `show_json` (a list is an array) or, where it follows something, a line for each
thing that comes with `show_line`; nothing else goes to stdout then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from http import HTTPStatus
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from storage import errors

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option that every command has."""

Document = BaseModel | Mapping[str, Any] | Sequence["Document"]
"""What can be printed as JSON."""


class Exit(IntEnum):
    """Exit statuses of every command. They are stable: a script may tell them apart."""

    OK = 0
    FAILED = 1
    """The command did its work, and what it waited for or looked at is not well: a run failed or was cancelled."""
    USAGE = 2
    """What was asked for cannot be done as asked: an option, a value, a spec."""
    UNREACHABLE = 3
    """The service or its database does not answer, or asks to come back later; the request may be right."""
    REFUSED = 4
    """No token, a token that is not good, or one that does not cover this; a path outside the allowed folders; another
    lab that refuses what is read there."""
    NOT_FOUND = 5
    """No such run, experiment, dataset, recipe, class, ..."""
    CONFLICT = 6
    """The present state forbids it: a name that is taken, a run that has ended, a key that was used."""
    NOT_IN_TIME = 7
    """What was waited for has not ended in the time that was given; it goes on."""
    BROKEN = 8
    """The service, the store or this program failed: its log, or the traceback, says how."""
    INTERRUPTED = 130
    """Ctrl-C."""


_BY_CLASS: tuple[tuple[type[errors.VlglabError], Exit], ...] = (
    (errors.WaitedTooLong, Exit.NOT_IN_TIME),
    (errors.UnknownName, Exit.NOT_FOUND),
    (errors.SourceRefused, Exit.REFUSED),
)
"""Errors whose status over HTTP does not say what a script wants to know."""

_BY_STATUS: Mapping[int, Exit] = {
    HTTPStatus.UNAUTHORIZED: Exit.REFUSED,
    HTTPStatus.FORBIDDEN: Exit.REFUSED,
    HTTPStatus.NOT_FOUND: Exit.NOT_FOUND,
    HTTPStatus.CONFLICT: Exit.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS: Exit.UNREACHABLE,
    HTTPStatus.BAD_GATEWAY: Exit.UNREACHABLE,
    HTTPStatus.SERVICE_UNAVAILABLE: Exit.UNREACHABLE,
    HTTPStatus.GATEWAY_TIMEOUT: Exit.UNREACHABLE,
}


def exit_of(error: errors.VlglabError) -> Exit:
    """The exit status that an error ends a command with.

    Examples:
        >>> exit_of(errors.KeyReused("x")), exit_of(errors.SpecInvalid("x")), exit_of(errors.StoreCorrupt("x"))
        (<Exit.CONFLICT: 6>, <Exit.USAGE: 2>, <Exit.BROKEN: 8>)
    """
    for kind, status in _BY_CLASS:
        if isinstance(error, kind):
            return status
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _BY_STATUS.get(error.status, Exit.BROKEN)
    return _BY_STATUS.get(error.status, Exit.USAGE)


def line_of(error: errors.VlglabError) -> str:
    """An error in one line: what happened (with the command to run next, where one is known), and its code."""
    scene = f" (scene {error.scene})" if error.scene else ""
    return printable(f"vlglab: {error.message}{scene} [{error.code}]")


def printable(text: str) -> str:
    r"""The text with control characters written out: what another lab says commands no terminal.

    Examples:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def show_json(value: Document) -> None:
    """Prints a model, a mapping or a list of them as one JSON document on stdout; a list is an array."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, default=str))


def show_line(value: Document) -> None:
    """Prints a model or a mapping as JSON in one line on stdout: for what comes bit by bit."""
    typer.echo(json.dumps(_plain(value), ensure_ascii=False, default=str))


def _plain(value: Any) -> Any:
    """Models as mappings, at any depth of lists."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

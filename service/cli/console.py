"""What every command shares: the client it speaks through, where it prints, and how an error ends it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from service.cli.scripting import Exit, exit_of, line_of
from service.client import Client
from storage.errors import InvalidInput, VlglabError
from storage.settings import Settings, settings
from storage.specs.stages import describe

PIPE_WIDTH = 240
"""Columns of what is printed into a pipe or a file."""

_T = TypeVar("_T")


def make_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; without one, so wide that nothing is cut."""
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


@dataclass
class Shell:
    """What commands are given: a client, and the two consoles."""

    client: Client
    out: Console = field(default_factory=make_console)
    err: Console = field(default_factory=lambda: make_console(stderr=True))


class ErrorGroup(TyperGroup):
    """A group of commands whose errors are one clear line on stderr and an exit status that says of which kind."""

    def invoke(self, ctx: Any) -> Any:  # Any: typer brings its own click, whose context has no public name
        """Runs the command; an error of vlglab's is printed, never a traceback."""
        try:
            return super().invoke(ctx)
        except VlglabError as error:
            typer.echo(line_of(error), err=True)
            raise typer.Exit(exit_of(error)) from error
        except ValidationError as error:
            typer.echo(f"vlglab: {describe(error)} [request_invalid]", err=True)
            raise typer.Exit(Exit.USAGE) from error


def shell(ctx: typer.Context) -> Shell:
    """The shell of a command's context."""
    found = ctx.find_object(Shell)
    assert found is not None, "the root callback makes it"
    return found


def read_settings() -> Settings:
    """This process's settings.

    Raises:
        InvalidInput: a VLGLAB_* variable cannot be read.
    """
    try:
        return settings()
    except ValidationError as error:
        raise InvalidInput(f"a VLGLAB_ variable cannot be used: {describe(error)}") from error


def show_pairs(out: Console, pairs: Iterable[tuple[str, object]]) -> None:
    """Prints names and values in two columns, leaving out what is None or empty."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", {}, [], ()):
            table.add_row(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    out.print(table, markup=False)


def plain_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        table.add_column(header, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    return table


def first(items: Iterable[_T], limit: int) -> list[_T]:
    """The first `limit` of some items; pages beyond them are not asked for."""
    return list(islice(items, limit))


def assignments(options: Sequence[str], flag: str) -> dict[str, Any]:
    """`name=value` texts as a mapping; a value is JSON where it can be read as such, else the text itself.

    Raises:
        InvalidInput: a text without `=` or without a name.

    Examples:
        >>> assignments(["distill.voxel_m=0.05", "predict.splits=[\\"test\\"]", "x.kind=mlp"], "--set")
        {'distill.voxel_m': 0.05, 'predict.splits': ['test'], 'x.kind': 'mlp'}
    """
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"got {flag} {option!r}, expected NAME=VALUE, such as {flag} epochs=5")
        try:
            found[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            found[name.strip()] = text
    return found


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as objects within objects.

    Raises:
        InvalidInput: a name is both a value and an object.

    Examples:
        >>> nested({"views.count": 4, "seed": 1})
        {'views': {'count': 4}, 'seed': 1}
    """
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        place = whole
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InvalidInput(f"got the option {name!r}, but {parent!r} was given as a value before")
        place[last] = value
    return whole

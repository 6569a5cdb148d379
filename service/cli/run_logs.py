"""`vlglab runs logs`: what a run's process printed, from its start or from its last lines on."""

from __future__ import annotations

import io
import time
from typing import Annotated

import typer

from service.cli.console import shell
from service.cli.run_views import RunId
from service.cli.scripting import Json, show_line
from service.cli.watching import POLL_S
from service.client import Client
from service.waiting import FINAL

LINE_BYTES = 200
"""How long a line is taken to be at first, where the last so many are asked for."""


def logs(
    ctx: typer.Context,
    run: RunId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; the last one if not given.")] = None,
    tail: Annotated[int | None, typer.Option(min=0, metavar="LINES", help="Begin with its last so many lines.")] = None,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Prints a run's log. JSON is a line for each piece that was read, with the offset after it, in bytes."""
    at = shell(ctx)
    offset, reading, ended = 0, attempt, True
    while True:
        if following:
            now = at.client.run(run)
            ended = now.state in FINAL
            if attempt is None and now.attempt != reading:  # a worker was lost, and another has begun anew
                offset, reading = 0, now.attempt or None
        if tail is None:
            text, after = at.client.logs(run, attempt=reading, offset=offset)
        else:
            text, after = last_lines(at.client, run, reading, tail)
            tail = None
        if as_json and after != offset:
            show_line({"run": run, "attempt": reading, "text": text, "next_offset": after})
        elif not as_json:
            typer.echo(text, nl=False)
        if after == offset and ended:
            return
        if after == offset:
            time.sleep(POLL_S)
        offset = after


def last_lines(client: Client, run: str, attempt: int | None, number: int) -> tuple[str, int]:
    """The last lines of a run's log, and the offset after them: reads more and more of its end until it has them."""
    num_bytes = LINE_BYTES * (number + 1)
    while True:
        text, offset = client.logs(run, attempt=attempt, tail=num_bytes)
        while (more := client.logs(run, attempt=attempt, offset=offset))[1] != offset:
            text, offset = text + more[0], more[1]
        lines = list(io.StringIO(text, newline="\n"))
        if number == 0 or num_bytes >= offset or len(lines) >= max(number, 2):  # a single one may lack its start
            return "".join(lines[max(0, len(lines) - number) :]), offset
        num_bytes *= 8

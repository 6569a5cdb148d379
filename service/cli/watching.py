"""Following runs until they have all ended: live on a terminal, line by line elsewhere, as JSON for scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.live import Live

from service.cli import run_table
from service.cli.scripting import Exit, show_line
from service.client import Client
from service.schemas import Run
from service.waiting import all_ended, readings
from storage.errors import NotFound

POLL_S = 0.5
"""Seconds between two looks at the service."""
QUIET_S = 20.0
"""Without a terminal: seconds between two lines of progress."""

Fetch = Callable[[], Sequence[Run]]
"""Reads the runs from the service; may raise whatever should end the watch."""


def follow(fetch: Fetch, console: Console, *, poll_s: float = POLL_S, timeout_s: float | None = None) -> Sequence[Run]:
    """Shows runs until every one has ended, and returns them as they then are.

    Args:
        fetch: reads the runs from the service.
        console: where they are shown; live where it is a terminal.
        poll_s: seconds between two looks.
        timeout_s: how long to follow them at most; None for as long as it takes.

    Raises:
        ServiceUnreachable: the service was away for longer than `service.waiting.PATIENCE_S`.
        WaitedTooLong: they have not ended in time.
    """
    read = readings(fetch, all_ended, timeout_s=timeout_s, poll_s=poll_s)
    return _live(read, console) if console.is_terminal else _lines(read, console)


def follow_as_json(fetch: Fetch, *, timeout_s: float | None = None) -> Sequence[Run]:
    """As `follow`, but prints a run as JSON in one line whenever its state has changed."""
    before: dict[str, str] = {}
    runs: Sequence[Run] = ()
    for runs in readings(fetch, all_ended, timeout_s=timeout_s, poll_s=POLL_S):
        for run in runs:
            if before.get(run.id) != run.state:
                show_line(run)
        before = {run.id: run.state for run in runs}
    return runs


def runs_of(client: Client, experiment_id: str) -> Sequence[Run]:
    """The runs of an experiment, in the order of its plan, for `Fetch`.

    Raises:
        NotFound: there is no such experiment, or none of its runs is there any more.
    """
    found = client.experiment(experiment_id).runs
    if not found:
        raise NotFound(f"the experiment {experiment_id} has no runs any more: they, or it, were deleted")
    return found


def outcome(runs: Sequence[Run], err: Console) -> Exit:
    """The exit status of a command that waited for runs; says which command shows why where they ended badly."""
    bad = [run for run in runs if run.state not in run_table.GOOD]
    for run in bad:
        if run.reason_code != "input_failed":  # the run that failed first has the reason
            again = f"`vlglab runs logs {run.id}` shows why; `vlglab runs retry {run.id}` queues it again"
            err.print(f"{run.name} {run.state}: {again}", markup=False, highlight=False, soft_wrap=True)
    return Exit.FAILED if bad else Exit.OK


def _live(read: Iterable[Sequence[Run]], console: Console) -> Sequence[Run]:
    """A table that is drawn anew."""
    runs: Sequence[Run] = ()
    with Live(console=console, auto_refresh=False) as live:
        for runs in read:
            live.update(run_table.live_table(runs, run_table.utc_now()), refresh=True)
    return runs


def _lines(read: Iterable[Sequence[Run]], console: Console) -> Sequence[Run]:
    """A line a change of state, and now and then one of progress."""
    before: dict[str, str] = {}
    runs: Sequence[Run] = ()
    spoke = time.monotonic()
    for runs in read:
        lines = list(run_table.state_lines(before, runs, run_table.utc_now()))
        if not lines and time.monotonic() - spoke > QUIET_S:
            lines = list(run_table.progress_lines(runs))
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
            spoke = time.monotonic()
        before = {run.id: run.state for run in runs}
    return runs

"""Following runs until they have all ended, live on a terminal and line by line elsewhere. Knows the client's calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live

from service.cli import run_table
from service.schemas import Run
from service.waiting import Patient

POLL_S = 0.5
"""Seconds between two looks at the service."""
QUIET_S = 20.0
"""Without a terminal: seconds between two lines of progress."""


def follow(fetch: Callable[[], Sequence[Run]], console: Console, *, poll_s: float = POLL_S) -> Sequence[Run]:
    """Shows runs until every one has ended, and returns them as they then are.

    Args:
        fetch: reads the runs from the service; it may raise whatever should end the watch.
        console: where they are shown; live where it is a terminal.
        poll_s: seconds between two looks.

    Raises:
        ServiceUnreachable: the service was away for longer than `service.waiting.PATIENCE_S`.
    """
    patient = Patient(fetch)
    if not console.is_terminal:
        return _follow_lines(patient, console, poll_s)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            runs = patient()
            live.update(run_table.live_table(runs, run_table.utc_now()), refresh=True)
            if all(run.state in run_table.FINAL for run in runs):
                return runs
            time.sleep(poll_s)


def _follow_lines(fetch: Callable[[], Sequence[Run]], console: Console, poll_s: float) -> Sequence[Run]:
    """The same without a terminal: a line a change of state, and now and then one of progress."""
    before: dict[str, str] = {}
    spoke = time.monotonic()
    while True:
        runs = fetch()
        lines = list(run_table.state_lines(before, runs, run_table.utc_now()))
        if not lines and time.monotonic() - spoke > QUIET_S:
            lines = list(run_table.progress_lines(runs))
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
            spoke = time.monotonic()
        before = {run.id: run.state for run in runs}
        if all(run.state in run_table.FINAL for run in runs):
            return runs
        time.sleep(poll_s)

"""Runs as people see them: a table that fits a terminal, and one line a change of state where there is none.

Knows the shapes of the API's runs and rich; opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.schemas import Run
from service.waiting import FINAL

GOOD = frozenset({"succeeded", "cached"})
"""Final states in which a run's outputs exist."""

ID_WIDTH = 21
"""Letters of a run's or an experiment's id: never cut, for they are copied."""

STYLES: Mapping[str, str] = {
    "queued": "dim",
    "ready": "cyan",
    "running": "bold yellow",
    "succeeded": "green",
    "cached": "green",
    "failed": "bold red",
    "cancelled": "magenta",
}
"""State -> how it is drawn."""


def live_table(runs: Sequence[Run], now: datetime) -> Table:
    """The runs of an experiment with their progress, in the order given."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for header, justify in (("run", "left"), ("state", "left"), ("", "left"), ("progress", "left")):
        table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for header in ("loss", "left", "time"):
        table.add_column(header, justify="right", no_wrap=True)
    for run in runs:
        state = Text("cancelling" if run.cancel_requested and run.state == "running" else run.state)
        state.stylize(STYLES.get(run.state, ""))
        table.add_row(
            run.name,
            state,
            _bar(run),
            _amount(run),
            _loss(run),
            _left(run),
            duration(seconds(run, now)),
        )
    return table


def list_table(runs: Iterable[Run], now: datetime) -> Table:
    """Runs of any experiments, one a line, with their ids."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for header, width in (("id", ID_WIDTH), ("run", 12), ("state", 9), ("time", 8), ("stage", 0), ("created", 0)):
        table.add_column(header, no_wrap=True, min_width=width, justify="right" if header == "time" else "left")
    table.add_column("experiment", min_width=ID_WIDTH, no_wrap=True)
    for run in runs:
        table.add_row(
            run.id,
            run.name,
            Text(run.state, style=STYLES.get(run.state, "")),
            duration(seconds(run, now)),
            run.stage,
            moment(run.created_at),
            run.experiment_id or "",
        )
    return table


def state_lines(before: Mapping[str, str], runs: Sequence[Run], now: datetime) -> Iterator[str]:
    """One line for each run whose state is not the one in `before` (run id -> state)."""
    for run in runs:
        if before.get(run.id) == run.state:
            continue
        line = f"{run.name:<14} {run.state}"
        taken = seconds(run, now)
        if run.state in FINAL and taken is not None:
            line += f" after {duration(taken)}"
        if run.reason and run.state not in GOOD:
            line += f": {run.reason}" + (f" (scene {run.scene})" if run.scene else "")
        yield line


def progress_lines(runs: Sequence[Run]) -> Iterator[str]:
    """One line for each run at work that says how far it is."""
    for run in runs:
        if run.state == "running" and (amount := _amount(run)):
            loss, left = _loss(run), _left(run)
            yield f"{run.name:<14} {amount}{f', loss {loss}' if loss else ''}{f', {left} left' if left else ''}"


def seconds(run: Run, now: datetime) -> float | None:
    """Seconds that a run has worked, or took; None where it never started."""
    if run.started_at is None:
        return None
    return max(0.0, ((run.ended_at or now) - run.started_at).total_seconds())


def duration(seconds_: float | None) -> str:
    """Seconds for people.

    Examples:
        >>> duration(3.21), duration(75), duration(7300), duration(None)
        ('3.2 s', '1 min 15 s', '2 h 01 min', '')
    """
    if seconds_ is None:
        return ""
    if seconds_ < 59.95:
        return f"{seconds_:.1f} s"
    whole = round(seconds_)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(num_bytes: int) -> str:
    """A number of bytes for people.

    Examples:
        >>> size(512), size(3_500_000), size(2_400_000_000)
        ('512 B', '3.5 MB', '2.4 GB')
    """
    value, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def moment(at: datetime | None) -> str:
    """A moment in this machine's time zone, to the second."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def utc_now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def _bar(run: Run) -> ProgressBar | str:
    """How far a run is, as a bar; empty before it starts and where it failed."""
    if run.state in GOOD:
        return ProgressBar(total=1, completed=1, width=18)
    if run.state != "running" or run.progress is None or not run.progress.total:
        return ""
    return ProgressBar(total=run.progress.total, completed=run.progress.done or 0, width=18)


def _amount(run: Run) -> str:
    """`done/total unit`, and what the run says of itself while it works."""
    progress = run.progress
    if progress is None:
        return f"waits for {run.waiting_for}" if run.waiting_for else ""
    counted = ""
    if progress.total is not None:
        counted = f"{progress.done or 0:g}/{progress.total:g} {progress.unit}".rstrip()
    working = progress.message if run.state == "running" else None
    return f"{counted}  {working}".strip() if working else counted


def _loss(run: Run) -> str:
    """The loss, to four significant digits; empty where there is none."""
    return "" if run.progress is None or run.progress.loss is None else f"{run.progress.loss:.4g}"


def _left(run: Run) -> str:
    """The time left, while it runs."""
    return duration(run.progress.eta_s) if run.progress is not None and run.state == "running" else ""

"""A plan beforehand, as people see it. Knows the shape of the API's dry run and rich; opens no connection."""

from __future__ import annotations

from rich.console import Console

from service import schemas
from service.cli.console import plain_table
from service.cli.run_table import duration, size

HEADERS = ("run", "stage", "outlook", "time", "size", "from past runs", "why")


def show(out: Console, plan: schemas.DryRun) -> None:
    """Prints a plan: a line a run, and what it comes to."""
    out.print(plain_table(HEADERS, [_row(run) for run in plan.runs]))
    said = f"{plan.num_to_compute} of {len(plan.runs)} runs to compute"
    if plan.num_to_compute > plan.num_without_estimate:
        said += f", one after another about {duration(plan.seconds)}, {size(plan.num_bytes)}"
    if plan.num_without_estimate:
        said += f"; for {plan.num_without_estimate} of them there is no past run to tell from"
    out.print(f"{said}; nothing was submitted", markup=False, highlight=False)


def _row(run: schemas.PlannedWork) -> tuple[str, ...]:
    """One run of a plan."""
    told = run.estimate
    took = ("", "", "") if told is None else (
        duration(told.seconds), size(told.num_bytes), f"{told.past_runs} of the same {told.alike}",
    )  # fmt: skip
    return run.name, run.stage, run.outlook.replace("_", " "), *took, run.why

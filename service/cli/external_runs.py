"""`vlglab runs external | start | log | finish | metrics`: runs whose trainers lie outside, from any shell script."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.console import assignments, plain_table, shell
from service.cli.scripting import Json, show_json
from service.schemas import FinishRequest, MetricBatch, MetricEntry, RunRequest
from storage.errors import InvalidInput

RunId = Annotated[str, typer.Argument(help="A run's id.")]
Lease = Annotated[float, typer.Option(min=1, help="Seconds of silence after which it fails.")]
Attempt = Annotated[int | None, typer.Option(min=1, help="The trainer's attempt; refused where another has begun.")]


def external(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The run's name.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="What the trainer was told.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find it by.")] = None,
    lease: Lease = 300,
    as_json: Json = False,
) -> None:
    """Makes and starts a run that a trainer of yours logs to, and prints its id."""
    spec = {"stage": "external", "parameters": assignments(parameter or [], "--set")}
    made = shell(ctx).client.submit_run(RunRequest(name=name, spec=spec, tags=tag or [], lease_s=lease))
    if as_json:
        show_json(made)
    else:
        typer.echo(made.id)


def start(ctx: typer.Context, run: RunId, lease: Lease = 300, as_json: Json = False) -> None:
    """Starts an external run that waits, as one does that was retried."""
    found = shell(ctx).client.start_run(run, lease_s=lease)
    if as_json:
        show_json(found)
        return
    typer.echo(f"{found.id} runs, attempt {found.attempt}; end it with `vlglab runs finish {found.id} succeeded`")


def log(
    ctx: typer.Context,
    run: RunId,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Values of metrics.")],
    step: Annotated[int, typer.Option(help="Their step.")],
    attempt: Attempt = None,
    as_json: Json = False,
) -> None:
    """Logs values of one step of an external run, and shows that it lives."""
    points = []
    for name, value in assignments(values, "metric").items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(f"got the metric {name}={value!r}, expected a number, such as loss=0.31")
        points.append(MetricEntry(name=name, step=step, value=float(value)))
    held = shell(ctx).client.log_metrics(run, MetricBatch(attempt=attempt, points=points))
    if as_json:
        show_json(held)


def finish(
    ctx: typer.Context,
    run: RunId,
    state: Annotated[str, typer.Argument(help="How it ended: succeeded, failed or cancelled.")],
    reason: Annotated[str | None, typer.Option(help="Why, where it did not succeed.")] = None,
    attempt: Attempt = None,
    as_json: Json = False,
) -> None:
    """Ends an external run."""
    body = FinishRequest.model_validate({"state": state, "reason": reason, "attempt": attempt})
    found = shell(ctx).client.finish_run(run, body)
    if as_json:
        show_json(found)
        return
    typer.echo(f"{found.id} is {found.state}")


def metrics(
    ctx: typer.Context,
    run: RunId,
    name: Annotated[str | None, typer.Option(help="Only this metric.")] = None,
    buckets: Annotated[int, typer.Option(min=1, max=5000, help="At most so many rows a metric.")] = 20,
    first: Annotated[int | None, typer.Option(help="First step.")] = None,
    last: Annotated[int | None, typer.Option(help="Last step, included.")] = None,
    as_json: Json = False,
) -> None:
    """Shows a run's metrics over its steps: of each bucket of steps the first, least, greatest and last value."""
    at = shell(ctx)
    chart = at.client.chart(run, name, buckets=buckets, first=first, last=last)
    if as_json:
        show_json(chart)
        return
    rows = [
        (one.name, f"{one.first_step[i]}-{one.last_step[i]}", str(one.count[i]), *map(_number, values))
        for one in chart.series
        for i, values in enumerate(zip(one.first, one.min, one.max, one.last, strict=True))
    ]
    at.out.print(plain_table(("metric", "steps", "points", "first", "min", "max", "last"), rows), markup=False)


def _number(value: float | None) -> str:
    """Five significant digits; a dash where it was not finite."""
    return "-" if value is None else f"{value:.5g}"

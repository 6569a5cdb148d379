"""`vlglab runs submit` and `vlglab experiments submit-plan`: what a file asks for, as the API takes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from service import schemas
from service.cli import plan_table
from service.cli.console import Shell, shell
from service.cli.scripting import Exit, Json, show_json, show_line
from service.cli.watching import Fetch, follow, follow_as_json, outcome, runs_of
from storage.errors import InvalidInput

_PLAN: TypeAdapter[schemas.ExperimentRequest | schemas.RunListRequest] = TypeAdapter(schemas.AnyExperimentRequest)

File = Annotated[str, typer.Argument(help="A file with the JSON that the API takes; - reads it from stdin.")]
Once = Annotated[str | None, typer.Option(help="A name of this submission: given again, nothing is submitted.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow what was submitted until it has ended.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be computed, and what it takes.")]


def submit_run(
    ctx: typer.Context, file: File, once: Once = None, watch: Watch = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Submits one run and prints its id: {"spec": {"stage": ...}, "inputs": {...}, "dataset": ...}."""
    at, asked = shell(ctx), schemas.RunRequest.model_validate(_read(file))
    if dry_run:
        foreseen(at, at.client.plan_run(asked), as_json=as_json)
        return
    submit_one(at, asked, once, watch=watch, as_json=as_json)


def submit_one(at: Shell, request: schemas.RunRequest, once: str | None, *, watch: bool, as_json: bool) -> None:
    """Submits one run, prints its id, and follows it where that is wanted; the exit status is then its."""
    made = at.client.submit_run(request, idempotency_key=once)
    tell(at, made, "runs", watch=watch, as_json=as_json)
    if watch:
        raise typer.Exit(_watch(at, lambda: [at.client.run(made.id)], as_json))


def submit_plan(
    ctx: typer.Context, file: File, once: Once = None, watch: Watch = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Submits an experiment whose runs, or whose recipe, a file gives, and prints its id."""
    at, asked = shell(ctx), _PLAN.validate_python(_read(file))
    if dry_run:
        foreseen(at, at.client.plan(asked), as_json=as_json)
        return
    made = at.client.submit(asked, idempotency_key=once)
    tell(at, made, "experiments", watch=watch, as_json=as_json)
    if watch:
        raise typer.Exit(_watch(at, lambda: runs_of(at.client, made.id), as_json))


def foreseen(at: Shell, plan: schemas.DryRun, *, as_json: bool) -> None:
    """Prints what a submission would compute."""
    if as_json:
        show_json(plan)
    else:
        plan_table.show(at.out, plan)


def tell(at: Shell, made: schemas.Run | schemas.Experiment, group: str, *, watch: bool, as_json: bool) -> None:
    """Prints what was submitted; on stderr the command that follows it, unless this one does.

    Args:
        at: where to print.
        made: the run or the experiment.
        group: the commands' group, "runs" or "experiments".
        watch: whether this command follows it.
        as_json: prints JSON, and names no command.
    """
    if as_json:
        (show_line if watch else show_json)(made)
        return
    at.out.print(made.id, highlight=False)
    if not watch:
        command = f"vlglab {group} watch {made.id}"
        at.err.print(f"follow it with `{command}`", markup=False, highlight=False, soft_wrap=True)


def _watch(at: Shell, fetch: Fetch, as_json: bool) -> Exit:
    """Follows runs and returns the exit status."""
    return outcome(follow_as_json(fetch) if as_json else follow(fetch, at.out), at.err)


def _read(file: str) -> Any:
    """The JSON in a file, or on stdin.

    Raises:
        InvalidInput: it cannot be read, or is no JSON.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"got the file {file!r}, which cannot be read as JSON: {error}") from error

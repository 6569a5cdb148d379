"""`vlglab runs`: single runs, listed, followed, read, cancelled, run again and deleted."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from service import schemas
from service.cli import deleting, events, external_runs, pictures, plan_files, run_files, run_logs, run_table, run_views
from service.cli.console import assignments, shell, show_pairs
from service.cli.scripting import Json, show_json
from service.cli.watching import follow, follow_as_json, outcome
from storage.errors import InvalidInput

app = run_views.app
app.command("submit")(plan_files.submit_run)
app.command("picture")(pictures.picture)
app.command("events")(events.run_events)
app.command("logs")(run_logs.logs)
app.command("files")(run_files.files)
app.command("external")(external_runs.external)
app.command("start")(external_runs.start)
app.command("log")(external_runs.log)
app.command("finish")(external_runs.finish)
app.command("metrics")(external_runs.metrics)

RunId = run_views.RunId


class Unset(StrEnum):
    """What can be wanted of a run beside its spec, by the field's name."""

    PRIORITY = "priority"
    TAGS = "tags"
    NOTES = "notes"
    TIME_LIMIT = "time_limit_s"
    GPUS = "gpus"
    MEMORY = "memory_gb"


Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most; exit status 7 beyond.")]


@app.command("show")
def show(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Shows a run: its spec, where it ran, what it read and wrote, and why it ended as it did."""
    at = shell(ctx)
    found = at.client.run(run)
    if as_json:
        show_json(found)
        return
    document = found.model_dump(mode="json")
    taken = run_table.duration(run_table.seconds(found, run_table.utc_now()))
    shown = ["id", "experiment_id", "name", "stage", "dataset", "owner", "tags", "notes", "time_limit_s"]
    shown += ["gpus", "memory_gb", "rerun_of", "waiting_for"]
    shown += ["state", "reason_code", "reason", "scene", "attempt"]
    shown += ["progress", "host", "device", "code", "environment", "key", "spec", "inputs", "outputs"]
    pairs = [(name.removesuffix("_id"), document.get(name)) for name in shown]
    pairs += [("created", run_table.moment(found.created_at)), ("took", taken)]
    pairs += [("peak memory", run_table.size(found.peak_rss_bytes) if found.peak_rss_bytes else "")]
    show_pairs(at.out, pairs)


@app.command("watch")
def watch(ctx: typer.Context, run: RunId, timeout: Timeout = None, as_json: Json = False) -> None:
    """Follows a run until it has ended; exit status 1 if it did not succeed. JSON is a line a change of state."""
    at = shell(ctx)

    def fetch() -> list[schemas.Run]:
        return [at.client.run(run)]

    found = follow_as_json(fetch, timeout_s=timeout) if as_json else follow(fetch, at.out, timeout_s=timeout)
    raise typer.Exit(outcome(found, at.err))


@app.command("cancel")
def cancel(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Asks a run to stop; one that has not started is cancelled at once."""
    found = shell(ctx).client.cancel_run(run)
    if as_json:
        show_json(found)
        return
    shell(ctx).out.print(
        f"{found.id} is {'stopping' if found.state == 'running' else found.state}", markup=False, highlight=False
    )


@app.command("retry")
def retry(
    ctx: typer.Context,
    run: RunId,
    anew: Annotated[bool, typer.Option("--anew", help="Begin from nothing and not from the last checkpoint.")] = False,
    as_json: Json = False,
) -> None:
    """Queues a run again that failed or was cancelled, with the runs that were given up because of it."""
    found = shell(ctx).client.retry_run(run, anew=anew)
    if as_json:
        show_json(found)
        return
    shell(ctx).out.print(
        f"{found.id} waits again; follow it with `vlglab runs watch {found.id}`", markup=False, highlight=False
    )


@app.command("rerun")
def rerun(
    ctx: typer.Context,
    run: RunId,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field, such as voxel_m=0.04.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it shall be called; as the old one by default.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find it by, in place of the old one's.")] = None,
    priority: Annotated[int | None, typer.Option(min=-1000, max=1000, help="Higher runs first.")] = None,
    notes: Annotated[str | None, typer.Option(help="What whoever looks at it should know.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds that an attempt at it may take.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs that it gets.")] = None,
    memory_gb: Annotated[float | None, typer.Option(help="GB of memory that are kept free for it.")] = None,
    unset: Annotated[
        list[Unset] | None,
        typer.Option(help="What was wanted of the old one, and is not of this; may be repeated."),
    ] = None,
    once: Annotated[str | None, typer.Option(help="A name of this re-run: given again, nothing is submitted.")] = None,
    as_json: Json = False,
) -> None:
    """Submits a new run like an old one, on the same inputs, with changes of its spec; prints its id.

    What is not given is as of the old one; `--set FIELD=null` unsets a field of its spec that may be null.
    """
    given: dict[str, Any] = {
        "changes": assignments(change or [], "--set"), "name": name, "tags": tag, "priority": priority, "notes": notes,
        "time_limit_s": time_limit, "gpus": gpus, "memory_gb": memory_gb,
    }  # fmt: skip
    asked = {key: value for key, value in given.items() if value is not None}
    for field in unset or []:
        if field in asked:
            raise InvalidInput(f"got {field.value} both with a value and in --unset; give it once")
    body = schemas.RerunRequest.model_validate({**asked, **dict.fromkeys(map(str, unset or []))})
    at = shell(ctx)
    made = at.client.rerun(run, body, idempotency_key=once)
    plan_files.tell(at, made, "runs", watch=False, as_json=as_json)


@app.command("delete")
def delete(
    ctx: typer.Context,
    run: RunId,
    yes: deleting.Yes = False,
    dry_run: deleting.DryRun = False,
    at_once: deleting.AtOnce = False,
    as_json: Json = False,
) -> None:
    """Deletes a run that has ended, with the artifacts that nothing else uses, after asking."""
    call = shell(ctx).client.delete_run
    deleting.delete(ctx, call, run, yes=yes, dry_run=dry_run, at_once=at_once, as_json=as_json)

"""`vlglab experiments`: whole recipes, submitted, followed and read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from service import schemas
from service.cli import completion, deleting, events, plan_files, run_table, scores
from service.cli.console import Shell, assignments, first, plain_table, shell, show_pairs
from service.cli.datasets import Limit
from service.cli.moments import Since, Until, moment
from service.cli.scripting import Exit, Json, show_json
from service.cli.watching import follow, follow_as_json, outcome, runs_of

app = typer.Typer(no_args_is_help=True, help="Experiments: the runs of a recipe on a dataset.")
app.command("submit-plan")(plan_files.submit_plan)
app.command("events")(events.experiment_events)

ExperimentId = Annotated[str, typer.Argument(help="An experiment's id.", autocompletion=completion.experiments)]


@app.command("submit")
def submit(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(help="Such as 3dss-vlg.")],
    dataset: Annotated[str, typer.Option(help="Name of a registered dataset.", autocompletion=completion.datasets)],
    preset: Annotated[str, typer.Option(help="paper, authors_code, demo or demo-capture.")] = "paper",
    seed: Annotated[int, typer.Option(min=0, help="Seed of whatever draws.")] = 0,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="RUN.FIELD=VALUE", help="Change a field, such as distill.voxel_m=0.05."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it shall be called.")] = None,
    priority: Annotated[int, typer.Option(min=-1000, max=1000, help="Higher runs first.")] = 0,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find its runs by; give it again for more.")] = None,
    notes: Annotated[str, typer.Option(help="What whoever looks at it should know.")] = "",
    time_limit: Annotated[float | None, typer.Option(help="Seconds that an attempt at a run may take.")] = None,
    once: plan_files.Once = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs of each run whose stage uses one.")] = None,
    memory_gb: Annotated[float | None, typer.Option(help="GB of memory that are kept free for each run.")] = None,
    watch: plan_files.Watch = False,
    dry_run: plan_files.DryRun = False,
    as_json: Json = False,
) -> None:
    """Submits an experiment and prints its id."""
    body = schemas.ExperimentRequest(
        recipe=recipe,
        preset=preset,
        dataset=dataset,
        overrides=assignments(override or [], "--set"),
        seed=seed,
        name=name,
        priority=priority,
        tags=tag or [],
        notes=notes,
        time_limit_s=time_limit,
        gpus=gpus,
        memory_gb=memory_gb,
    )
    at = shell(ctx)
    if dry_run:
        plan_files.foreseen(at, at.client.plan(body), as_json=as_json)
        return
    made = at.client.submit(body, idempotency_key=once)
    plan_files.tell(at, made, "experiments", watch=watch, as_json=as_json)
    if watch:
        raise typer.Exit(_watch(at, made.id, as_json=as_json))


@app.command("list")
def list_experiments(
    ctx: typer.Context,
    owner: Annotated[str | None, typer.Option(help="Only those that this person submitted.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Only those of this recipe.")] = None,
    text: Annotated[str | None, typer.Option(help="Only those with this in their id or name.")] = None,
    since: Since = None,
    until: Until = None,
    sort: Annotated[str | None, typer.Option(help="newest or oldest. Default: newest.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Lists experiments, newest first unless told otherwise."""
    wanted: schemas.ExperimentWanted = {
        "owner": owner, "recipe": recipe, "text": text, "sort": sort,
        "created_after": moment(since), "created_before": moment(until),
    }  # fmt: skip
    found = first(shell(ctx).client.experiments(**wanted), limit)
    if as_json:
        show_json(found)
        return
    rows = [(e.id, e.name or "", e.recipe, e.preset, e.dataset, run_table.moment(e.created_at)) for e in found]
    shell(ctx).out.print(plain_table(("id", "name", "recipe", "preset", "dataset", "created"), rows))


@app.command("show")
def show(ctx: typer.Context, experiment: ExperimentId, as_json: Json = False) -> None:
    """Shows an experiment: its runs, and what its predictions scored."""
    at = shell(ctx)
    found = at.client.experiment(experiment)
    if as_json:
        show_json(found)
        return
    show_pairs(
        at.out,
        [
            ("id", found.id),
            ("name", found.name),
            ("recipe", f"{found.recipe}, preset {found.preset}"),
            ("dataset", found.dataset),
            ("created", run_table.moment(found.created_at)),
        ],
    )
    at.out.print()
    at.out.print(run_table.list_table(found.runs, run_table.utc_now()))
    show_scores(at.out, at.client.experiment_evaluations(found.id))


@app.command("watch")
def watch_experiment(
    ctx: typer.Context,
    experiment: ExperimentId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most; exit status 7 beyond.")] = None,
    as_json: Json = False,
) -> None:
    """Follows an experiment's runs until they have ended; exit status 1 if one of them did not succeed.

    Exit status 5 if it is deleted meanwhile. JSON is a line a change of a run's state.
    """
    raise typer.Exit(_watch(shell(ctx), experiment, timeout_s=timeout, as_json=as_json))


@app.command("cancel")
def cancel(ctx: typer.Context, experiment: ExperimentId, as_json: Json = False) -> None:
    """Asks the experiment's runs that have not ended to stop."""
    found = shell(ctx).client.cancel_experiment(experiment)
    if as_json:
        show_json(found)
        return
    shell(ctx).out.print(f"asked the runs of {found.id} to stop", markup=False)


@app.command("retry")
def retry(
    ctx: typer.Context,
    experiment: ExperimentId,
    anew: Annotated[bool, typer.Option("--anew", help="Begin from nothing and not from the last checkpoints.")] = False,
    as_json: Json = False,
) -> None:
    """Queues the experiment's runs again that failed or were cancelled; what has succeeded stays."""
    found = shell(ctx).client.retry_experiment(experiment, anew=anew)
    if as_json:
        show_json(found)
        return
    at = f"vlglab experiments watch {found.id}"
    shell(ctx).out.print(
        f"the runs of {found.id} that had ended badly wait again; follow them with `{at}`", markup=False
    )


@app.command("delete")
def delete(
    ctx: typer.Context,
    experiment: ExperimentId,
    yes: deleting.Yes = False,
    dry_run: deleting.DryRun = False,
    at_once: deleting.AtOnce = False,
    as_json: Json = False,
) -> None:
    """Deletes an experiment whose runs have ended, with them and the artifacts that nothing else uses, after asking."""
    call = shell(ctx).client.delete_experiment
    deleting.delete(ctx, call, experiment, yes=yes, dry_run=dry_run, at_once=at_once, as_json=as_json)


def show_scores(out: Console, evaluations: Sequence[schemas.Evaluation]) -> None:
    """Prints the tables of an experiment's evaluations, or why there are none; nothing where none has run."""
    if not evaluations:
        return
    out.print()
    if (statement := scores.without_scores(evaluations)) is not None:
        out.print(statement, markup=False)
        return
    out.print(scores.summary_table(evaluations))
    out.print(scores.class_table(evaluations))


def _watch(at: Shell, experiment_id: str, *, timeout_s: float | None = None, as_json: bool = False) -> Exit:
    """Follows an experiment's runs, prints its scores where people read, and returns the exit status."""

    def fetch() -> Sequence[schemas.Run]:
        return runs_of(at.client, experiment_id)

    if as_json:
        return outcome(follow_as_json(fetch, timeout_s=timeout_s), at.err)
    runs = follow(fetch, at.out, timeout_s=timeout_s)
    show_scores(at.out, at.client.experiment_evaluations(experiment_id))
    return outcome(runs, at.err)

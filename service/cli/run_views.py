"""`vlglab runs list`, `compare`, `lineage` and `attempts`: looking at many runs at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service import schemas
from service.cli import completion, run_table
from service.cli.console import first, plain_table, shell
from service.cli.datasets import Limit
from service.cli.moments import Since, Until, moment
from service.cli.scores import per_cent
from service.cli.scripting import Json, show_json

app = typer.Typer(no_args_is_help=True, help="Runs: one stage each.")
"""The group of all commands on runs; `runs` adds those that act on one."""

RunId = Annotated[str, typer.Argument(help="A run's id.", autocompletion=completion.runs)]


@app.command("list")
def list_runs(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only runs of this stage.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Only runs of this experiment.", autocompletion=completion.experiments)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only runs that read this dataset.", autocompletion=completion.datasets)
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Only runs that this person submitted.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only runs that have this tag.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only runs with this in their id, name, notes or the reason why they ended.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME>VALUE",
            help="Only runs with such a metric: 'loss<0.5', 'max(accuracy)>=0.9', 'miou>30%'; give it again for more.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    finished_since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only runs that have finished since.")
    ] = None,
    finished_until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only runs that had finished before.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="newest, oldest, finished, priority, highest:METRIC or lowest:METRIC. Default: newest."),
    ] = None,
    fields: Annotated[str | None, typer.Option(help="Only these fields, such as id,state,ended_at.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists runs, newest first unless told otherwise."""
    at = shell(ctx)
    wanted: schemas.RunWanted = {
        "state": state, "stage": stage, "experiment": experiment, "dataset": dataset, "owner": owner, "tag": tag,
        "text": text, "metric": metric or [], "created_after": moment(since), "created_before": moment(until),
        "finished_after": moment(finished_since), "finished_before": moment(finished_until), "sort": sort,
    }  # fmt: skip
    if fields is None:
        found = first(at.client.runs(**wanted), limit)
        if as_json:
            show_json(found)
        else:
            at.out.print(run_table.list_table(found, run_table.utc_now()))
        return
    names = [name.strip() for name in fields.split(",") if name.strip()]
    parts = first(at.client.run_parts(names, **wanted), limit)
    if as_json:
        show_json(parts)
    else:
        headers = list(dict.fromkeys(["id", *names]))
        rows = [[_cell(part.model_dump(mode="json").get(name)) for name in headers] for part in parts]
        at.out.print(plain_table(headers, rows), markup=False)


@app.command("compare")
def compare(
    ctx: typer.Context,
    runs: Annotated[list[str], typer.Argument(help="Ids of 2 to 100 runs.")],
    as_json: Json = False,
) -> None:
    """Shows runs side by side: where their specs differ, their metrics, and what was scored."""
    at = shell(ctx)
    found = at.client.compare(runs)
    if as_json:
        show_json(found)
        return
    ids = [run.id for run in found.runs]
    heads: dict[str, dict[str, Any]] = {
        "name": {run.id: run.name for run in found.runs},
        "stage": {run.id: run.stage for run in found.runs},
        "state": {run.id: run.state for run in found.runs},
        "owner": {run.id: run.owner for run in found.runs if run.owner},
    }
    _print_lines(at.out, "runs", ids, {name: line for name, line in heads.items() if line})
    _print_lines(at.out, "specs, where they differ", ids, found.spec)
    _print_lines(at.out, "metrics, at the last step", ids, found.metrics)
    _print_lines(at.out, "evaluations, in %", ids, _score_lines(found.evaluations))


@app.command("lineage")
def lineage(
    ctx: typer.Context,
    run: RunId,
    depth: Annotated[int, typer.Option(min=1, help="At most so many steps up, and down.")] = 10,
    limit: Annotated[int, typer.Option(min=1, help="At most so many runs.")] = 200,
    as_json: Json = False,
) -> None:
    """Shows what a run was made from and what was made from it, the farthest source first."""
    at = shell(ctx)
    found = at.client.lineage(run, depth=depth, limit=limit)
    if as_json:
        show_json(found)
        return
    table = plain_table(("id", "", "run", "stage", "state", "reads"), ())
    for one in found.runs:
        state = Text(one.state, style=run_table.STYLES.get(one.state, ""))
        reads = [f"{link.port} of {link.source_id}" for link in found.links if link.run_id == one.id]
        steps = "this run" if one.distance == 0 else f"{one.distance:+d}"
        table.add_row(one.id, steps, one.name, one.stage, state, ", ".join(reads))
    at.out.print(table)
    if not found.whole:
        at.out.print("there is more: raise --depth or --limit", style="dim")


@app.command("attempts")
def attempts(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Lists the attempts at a run: where, when, and how each ended."""
    at = shell(ctx)
    found = at.client.attempts(run)
    if as_json:
        show_json(found)
        return
    headers = ("attempt", "state", "host", "process", "claimed", "ended", "reason")
    rows = [
        (
            str(one.number), one.state, one.host or "its owner", "" if one.pid is None else str(one.pid),
            run_table.moment(one.claimed_at), run_table.moment(one.ended_at), one.reason or "",
        )
        for one in found
    ]  # fmt: skip
    at.out.print(plain_table(headers, rows), markup=False)


def _print_lines(out: Console, title: str, ids: Sequence[str], lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a table with a column a run; nothing where there is no line."""
    if not lines:
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for run_id in ids:
        table.add_column(run_id, overflow="fold", min_width=8)
    for name, line in lines.items():
        table.add_row(Text(name), *(Text(_cell(line[run_id]) if run_id in line else "") for run_id in ids))
    out.print(table)
    out.print()


def _score_lines(evaluations: Iterable[schemas.ComparedEvaluation]) -> dict[str, Any]:
    """Lines of mIoU, mAcc and IoU per class of each prediction and set of points, in per cent."""
    lines: dict[str, dict[str, str]] = {}
    for one in evaluations:
        where = f"{one.prediction}, {one.subset}"
        scores = {"mIoU": one.miou, "mAcc": one.macc, **one.iou}
        for name, score in scores.items():
            lines.setdefault(f"{where}: {name}", {})[one.run_id] = per_cent(score)
    return lines


def _cell(value: object) -> str:
    """A value as it stands in a table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

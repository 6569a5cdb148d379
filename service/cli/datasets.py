"""`vlglab datasets`: what there is to work on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from service import schemas
from service.cli import completion
from service.cli.console import Shell, assignments, first, nested, plain_table, shell
from service.cli.run_table import moment
from service.cli.scores import per_cent
from service.cli.scripting import Exit, Json, show_json
from service.cli.watching import follow, outcome
from storage.errors import NotFound, UnknownName

app = typer.Typer(no_args_is_help=True, help="Registered datasets.")

Limit = Annotated[int, typer.Option(min=1, help="At most so many, newest first.")]


@app.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it shall be called.")],
    kind: Annotated[
        str,
        typer.Option(
            help="synthrooms, scannet, s3dis, clouds, rgbd (posed RGB-D in ScanNet's exported layout), or features."
        ),
    ],
    label_set: Annotated[str | None, typer.Option(help="s3dis13 or scannet20; default: its kind's own.")] = None,
    path: Annotated[Path | None, typer.Option(help="Its folder; synthrooms makes its own.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of its kind, such as train_rooms=4.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Registers a dataset. Its folder must lie under a root that the service allows (VLGLAB_DATASET_ROOTS)."""
    body = schemas.DatasetRequest(
        name=name,
        kind=kind,
        path=None if path is None else str(path.expanduser().resolve()),
        label_set=label_set,
        options=nested(assignments(option or [], "--option")),
    )
    added = shell(ctx).client.add_dataset(body)
    if as_json:
        show_json(added)
    else:
        at = shell(ctx)
        at.out.print(f"added the dataset {added.name} at {added.path}", markup=False, soft_wrap=True)
        at.err.print(f"look at it with `vlglab datasets check {added.name}`", markup=False, soft_wrap=True)


@app.command("list")
def list_datasets(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """Lists the registered datasets."""
    found = first(shell(ctx).client.datasets(), limit)
    if as_json:
        show_json(found)
        return
    rows = [(d.name, d.kind, d.label_set, d.path, moment(d.created_at)) for d in found]
    shell(ctx).out.print(plain_table(("name", "kind", "label set", "path", "added"), rows))


@app.command("check")
def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A registered dataset.", autocompletion=completion.datasets)],
    frames: Annotated[
        int, typer.Option(min=1, help="Frames a scene in which depth and visibility are looked at.")
    ] = 32,
    as_json: Json = False,
) -> None:
    """Walks a dataset without computing features: points, frames, poses, depth, visibility, classes, what is missing.

    Ends with status 1 where a scene cannot be read or is warned of.
    """
    at = shell(ctx)
    try:
        dataset = at.client.dataset(name)
    except NotFound as error:
        raise UnknownName(error.message) from error
    spec = {"stage": "inspect", "label_set": dataset.label_set, "max_frames": frames}
    wanted = schemas.RunRequest(name="inspect", spec=spec, dataset=name)
    made = at.client.submit(schemas.RunListRequest(name=f"check {name}", runs=[wanted]))
    run = follow(lambda: at.client.experiment(made.id).runs, at.err)[0]
    if "inspection" not in run.outputs:
        at.err.print(f"the dataset {name} could not be walked: {run.reason or run.state}", markup=False, soft_wrap=True)
        raise typer.Exit(outcome([run], at.err))
    with tempfile.TemporaryDirectory() as folder:
        fetched = at.client.download(run.outputs["inspection"], "scenes.json", Path(folder) / "scenes.json")
        reports = json.loads(fetched.read_text(encoding="utf-8"))
    if as_json:
        show_json(reports)
    else:
        _show_reports(at, reports)
    if any(report["error"] or report["warnings"] for report in reports):
        raise typer.Exit(Exit.FAILED)


def _show_reports(at: Shell, reports: Sequence[Mapping[str, Any]]) -> None:
    """A line a scene, and beneath them what people should look at."""
    rows = [
        (
            report["scene"], report["split"], _cell(report["num_points"]), _cell(report["num_frames"]),
            str(report["invalid_poses"]), per_cent(report["depth_coverage"]), per_cent(report["visible_share"]),
            ", ".join(report["missing"]), ", ".join(report["classes"]),
        )
        for report in reports
    ]  # fmt: skip
    headers = ("scene", "split", "points", "frames", "bad poses", "depth %", "visible %", "missing", "classes")
    at.out.print(plain_table(headers, rows))
    for report in reports:
        lines = [*report["warnings"], *filter(None, [report["error"]])]
        told = {**report["skipped"], **report["notes"]}
        lines += [f"scene {report['scene']}: {reason}: {count}" for reason, count in told.items()]
        for line in lines:
            at.out.print(line, markup=False, highlight=False, soft_wrap=True)


def _cell(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"

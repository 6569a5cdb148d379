"""`vlglab tables`: the paper's tables on a lab's own dataset; our rows are made, and printed beside the paper's.

Rows are those of `table_rows`, experiments are made by `table_experiments`; here are the command, what came of a row,
and how it is shown.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer
from rich.table import Table

from service import schemas
from service.cli import completion, published
from service.cli.console import Shell, assignments, plain_table, shell
from service.cli.scores import per_cent
from service.cli.scripting import Exit, Json, show_json
from service.cli.table_experiments import Ended, completed, moved
from service.cli.table_rows import OURS, ROWS, Ask, Wanted, requests
from service.client import Client
from storage.errors import NotFound, SpecInvalid, UnknownName

app = typer.Typer()

_ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "mini": {},
    "openseg": {"extract.encoder.name": "openseg", "embed_labels.encoder.name": "clip"},
}

_PUBLISHED = {1: published.TABLE_1, 2: published.TABLE_2}
"""Tables that compare methods -> the paper's rows."""

_PAPER_COLUMNS = {2: ("paper, test", "paper, val"), 4: ("paper, mIoU", "paper, mAcc")}
_OUR_COLUMNS = ("mIoU", "mAcc", "without clutter", "runs")


@dataclass(frozen=True, slots=True)
class Result:
    """What a row of ours scored on all points: one value a seed, shares in 0..1."""

    experiments: tuple[str, ...]
    runs: tuple[str, ...]
    """The evaluations' runs, one a seed."""
    miou: tuple[float | None, ...]
    macc: tuple[float | None, ...]
    without_clutter: tuple[float | None, ...]
    """mIoU without the class "clutter" or "otherfurniture", which the method cannot align with text (section 4.6)."""
    num_points: tuple[int, ...]
    """Points with ground truth that were scored."""
    failed: tuple[str, ...]
    """Experiments that failed or were cancelled: their seeds have no score."""


Row = tuple[Ask, Result]


@app.command("tables")
def tables(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(min=1, max=5, help="Number of the paper's table.")],
    dataset: Annotated[str, typer.Option(help="Name of a registered dataset.", autocompletion=completion.datasets)],
    target: Annotated[
        str | None, typer.Option(help="Table 4: the other dataset.", autocompletion=completion.datasets)
    ] = None,
    preset: Annotated[str, typer.Option(help="paper, authors_code, demo or demo-capture.")] = "paper",
    encoder: Annotated[
        str,
        typer.Option(
            help="mini, a small stand-in that ships with vlglab and no foundation model; or openseg (with CLIP's text "
            "tower), as the paper has it."
        ),
    ] = "mini",
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="RUN.FIELD=VALUE", help="Change a field in every row that has the run."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Trainings a row, with seeds from 0.")] = 1,
    submission: Annotated[
        bool, typer.Option("--submission", help="Also write every row's prediction as files for ScanNet's test server.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prints one of the paper's tables: our rows on a dataset, beside the paper's on its own.

    What is missing or was made otherwise is computed; the column "without clutter" is the mIoU over the other classes.
    An experiment that fails leaves its row without that seed's score, and the command with status 1.
    """
    if (number == 4) != (target is not None):
        raise SpecInvalid("table 4 trains on --dataset and tests on --target; the other tables take no --target")
    if encoder not in _ENCODERS:
        raise UnknownName.among("encoder", encoder, _ENCODERS)
    at = shell(ctx)
    changes = assignments(override or [], "--set")
    wanted = Wanted(preset, tuple(range(seeds)), _ENCODERS[encoder], changes, submission)
    rows = compared(at, number, dataset, wanted) if target is None else generalised(at, (dataset, target), wanted)
    if as_json:
        about = {"table": number, "dataset": dataset, "target": target, "preset": preset, "encoder": encoder}
        theirs = [asdict(row) for row in _PUBLISHED.get(number, ())]
        document = {**about, "overrides": wanted.fields, "published": theirs, "rows": [_flat(row) for row in rows]}
        show_json(document)
        _judge(at, number, rows)
        return
    on = dataset if target is None else f"{dataset} and {target}"
    at.out.print(f"Table {number} on {on}; {_how(wanted)}. The paper's figures are those on its own data.")
    at.out.print(_printed(number, rows))
    _judge(at, number, rows)


def _judge(at: Shell, number: int, rows: Sequence[Row]) -> None:
    """Says on stderr what keeps rows from being compared: scores on other points, experiments without an end.

    Raises:
        typer.Exit: an experiment failed or was cancelled.
    """
    scored = {ask.label: max(result.num_points) for ask, result in rows if result.num_points}
    if number != 4 and len(set(scored.values())) > 1:
        each = ", ".join(f"{label}: {points:,}" for label, points in scored.items())
        at.err.print(f"these rows are not scored on the same points, so they do not compare: {each}", markup=False)
    if failed := [experiment for _, result in rows for experiment in result.failed]:
        at.err.print(f"without a score: {', '.join(failed)}; see `vlglab experiments show`, then ask again")
        raise typer.Exit(Exit.FAILED)


def compared(at: Shell, number: int, dataset: str, wanted: Wanted) -> list[Row]:
    """Tables 1, 2, 3 and 5: the rows of a table, each trained and tested on one dataset."""
    asked = requests(ROWS[number], at.client.dataset(dataset), wanted)
    ended = iter(completed(at, [request for row in asked for request in row]))
    return [
        (ask, _result(at.client, ask, [next(ended) for _ in row])) for ask, row in zip(ROWS[number], asked, strict=True)
    ]


def generalised(at: Shell, between: tuple[str, str], wanted: Wanted) -> list[Row]:
    """Table 4, both ways: a network trained on one dataset, tested on the other through text alone, on all points.

    Args:
        at: the client and the console.
        between: names of the two datasets.
        wanted: preset, encoder, overrides and seeds of both trainings.

    Raises:
        SpecInvalid: it is one dataset.
        NotFound: one is not registered.
    """
    if between[0] == between[1]:
        raise SpecInvalid(f"table 4 needs two datasets, got {between[0]} twice; see `vlglab datasets list`")
    first, second = (at.client.dataset(name) for name in between)
    asked = [*requests(ROWS[4], first, wanted)[0], *requests(ROWS[4], second, wanted)[0]]
    made = completed(at, asked)
    there, back = made[: len(wanted.seeds)], made[len(wanted.seeds) :]
    ways = ((_across(first, second), there, back), (_across(second, first), back, there))
    again = [
        moved(at.client, f"{ask.label} {seed}", one.id, other.id)
        for ask, trained, native in ways
        for seed, one, other in zip(wanted.seeds, trained, native, strict=True)
        if one.well and other.well
    ]
    ended = iter(completed(at, again))
    rows = []
    for ask, trained, native in ways:
        pairs = list(zip(trained, native, strict=True))
        moves = [next(ended) for one, other in pairs if one.well and other.well]
        rows.append((ask, _result(at.client, ask, [*moves, *(one for pair in pairs for one in pair if not one.well)])))
    return rows


def _across(source: schemas.Dataset, goal: schemas.Dataset) -> Ask:
    """A row of Table 4, with the paper's figures where it has these two label sets."""
    miou, macc = published.TABLE_4.get((source.label_set, goal.label_set), (None, None))
    return replace(OURS, label=f"{source.name} -> {goal.name}", prediction="moved", paper=miou, paper_macc=macc)


def _result(client: Client, ask: Ask, ended: Sequence[Ended]) -> Result:
    """What a row's experiments scored on all points, as section 4.1 does; those that did not end well scored nothing.

    Raises:
        NotFound: an experiment has no such score.
    """
    found = []
    experiments = tuple(one.id for one in ended if one.well)
    for experiment in experiments:
        scored = [
            row
            for row in client.experiment_evaluations(experiment)
            if (row.prediction, row.subset) == (ask.prediction, "all")
        ]
        if not scored:
            raise NotFound(f"the experiment {experiment} has no score of {ask.prediction!r} on all points")
        found.append(scored[0])
    return Result(
        experiments,
        tuple(row.run_id for row in found),
        tuple(row.miou for row in found),
        tuple(row.macc for row in found),
        tuple(_without_clutter(row) for row in found),
        tuple(row.num_points for row in found),
        tuple(one.id for one in ended if not one.well),
    )


def _without_clutter(row: schemas.Evaluation) -> float | None:
    """The mean IoU over the classes that occur, "clutter" and "otherfurniture" apart."""
    known = [c.iou for c in row.classes if c.name not in ("clutter", "otherfurniture") and c.iou is not None]
    return statistics.fmean(known) if known else None


def _flat(row: Row) -> dict[str, Any]:
    """A row for machines: the paper's figures in per cent, ours as shares."""
    ask, result = row
    shown = ("label", "effort", "supervision", "paper", "paper_test", "paper_macc")
    return {**{name: getattr(ask, name) for name in shown}, **asdict(result)}


def _how(wanted: Wanted) -> str:
    """Preset, encoder and overrides in words."""
    encoder = wanted.fields.get("extract.encoder.name", "mini")
    said = "mini (a stand-in, not a foundation model)" if encoder == "mini" else encoder
    changed = [f"{path}={json.dumps(value)}" for path, value in wanted.overrides.items()]
    return ", ".join([f"preset {wanted.preset}", f"encoder {said}", *changed])


def _printed(number: int, rows: Sequence[Row]) -> Table:
    """The table for people: the paper's rows first where it compares methods, then ours with the paper's figure."""
    theirs = _PUBLISHED.get(number)
    columns = (*_PAPER_COLUMNS.get(number, ("paper",)), *_OUR_COLUMNS)
    lines = []
    for ask, result in rows:
        label = (ask.label,) if theirs is None else (ask.label, ask.effort, ask.supervision)
        ours = [_spread(values) for values in (result.miou, result.macc, result.without_clutter)]
        runs = [*result.runs, *(f"{experiment} failed" for experiment in result.failed)]
        lines.append((*label, *_paper(number, ask), *ours, ", ".join(runs)))
    if theirs is None:
        return plain_table(("row", *columns), lines)
    blank = ("",) * len(_OUR_COLUMNS)
    methods = []
    for row in theirs:
        figures = (row.test, row.val) if number == 2 else (row.test,)
        methods.append((row.method, row.effort, row.supervision, *map(_figure, figures), *blank))
    return plain_table(("method", "label effort", "supervision", *columns), [*methods, *lines])


def _paper(number: int, ask: Ask) -> list[str]:
    """The paper's figures for a row of ours, under the table's columns."""
    figures = {2: (ask.paper_test, ask.paper), 4: (ask.paper, ask.paper_macc)}.get(number, (ask.paper,))
    return [_figure(value) for value in figures]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _spread(values: Sequence[float | None]) -> str:
    """Mean and deviation in per cent over the seeds that have a value."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = per_cent(statistics.fmean(known))
    return mean if len(known) == 1 else f"{mean} ± {per_cent(statistics.stdev(known))}"

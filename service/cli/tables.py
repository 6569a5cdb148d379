"""`vlglab tables`: the paper's tables as experiments; submits what is missing, waits, and prints our rows beside its.

What a row needs is found again by what was asked for (recipe, dataset, preset, overrides, seed), so that a command
that was stopped goes on where it was, and rows that two tables share are computed once.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table

from service import schemas
from service.cli import published
from service.cli.console import Shell, plain_table, shell
from service.cli.datasets import Json
from service.cli.scores import per_cent
from service.cli.watching import follow
from service.client import Client
from storage.errors import SpecInvalid, UnknownName

_ENDED_BADLY = ("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a row asks of the service: an experiment a seed."""

    label: str
    recipe: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    paper: float | None = None
    """The paper's mIoU in per cent, on its own data."""
    prediction: str = "ours"
    effort: str = "< 1 min"
    supervision: str = "scene"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How every row of a table is made."""

    preset: str
    overrides: Mapping[str, Any]
    """Of the encoder."""
    seeds: tuple[int, ...]


_ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "mini": {},
    "openseg": {"extract.encoder.name": "openseg", "embed_labels.encoder.name": "clip"},
}


@dataclass(frozen=True, slots=True)
class Result:
    """A row of ours: one value a seed, shares in 0..1."""

    label: str
    paper: float | None
    experiments: tuple[str, ...]
    runs: tuple[str, ...]
    """The evaluations' runs, one a seed."""
    miou: tuple[float | None, ...]
    macc: tuple[float | None, ...]
    without_clutter: tuple[float | None, ...]
    """mIoU without the class "clutter" or "otherfurniture" (section 4.6)."""


_OURS = Ask("3DSS-VLG (ours)", "3dss-vlg")
_BOUND = Ask("MinkowskiNet (ours)", "supervised", prediction="supervised", effort="> 20 min", supervision="100%")

ROWS: Mapping[int, Sequence[Ask]] = {
    1: (_BOUND, Ask("CAM (ours)", "cam"), _OURS),
    2: (_BOUND, Ask("CAM (ours)", "cam"), _OURS),
    3: (
        Ask("(a)", "ablation-a", paper=published.TABLE_3["a"]),
        Ask("(b) ESGS", "ablation-b", paper=published.TABLE_3["b"]),
        Ask("(c) filtering", "ablation-c", paper=published.TABLE_3["c"]),
        Ask("(d) ESGS, filtering, ESS", "3dss-vlg", paper=published.TABLE_3["d"]),
        Ask("supervised", "supervised", prediction="supervised"),
    ),
    5: (
        *(
            Ask(
                arch,
                "3dss-vlg",
                {} if arch.endswith("18A") else {"distill.network.arch": arch},
                published.TABLE_5[arch],
            )
            for arch in ("MinkUNet14A", "MinkUNet18A", "MinkUNet34A")
        ),
        Ask(
            "adapter: transformer",
            "3dss-vlg",
            {"specialize.adapter.kind": "transformer"},
            published.TABLE_5["transformer"],
        ),
        Ask("adapter: MLP", "3dss-vlg", paper=published.TABLE_5["mlp"]),
    ),
}
"""Table -> what its rows ask for. Table 4 asks for table 3's row d on two datasets, and is built in `generalise`."""


def tables(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(min=1, max=5, help="Number of the paper's table.")],
    dataset: Annotated[str, typer.Option(help="Name of a registered dataset.")],
    target: Annotated[str | None, typer.Option(help="Table 4: the other dataset.")] = None,
    preset: Annotated[str, typer.Option(help="paper, authors_code, demo or demo-capture.")] = "paper",
    encoder: Annotated[str, typer.Option(help="mini, or openseg (with CLIP's text tower).")] = "mini",
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Trainings a row, with seeds from 0.")] = 1,
    as_json: Json = False,
) -> None:
    """Prints one of the paper's tables: our rows on a dataset, beside the paper's on its own."""
    if (number == 4) != (target is not None):
        raise SpecInvalid("table 4 trains on --dataset and tests on --target; the other tables take no --target")
    at = shell(ctx)
    if encoder not in _ENCODERS:
        raise UnknownName.among("encoder", encoder, _ENCODERS)
    wanted = Wanted(preset, _ENCODERS[encoder], tuple(range(seeds)))
    if target is not None:
        results = [generalise(at, pair, wanted) for pair in ((dataset, target), (target, dataset))]
    else:
        made = [_experiments(at.client, ask, dataset, wanted) for ask in ROWS[number]]
        _wait(at, [one for several in made for one in several])
        results = [_result(at.client, ask, found) for ask, found in zip(ROWS[number], made, strict=True)]
    if as_json:
        at.out.print_json(json.dumps({"table": number, "rows": [asdict(row) for row in results]}))
        return
    at.out.print(_printed(number, results))


def generalise(at: Shell, between: tuple[str, str], wanted: Wanted) -> Result:
    """Table 4: a network trained on one dataset, tested on the other through text alone, on all points.

    Args:
        at: the client and the console.
        between: name of the dataset trained on, and of the one tested on.
        wanted: preset, encoder and seeds of both trainings.
    """
    client = at.client
    sets = {one.name: one for one in client.datasets() if one.name in between}
    if len(sets) != 2:
        raise SpecInvalid(f"table 4 needs two registered datasets, got {' and '.join(between)}; see `datasets list`")
    paper = published.TABLE_4.get((sets[between[0]].label_set, sets[between[1]].label_set))
    ask = Ask(f"{between[0]} -> {between[1]}", "3dss-vlg", paper=paper[0] if paper else None, prediction="moved")
    trained, native = (_experiments(client, _OURS, name, wanted) for name in between)
    _wait(at, [*trained, *native])
    moved = [_moved(client, one, two) for one, two in zip(trained, native, strict=True)]
    _wait(at, moved)
    return _result(client, ask, moved)


def _moved(client: Client, trained: str, native: str) -> str:
    """An experiment that predicts `native`'s held-out scenes by `trained`'s network, with `native`'s own text."""
    name = f"{trained} on {native}"
    known = next((e for e in client.experiments() if e.name == name and e.state not in _ENDED_BADLY), None)
    if known is not None:
        return known.id
    network = {run.name: run for run in client.experiment(trained).runs}["distill"]
    runs = {run.name: run for run in client.experiment(native).runs}

    def of(run: schemas.Run, output: str) -> schemas.InputRequest:
        return schemas.InputRequest(run=run.id, output=output)

    scenes = of(runs["ingest"], "scenes")
    predict = schemas.RunRequest(
        name="predict",
        spec=runs["predict"].spec,
        inputs={
            "scenes": scenes,
            "network": of(network, "network"),
            "text_embeddings": of(runs["embed_labels"], "text_embeddings"),
        },
    )
    evaluate = schemas.RunRequest(
        name="evaluate",
        spec=runs["evaluate"].spec,
        inputs={
            "scenes": scenes,
            "ground_truth": of(runs["ingest"], "ground_truth"),
            "coverage": of(runs["extract"], "embeddings"),
            "predictions.moved": schemas.InputRequest(run="predict", output="labels"),
        },
    )
    return client.submit(schemas.RunListRequest(name=name, runs=[predict, evaluate])).id


def _experiments(client: Client, ask: Ask, dataset: str, wanted: Wanted) -> list[str]:
    """The ids of a row's experiments, one a seed."""
    changed = replace(ask, overrides={**wanted.overrides, **ask.overrides})
    return [_experiment(client, changed, dataset, wanted.preset, seed) for seed in wanted.seeds]


def _experiment(client: Client, ask: Ask, dataset: str, preset: str, seed: int) -> str:
    """The id of the experiment that a row needs: one that was asked for before and has not failed, or a new one."""
    overrides = dict(ask.overrides)
    for known in client.experiments():
        same = (known.recipe, known.dataset, known.preset) == (ask.recipe, dataset, preset)
        asked = known.request
        same = same and (asked.get("overrides", {}), asked.get("seed", 0)) == (overrides, seed)
        if same and known.state not in _ENDED_BADLY:
            return known.id
    body = schemas.ExperimentRequest(
        recipe=ask.recipe, dataset=dataset, preset=preset, overrides=overrides, seed=seed, name=f"{ask.label} {seed}"
    )
    return client.submit(body).id


def _wait(at: Shell, experiments: Sequence[str]) -> None:
    """Follows experiments, one after the other, until all have ended; stops at one that did not end well.

    Raises:
        typer.Exit: an experiment failed or was cancelled; its runs say why.
    """
    for experiment in dict.fromkeys(experiments):
        if at.client.experiment(experiment).state == "succeeded":
            continue
        runs = follow(partial(_runs, at.client, experiment), at.err)
        if any(run.state in _ENDED_BADLY for run in runs):
            at.err.print(f"the experiment {experiment} did not end well: vlglab experiments show {experiment}")
            raise typer.Exit(1)


def _runs(client: Client, experiment: str) -> Sequence[schemas.Run]:
    return client.experiment(experiment).runs


def _result(client: Client, ask: Ask, experiments: Sequence[str]) -> Result:
    """What a row's experiments scored on all points, as section 4.1 does."""
    found = []
    for experiment in experiments:
        rows = client.experiment_evaluations(experiment)
        found.append(next(row for row in rows if (row.prediction, row.subset) == (ask.prediction, "all")))
    return Result(
        ask.label,
        ask.paper,
        tuple(experiments),
        tuple(row.run_id for row in found),
        tuple(row.miou for row in found),
        tuple(row.macc for row in found),
        tuple(_without_clutter(row) for row in found),
    )


def _without_clutter(row: schemas.Evaluation) -> float | None:
    """The mean IoU over the classes that occur, "clutter" and "otherfurniture" apart."""
    known = [c.iou for c in row.classes if c.name not in ("clutter", "otherfurniture") and c.iou is not None]
    return statistics.fmean(known) if known else None


def _printed(number: int, results: Sequence[Result]) -> Table:
    """The table for people: the paper's rows first where it has methods, then ours."""
    rows = []
    for ours in results:
        scores = (_spread(values) for values in (ours.miou, ours.macc, ours.without_clutter))
        rows.append((ours.label, _paper(ours.paper), *scores, ", ".join(ours.runs)))
    theirs = {1: published.TABLE_1, 2: published.TABLE_2}.get(number, ())
    asked = {ask.label: ask for ask in ROWS.get(number, ())}
    if not theirs:
        return plain_table(("row", "paper", "mIoU", "mAcc", "without clutter", "runs"), rows)
    printed = [(p.method, p.effort, p.supervision, _paper(p.test), _paper(p.val), "") for p in theirs]
    for ours in results:
        ask = asked[ours.label]
        printed.append((ours.label, ask.effort, ask.supervision, "", _spread(ours.miou), ", ".join(ours.runs)))
    return plain_table(("method", "effort", "supervision", "test", "val / ours", "runs"), printed)


def _paper(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _spread(values: Sequence[float | None]) -> str:
    """Mean and deviation in per cent over the seeds that have a value."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = per_cent(statistics.fmean(known))
    return mean if len(known) == 1 else f"{mean} ± {per_cent(statistics.stdev(known))}"

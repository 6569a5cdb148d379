"""`vlglab runs picture`: the four panels and the coloured point clouds of any run that gave points classes.

Knows from a run's inputs which `report` draws it: the same scenes, their ground truth, and the 2D projection beside a
3D prediction where the scenes' embeddings are there. What was drawn before is `cached`. Speaks only HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service import schemas
from service.cli import completion, run_files, run_table
from service.cli.console import shell
from service.cli.scripting import Json, show_json
from service.cli.watching import follow, outcome
from service.client import Client
from service.waiting import FINAL
from storage.errors import InvalidInput
from storage.specs.stages import STAGES

MAX_SCENES = 3
"""Rooms drawn where nothing else is asked for."""
SUFFIXES = (".png", ".ply")
"""Files of a report that are fetched."""

Inputs = Mapping[str, schemas.InputRequest]


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a run is drawn; None takes what fits the run."""

    splits: tuple[str, ...] | None = None
    max_scenes: int | None = None
    projection: bool = True
    """Whether the 2D projection gets a panel beside what the run made."""


def picture(
    ctx: typer.Context,
    run: Annotated[
        str,
        typer.Argument(
            help="Id of a run that made labels, or that evaluated or drew some.", autocompletion=completion.runs
        ),
    ],
    splits: Annotated[
        list[str] | None, typer.Option(help="train or test, may be repeated; default: test where the run has it.")
    ] = None,
    max_scenes: Annotated[
        int | None, typer.Option(min=1, help="Rooms drawn, the first ones; default 3.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; default: picture-RUN.")] = None,
    without_2d: Annotated[bool, typer.Option("--without-2d", help="Leave out the panel of the 2D projection.")] = False,
    as_json: Json = False,
) -> None:
    """Draws what a run predicted, and fetches the picture and the coloured PLY files."""
    at = shell(ctx)
    asked = _ended(at.client, run, at.err)
    choice = Choice(None if splits is None else tuple(splits), max_scenes, not without_2d)
    runs = report_runs(at.client, asked, choice)
    made = at.client.submit(schemas.RunListRequest(name=f"picture of {asked.id}", runs=runs))
    report = follow(lambda: at.client.experiment(made.id).runs, at.err)[-1]
    if report.state not in run_table.GOOD:
        at.err.print(f"the picture could not be drawn: {report.reason or report.state}", markup=False, soft_wrap=True)
        raise typer.Exit(outcome([report], at.err))
    drawn = [file for file in at.client.run_files(report.id) if file.name.endswith(SUFFIXES)]
    files = run_files.fetch(at.client, drawn, out or Path(f"picture-{asked.id}"))
    if as_json:
        document = {"run": report.id, "state": report.state, "files": [str(file) for file in files]}
        show_json(document)
        return
    clouds = [file for file in files if file.suffix == ".ply"]
    facts = [("picture", str(file)) for file in files if file not in clouds]
    facts += [("clouds", f"{file.parent} ({len(clouds)} coloured PLY files)") for file in clouds[:1]]
    for name, fact in [*facts, ("run", f"{report.id} ({report.state})")]:
        at.out.print(f"{name:<8} {fact}", markup=False, highlight=False, soft_wrap=True)


def report_runs(client: Client, run: schemas.Run, choice: Choice) -> list[schemas.RunRequest]:
    """The runs that draw what a run made: a `report`, and before it what labels the 2D projection, where it can.

    Args:
        client: reads what the run's inputs are, and where the ground truth of its scenes lies.
        run: one that has ended well.
        choice: what of it is drawn.

    Raises:
        InvalidInput: it made nothing that can be drawn, or nothing in the splits.
    """
    if run.stage in ("report", "evaluate"):
        return [_again(run, choice)]
    output = next((name for name, kind in _outputs(run).items() if kind == "labels"), None)
    if output is None:
        raise InvalidInput(_nothing_to_draw(client, run))
    scenes = _scenes(client, run, output, choice)
    splits = sorted(set(scenes.values()))
    name = "3d" if run.stage == "predict" else "2d_filtered" if run.spec.get("filtering", True) else "2d_text"
    predictions = {f"predictions.{name}": schemas.InputRequest(artifact=run.outputs[output])}
    before = []
    drawn = list(scenes)[: choice.max_scenes or MAX_SCENES]
    projected = _projection(client, run, drawn) if choice.projection and name != "2d_text" else None
    if projected is not None:
        spec = {"stage": "pseudo_label", "filtering": False, "splits": splits}
        before.append(schemas.RunRequest(name="label_text", spec=spec, inputs=projected))
        predictions["predictions.2d_text"] = schemas.InputRequest(run="label_text", output="labels")
    inputs = {"scenes": _artifact(run.inputs["scenes"]), "ground_truth": _truth(client, run), **predictions}
    spec = {"stage": "report", "splits": splits, "max_scenes": choice.max_scenes or MAX_SCENES}
    return [*before, schemas.RunRequest(name="report", spec=spec, inputs=inputs)]


def _ended(client: Client, run_id: str, console: Console) -> schemas.Run:
    """The run, once it has ended well.

    Raises:
        InvalidInput: it failed or was cancelled.
    """
    run = client.run(run_id)
    if run.state not in FINAL:
        (run,) = follow(lambda: [client.run(run_id)], console)
    if run.state not in run_table.GOOD:
        raise InvalidInput(
            f"the run {run.id} ({run.name}) is {run.state} and made nothing to draw: {run.reason or 'nobody knows why'}"
            "; draw one that succeeded"
        )
    return run


def _again(run: schemas.Run, choice: Choice) -> schemas.RunRequest:
    """The report of what a run evaluated or drew; of what it drew the very same where nothing else is chosen."""
    spec = dict(run.spec) if run.stage == "report" else {"stage": "report", "splits": run.spec["splits"]}
    if choice.splits:
        spec["splits"] = choice.splits
    if choice.max_scenes:
        spec["max_scenes"] = choice.max_scenes
    inputs = {port: _artifact(source) for port, source in run.inputs.items() if port != "coverage"}
    return schemas.RunRequest(name="report", spec=spec, inputs=inputs)


def _nothing_to_draw(client: Client, run: schemas.Run) -> str:
    """Why a run cannot be drawn, and which runs of its experiment can."""
    made = ", ".join(f"{name} ({kind})" for name, kind in _outputs(run).items()) or "nothing"
    mates = client.experiment(run.experiment_id).runs if run.experiment_id else []
    able = [one for one in mates if one.stage in ("evaluate", "report") or "labels" in _outputs(one).values()]
    instead = ", ".join(
        f"{one.id} ({one.name}, {one.state})" for one in able if one.state not in ("failed", "cancelled")
    )
    advice = f"draw one of its experiment: {instead}" if instead else "draw a run of pseudo_label or predict"
    return f"the run {run.id} (stage {run.stage}) made {made}, which cannot be drawn; {advice}"


def _scenes(client: Client, run: schemas.Run, output: str, choice: Choice) -> dict[str, str]:
    """Scene -> split, of the scenes of a run's labels that are to be drawn.

    Raises:
        InvalidInput: it has none in the splits.
    """
    splits: dict[str, str] = client.artifact(run.outputs[output]).attributes["splits"]
    wanted = choice.splits or (("test",) if "test" in splits.values() else tuple(splits.values()))
    found = [scene for scene in splits if splits[scene] in wanted]
    if not found:
        there = ", ".join(sorted(set(splits.values()))) or "no split"
        raise InvalidInput(f"the run {run.id} labelled scenes of {there}, none of {', '.join(wanted)}; see --splits")
    return {scene: splits[scene] for scene in found}


def _projection(client: Client, run: schemas.Run, scenes: Iterable[str]) -> Inputs | None:
    """The inputs of the 2D projection of scenes, classified by the text that a run used; None where nothing is lifted.

    A run that read no embeddings finds those of its own experiment, or of the experiment that made its scenes.
    """
    text = run.inputs["text_embeddings"]
    found = {"scenes": _artifact(run.inputs["scenes"]), "text_embeddings": _artifact(text)}
    if "embeddings" in run.inputs:
        return {**found, "embeddings": _artifact(run.inputs["embeddings"])}
    mates = (run.experiment_id, _maker(client, run.inputs["scenes"]).experiment_id)
    for experiment in dict.fromkeys(one for one in mates if one is not None):
        for extract in client.runs(experiment=experiment, stage="extract"):
            if extract.inputs["scenes"].artifact_key != run.inputs["scenes"].artifact_key or not extract.outputs:
                continue
            key = extract.outputs["embeddings"]
            lifted, words = client.artifact(key).attributes, client.artifact(str(text.artifact_key)).attributes
            if lifted["dimension"] == words["dimension"] and set(scenes) <= set(lifted["splits"]):
                return {**found, "embeddings": schemas.InputRequest(artifact=key)}
    return None


def _truth(client: Client, run: schemas.Run) -> schemas.InputRequest:
    """The ground truth that was ingested with a run's scenes."""
    maker = _maker(client, run.inputs["scenes"])
    if "ground_truth" not in maker.outputs:
        raise InvalidInput(
            f"the scenes of the run {run.id} come from {maker.id} ({maker.stage}), which gave no ground truth; submit "
            "a run of `report` with the inputs that you choose"
        )
    return schemas.InputRequest(artifact=maker.outputs["ground_truth"])


def _maker(client: Client, source: schemas.RunInput) -> schemas.Run:
    """The run that an input comes from."""
    return client.run(source.run_id or client.artifact(str(source.artifact_key)).run_id)


def _artifact(source: schemas.RunInput) -> schemas.InputRequest:
    """An input of a run that has ended, for another run."""
    return schemas.InputRequest(artifact=source.artifact_key)


def _outputs(run: schemas.Run) -> Mapping[str, str]:
    """Output -> kind, of the stage of a run."""
    return STAGES[run.stage].outputs if run.stage in STAGES else {}

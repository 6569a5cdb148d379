"""`vlglab features pull`, `repair` and `import`: what others have computed; the work is a run of this lab's workers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import completion
from service.cli.console import shell
from service.cli.plan_files import submit_one
from service.cli.raw_datasets import RawDataset, dataset_of
from service.cli.scripting import Json
from service.schemas import RunRequest

Key = Annotated[str, typer.Argument(help="The artifact's key, as `vlglab features list` shows it.")]
Connections = Annotated[int, typer.Option(min=1, max=32, help="Files that are fetched at once.")]
Background = Annotated[bool, typer.Option("--no-watch", help="Return when it is submitted.")]


def pull(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="URL", help="Another service, or a folder that is a store.")],
    key: Key,
    scene: Annotated[list[str] | None, typer.Option(help="Only this scene, or these; default all.")] = None,
    digest: Annotated[
        str | None, typer.Option(help="BLAKE3 that the artifact's manifest must have, as its publisher says.")
    ] = None,
    connections: Connections = 4,
    no_watch: Background = False,
    as_json: Json = False,
) -> None:
    """Copies an artifact into this service's store, verified, under the key that it has there.

    VLGLAB_PULL_HOSTS must allow the host. What is here already is not fetched; a run that was cut off goes on where it
    was (`vlglab runs retry`). The output of the run is named as the artifact's kind.
    """
    spec: dict[str, Any] = {"stage": "pull", "source": source, "artifact": key, "connections": connections}
    if scene:
        spec["scenes"] = scene
    if digest is not None:
        spec["manifest_digest"] = digest
    request = RunRequest(name=f"pull-{key[:12]}", spec=spec)
    submit_one(shell(ctx), request, None, watch=not no_watch, as_json=as_json)


def repair(
    ctx: typer.Context,
    key: Key,
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="A service or a folder that has it.")
    ] = None,
    dataset: RawDataset = None,
    connections: Connections = 4,
    no_watch: Background = False,
    as_json: Json = False,
) -> None:
    """Mends the files of an artifact that are damaged or gone; the rest stays as it is.

    They are fetched (--from), or else made again here: where that gives other bytes, which another machine may, nothing
    is replaced, and the run's output is an artifact of another key with the new parts.
    """
    at = shell(ctx)
    spec = {"stage": "repair", "source": source, "artifact": key, "connections": connections}
    raw = dataset_of(at, key) if source is None and dataset is None else dataset
    request = RunRequest(name=f"repair-{key[:12]}", spec=spec, dataset=raw)
    submit_one(at, request, None, watch=not no_watch, as_json=as_json)


def import_features(
    ctx: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A dataset of kind features: a folder of fused features (`vlglab datasets add NAME --kind features`).",
            autocompletion=completion.datasets,
        ),
    ],
    scenes: Annotated[str, typer.Option(help="Key of the scenes that they were fused for, points in that order.")],
    encoder: Annotated[str, typer.Option(help="What embedded the pictures, as whoever shared them says.")] = "openseg",
    dtype: Annotated[str, typer.Option(help="Type to store them in: float16, int8 or float32.")] = "float16",
    split: Annotated[list[str] | None, typer.Option(help="Only scenes of this split, or these; default all.")] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Go on without scenes that have no file.")] = False,
    no_watch: Background = False,
    as_json: Json = False,
) -> None:
    """Takes in fused features that somebody else has computed, OpenScene's .pt files or .npy, as a feature store.

    The other way, out to files for OpenScene's trainer, goes `python -m workers features export KEY FOLDER` on a
    machine that has the store.
    """
    spec: dict[str, Any] = {"stage": "import_features", "encoder": encoder, "dtype": dtype}
    if split:
        spec["splits"] = split
    if leave_out:
        spec["missing"] = "leave_out"
    inputs = {"scenes": {"artifact": scenes}}
    request = RunRequest.model_validate(
        {"name": f"import-{dataset}"[:100], "spec": spec, "inputs": inputs, "dataset": dataset}
    )
    submit_one(shell(ctx), request, None, watch=not no_watch, as_json=as_json)

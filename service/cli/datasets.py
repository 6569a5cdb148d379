"""`vlglab datasets` and `vlglab features`: what there is to work on, and what was computed from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import schemas
from service.cli.console import assignments, first, nested, plain_table, shell, show_json
from service.cli.run_table import moment, size

app = typer.Typer(no_args_is_help=True, help="Registered datasets.")
features_app = typer.Typer(no_args_is_help=True, help="Published per-point embeddings.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, newest first.")]


@app.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it shall be called.")],
    kind: Annotated[str, typer.Option(help="synthrooms, or rgbd for posed RGB-D in ScanNet's exported layout.")],
    label_set: Annotated[str, typer.Option(help="s3dis13 or scannet20.")],
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
        shell(ctx).out.print(f"added the dataset {added.name} at {added.path}", markup=False, soft_wrap=True)


@app.command("list")
def list_datasets(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """Lists the registered datasets."""
    found = first(shell(ctx).client.datasets(), limit)
    if as_json:
        show_json(found)
        return
    rows = [(d.name, d.kind, d.label_set, d.path, moment(d.created_at)) for d in found]
    shell(ctx).out.print(plain_table(("name", "kind", "label set", "path", "added"), rows))


@features_app.command("list")
def list_features(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """Lists published embeddings: their key, how many rooms and points they cover, and what embedded them."""
    found = first(shell(ctx).client.features(), limit)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            a.key,
            str(a.num_scenes),
            f"{a.num_points:,}",
            size(a.num_bytes),
            a.encoder_title or "",
            moment(a.created_at),
        )
        for a in found
    ]
    shell(ctx).out.print(plain_table(("key", "rooms", "points", "size", "encoder", "published"), rows))

"""`vlglab runs files`: the plain files that a run wrote, listed and fetched; other commands fetch by `fetch` too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from service import schemas
from service.cli import run_table
from service.cli.console import plain_table, shell
from service.cli.run_views import RunId
from service.cli.scripting import Json, show_json
from service.client import Client
from storage.errors import InvalidInput, NotFound


def files(
    ctx: typer.Context,
    run: RunId,
    name: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only such files, as '*.txt'; give it again for more.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Fetch them into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Lists the plain files that a run wrote (pictures, point clouds, submissions, checkpoints), or fetches them."""
    at = shell(ctx)
    found = chosen(at.client.run_files(run), name, run)
    if out is None:
        if as_json:
            show_json(found)
        else:
            rows = [(file.name, file.output, file.scene, run_table.size(file.num_bytes)) for file in found]
            at.out.print(plain_table(("name", "output", "scene", "size"), rows), markup=False)
        return
    fetched = fetch(at.client, found, out)
    if as_json:
        show_json({"run": run, "files": [str(file) for file in fetched]})
        return
    for file in fetched:
        at.out.print(str(file), markup=False, highlight=False, soft_wrap=True)


def chosen(found: Sequence[schemas.File], patterns: Sequence[str] | None, run: str) -> list[schemas.File]:
    """The files whose name, with or without its folders, fits one of the patterns; all where there is none.

    Raises:
        NotFound: there are patterns and no file fits any.
    """
    if not patterns:
        return list(found)
    fitting = [
        file
        for file in found
        if any(fnmatchcase(one, pattern) for pattern in patterns for one in (file.name, PurePosixPath(file.name).name))
    ]
    if not fitting:
        there = ", ".join(file.name for file in found[:20]) or "none"
        raise NotFound(f"the run {run} wrote no file that fits {' or '.join(patterns)}; it has: {there}")
    return fitting


def fetch(client: Client, found: Sequence[schemas.File], folder: Path) -> list[Path]:
    """Downloads files into a folder, which is made; returns where they lie.

    They lie side by side under their own names; where two have the same, output and folders stand before it.

    Raises:
        InvalidInput: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"got the folder {folder}, which cannot be made ({error}); give another with --out"
        ) from error
    taken = Counter(PurePosixPath(file.name).name for file in found)
    return [client.download(file.artifact_key, file.name, folder / _place(file, taken)) for file in found]


def _place(file: schemas.File, taken: Counter[str]) -> str:
    """The name that a file gets in the folder."""
    name = PurePosixPath(file.name).name
    return name if taken[name] == 1 else "-".join((file.output, *PurePosixPath(file.name).parts))

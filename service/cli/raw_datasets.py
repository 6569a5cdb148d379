"""The raw dataset behind an artifact, for commands that have something made again from it."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli import completion
from service.cli.console import Shell
from storage.errors import NotFound

RawDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="The raw dataset that it was made from; by default the one that it names, where that is registered here.",
        autocompletion=completion.datasets,
    ),
]


def dataset_of(at: Shell, key: str) -> str | None:
    """The dataset that an artifact names, where one of that name is registered; None where there is none.

    Raises:
        NotFound: no artifact of that key is published.
    """
    name = at.client.artifact(key).attributes.get("dataset")
    return registered(at, name if isinstance(name, str) else None)


def registered(at: Shell, name: str | None) -> str | None:
    """The name of a dataset, where one of that name is registered; None where there is none."""
    if name is None:
        return None
    try:
        return at.client.dataset(name).name
    except NotFound:
        return None

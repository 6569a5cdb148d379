"""Registered datasets: a name for a folder of raw scenes. Whether a path may be named is the service's to say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select

from storage.errors import NameTaken, UnknownName
from storage.labels import LabelSetName
from storage.records.database import Database, now
from storage.records.tables import DatasetRow
from storage.specs.parts import DatasetKind, Split

"""`synthrooms`: made by vlglab; `rgbd`: posed RGB-D frames in ScanNet's exported layout."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A registered dataset."""

    name: str
    kind: DatasetKind
    path: str
    """Absolute."""
    label_set: LabelSetName
    options: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    """When it was registered; None before."""
    splits: tuple[Split, ...] = ("train",)
    """Splits that it has scenes in; with `train` alone nothing is held out."""


def add(db: Database, dataset: Dataset) -> Dataset:
    """Registers a dataset; registered again, what was found in its folder is told anew. Runs made before keep theirs.

    Raises:
        NameTaken: another dataset has that name.
    """
    with db.write() as session:
        row = session.get(DatasetRow, dataset.name)
        if row is None:
            row = DatasetRow(
                name=dataset.name,
                kind=dataset.kind,
                path=dataset.path,
                label_set=dataset.label_set,
                options=dataset.options,
                splits=list(dataset.splits),
                created_at=now(session),
            )
            session.add(row)
            session.flush()
        known = _read(row)
        if _named(known) != _named(dataset):
            raise NameTaken(
                f"another dataset is registered as {dataset.name!r} ({known.kind}, {known.path}, {known.label_set});"
                " choose another name"
            )
        if known.splits != dataset.splits:
            row.splits = list(dataset.splits)
        return replace(known, splits=dataset.splits)


def _named(dataset: Dataset) -> tuple[str, str, str, dict[str, Any]]:
    """What its user named; all else was found."""
    return dataset.kind, dataset.path, dataset.label_set, dataset.options


def get(db: Database, name: str) -> Dataset:
    """One dataset.

    Raises:
        UnknownName: none has that name; lists the nearest.
    """
    with db.read() as session:
        row = session.get(DatasetRow, name)
        if row is None:
            raise UnknownName.among("dataset", name, session.scalars(select(DatasetRow.name)))
        return _read(row)


def list_datasets(db: Database) -> list[Dataset]:
    """Every dataset, by name."""
    with db.read() as session:
        return [_read(row) for row in session.scalars(select(DatasetRow).order_by(DatasetRow.name))]


def _read(row: DatasetRow) -> Dataset:
    """The dataset of a row."""
    kind: DatasetKind = row.kind  # type: ignore[assignment]
    label_set: LabelSetName = row.label_set  # type: ignore[assignment]
    return Dataset(row.name, kind, row.path, label_set, row.options, row.created_at, tuple(row.splits))

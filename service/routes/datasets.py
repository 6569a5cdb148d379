"""Datasets: register and list. A path may only lie under a root that the settings name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import ValidationError

from service import examples, problems
from service.dependencies import TheDatabase, TheSettings
from service.schemas import Dataset, DatasetPage, DatasetRequest
from storage.errors import DatasetInvalid, NotFound, PathNotAllowed, SpecInvalid, UnknownName
from storage.labels import LabelSetName
from storage.records import datasets
from storage.records.datasets import Dataset as Record
from storage.settings import Settings
from storage.specs.parts import DATASET_OPTIONS, DatasetKind, DatasetOptions, S3disOptions, Split, SynthRoomsOptions
from storage.specs.stages import describe

_HELD_OUT: dict[DatasetKind, tuple[str, ...]] = {
    "rgbd": ("test.txt",),
    "clouds": ("test.txt",),
    "scannet": ("scannetv2_val.txt", "*/scannetv2_val.txt", "scannetv2_test.txt", "*/scannetv2_test.txt"),
}
"""Kind -> the files that may list held-out scenes, one a line."""

router = APIRouter(prefix="/datasets", tags=["datasets"], responses=problems.RESPONSES)


@router.post("", status_code=201, summary="Register a dataset")
def add_dataset(body: DatasetRequest, db: TheDatabase, settings: TheSettings) -> Dataset:
    """Names a folder of raw scenes, or a SynthRooms dataset that is made where it is first read."""
    return _answer(datasets.add(db, _checked(body, settings)))


@router.get("", summary="List datasets")
def list_datasets(db: TheDatabase) -> DatasetPage:
    """Every registered dataset, by name."""
    return DatasetPage(items=[_answer(record) for record in datasets.list_datasets(db)])


@router.get("/{name}", summary="Read a dataset")
def read_dataset(
    name: Annotated[str, PathParameter(description="A dataset's name.", examples=[examples.DATASET["name"]])],
    db: TheDatabase,
) -> Dataset:
    """One dataset."""
    try:
        return _answer(datasets.get(db, name))
    except UnknownName as error:
        raise NotFound(error.message) from error


def _checked(body: DatasetRequest, settings: Settings) -> Record:
    """The dataset that a request describes.

    Raises:
        SpecInvalid: an option that its kind does not have, or a value out of range.
        PathNotAllowed, DatasetInvalid: see `allowed_folder`.
    """
    try:
        options = DATASET_OPTIONS[body.kind].model_validate(body.options)
    except ValidationError as error:
        raise SpecInvalid(
            f"the options of the {body.kind} dataset {body.name!r} are wrong: {describe(error)}"
        ) from error
    splits: tuple[Split, ...]
    if isinstance(options, SynthRoomsOptions):
        made = settings.home_path / "datasets" / f"synthrooms-{options.digest()}"
        path = made if body.path is None else allowed_folder(body.path, settings.allowed_roots, must_exist=False)
        splits = ("train", "test") if options.test_rooms > 0 else ("train",)
    else:
        if body.path is None:
            raise DatasetInvalid(
                f"the {body.kind} dataset {body.name!r} needs the field 'path', the folder of its scenes"
            )
        path = allowed_folder(body.path, settings.allowed_roots, must_exist=True)
        splits = ("train", "test") if _holds_out(body.kind, path, options) else ("train",)
    return Record(
        name=body.name,
        kind=body.kind,
        path=str(path),
        label_set=body.label_set or _label_set(options),
        options=options.model_dump(mode="json"),
        splits=splits,
    )


def allowed_folder(path: str, roots: tuple[Path, ...], *, must_exist: bool) -> Path:
    """A dataset's folder, absolute, its symbolic links resolved.

    Raises:
        PathNotAllowed: it lies under none of the roots, wherever links lead. Told before whether it exists.
        DatasetInvalid: it is not absolute; or it must exist and is missing, no folder, unreadable or empty.
    """
    given = Path(path)
    if not given.is_absolute() or "\0" in path:
        raise DatasetInvalid(f"got the path {path!r}, expected an absolute one")
    try:
        folder = given.resolve()
    except (OSError, RuntimeError) as error:
        raise DatasetInvalid(f"the path {path} cannot be followed ({error}); give another") from error
    if not any(folder.is_relative_to(root.resolve()) for root in roots):
        raise PathNotAllowed(
            f"got the path {path}, expected one under {', '.join(map(str, roots))};"
            " move it there, or add its root to VLGLAB_DATASET_ROOTS and start the service again"
        )
    if must_exist:
        _check_folder(folder)
    return folder


def _check_folder(folder: Path) -> None:
    """Refuses what is no folder with something in it."""
    if not folder.is_dir():
        raise DatasetInvalid(f"got the path {folder}, where there is no folder; give one that holds the dataset")
    try:
        empty = next(folder.iterdir(), None) is None
    except OSError as error:
        raise DatasetInvalid(f"the folder {folder} cannot be read ({error.strerror}); see its permissions") from error
    if empty:
        raise DatasetInvalid(f"the folder {folder} is empty; give one that holds the dataset")


def _holds_out(kind: DatasetKind, folder: Path, options: DatasetOptions) -> bool:
    """Whether the folder has held-out scenes."""
    if isinstance(options, S3disOptions):
        area = f"Area_{options.test_area}"
        return any(next(folder.glob(place), None) for place in (area, f"*/{area}"))
    listed = (path for pattern in _HELD_OUT.get(kind, ()) for path in folder.glob(pattern))
    return any(path.is_file() and path.read_text(encoding="utf-8", errors="replace").strip() for path in listed)


def _label_set(options: DatasetOptions) -> LabelSetName:
    """The label set that a dataset is labelled with where the request names none."""
    if isinstance(options, SynthRoomsOptions):
        return "s3dis13" if options.domain == "offices" else "scannet20"
    return "s3dis13" if isinstance(options, S3disOptions) else "scannet20"


def _answer(record: Record) -> Dataset:
    """A dataset as it is answered."""
    return Dataset.model_validate(asdict(record))

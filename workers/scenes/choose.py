"""Which source of scenes a dataset's kind names. The only place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import labels
from storage.errors import DatasetInvalid, SpecInvalid, UnknownName
from storage.specs.parts import (
    DATASET_OPTIONS,
    CloudsOptions,
    DatasetOptions,
    DepthFusion,
    RgbdOptions,
    S3disOptions,
    ScanNetOptions,
    SynthRoomsOptions,
)
from workers.scenes.clouds import CloudsSource
from workers.scenes.rgbd import RgbdSource
from workers.scenes.s3dis import S3disSource
from workers.scenes.scannet import ScanNetSource
from workers.scenes.scene import SceneSource
from workers.scenes.synthrooms import SynthRoomsSource

KINDS: tuple[str, ...] = tuple(DATASET_OPTIONS)


@dataclass(frozen=True, slots=True)
class Opening:
    """What it takes to open a dataset."""

    kind: str
    """One of KINDS."""
    options: DatasetOptions
    root: Path
    """The dataset's folder."""
    label_set: str
    """Name of a label set."""
    fusion: DepthFusion
    cache_dir: Path
    """Where digests of files are remembered."""
    threads: int = 1
    """Processes that may make rooms."""


def options_of(kind: str, values: Mapping[str, Any]) -> DatasetOptions:
    """The options of a kind of dataset, from the values that its record holds.

    Raises:
        UnknownName: no such kind.
    """
    for known, model in DATASET_OPTIONS.items():
        if known == kind:
            return model.model_validate(values)
    raise UnknownName.among("kind of dataset", kind, KINDS)


def open_source(opening: Opening, progress: Callable[[int, int], None] | None = None) -> SceneSource:
    """The source of a dataset's scenes; SynthRooms makes its rooms on first use.

    Args:
        opening: the dataset.
        progress: told (rooms made, rooms in all) while rooms are made; may raise to stop.

    Raises:
        UnknownName: no such kind or label set.
        SpecInvalid: options of another kind.
        DatasetInvalid: a label set that the dataset does not have; a dataset that holds no scenes.
    """
    label_set = labels.label_set(opening.label_set)
    if opening.kind == "synthrooms" and isinstance(opening.options, SynthRoomsOptions):
        return SynthRoomsSource(
            opening.root,
            opening.options,
            label_set,
            opening.cache_dir,
            threads=opening.threads,
            progress=progress,
        )
    if opening.kind == "rgbd" and isinstance(opening.options, RgbdOptions):
        return RgbdSource(opening.root, opening.options, label_set, opening.fusion, opening.cache_dir)
    if opening.kind == "scannet" and isinstance(opening.options, ScanNetOptions):
        return ScanNetSource(opening.root, opening.options, label_set, opening.cache_dir)
    if opening.kind == "s3dis" and isinstance(opening.options, S3disOptions):
        return S3disSource(opening.root, opening.options, label_set, opening.cache_dir)
    if opening.kind == "clouds" and isinstance(opening.options, CloudsOptions):
        return CloudsSource(opening.root, opening.options, label_set, opening.cache_dir)
    if opening.kind == "features":
        raise DatasetInvalid(
            "got a dataset of kind 'features', which holds no scenes; give it to a run of stage `import_features`, "
            "whose scenes come from another dataset"
        )
    if opening.kind not in KINDS:
        raise UnknownName.among("kind of dataset", opening.kind, KINDS)
    raise SpecInvalid(f"got {type(opening.options).__name__} for a dataset of kind {opening.kind!r}")

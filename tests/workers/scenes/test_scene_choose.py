"""Which source a kind names."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import SpecInvalid, UnknownName
from storage.specs.parts import (
    CloudsOptions,
    DatasetOptions,
    DepthFusion,
    RgbdOptions,
    S3disOptions,
    ScanNetOptions,
    SynthRoomsOptions,
)
from workers.scenes.choose import Opening, open_source, options_of
from workers.scenes.clouds import CloudsSource
from workers.scenes.rgbd import RgbdSource
from workers.scenes.s3dis import S3disSource
from workers.scenes.scannet import ScanNetSource
from workers.scenes.scene import SceneSource
from workers.scenes.synthrooms import SynthRoomsSource


def opening(tmp_path: Path, kind: str, options: DatasetOptions, label_set: str = "s3dis13") -> Opening:
    return Opening(kind, options, tmp_path / "data", label_set, DepthFusion(), tmp_path / "cache")


def test_each_kind_opens_its_source_and_touches_nothing(tmp_path: Path) -> None:
    synthetic = open_source(opening(tmp_path, "synthrooms", SynthRoomsOptions()))
    assert isinstance(synthetic, SynthRoomsSource) and synthetic.root == tmp_path / "data"
    assert isinstance(open_source(opening(tmp_path, "rgbd", RgbdOptions(), "scannet20")), RgbdSource)
    assert not list(tmp_path.iterdir())


def test_unknown_kinds_label_sets_and_foreign_options_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="rgbd"):
        open_source(opening(tmp_path, "rgbdd", RgbdOptions()))
    with pytest.raises(UnknownName, match="s3dis13"):
        open_source(opening(tmp_path, "rgbd", RgbdOptions(), "s3dis14"))
    with pytest.raises(SpecInvalid, match="SynthRoomsOptions"):
        open_source(opening(tmp_path, "rgbd", SynthRoomsOptions()))


@pytest.mark.parametrize(
    ("kind", "values", "label_set", "source"),
    [
        ("scannet", {"frame_step": 3}, "scannet20", ScanNetSource),
        ("s3dis", {"test_area": 2}, "s3dis13", S3disSource),
        ("clouds", {}, "s3dis13", CloudsSource),
    ],
)
def test_released_datasets_open_from_the_values_of_their_record(
    tmp_path: Path, kind: str, values: dict[str, int], label_set: str, source: type[SceneSource]
) -> None:
    options = options_of(kind, values)
    assert options.model_dump() | values == options.model_dump()
    assert isinstance(open_source(opening(tmp_path, kind, options, label_set)), source)


def test_options_of_another_kind_of_release_are_refused(tmp_path: Path) -> None:
    assert isinstance(options_of("scannet", {}), ScanNetOptions)
    assert isinstance(options_of("s3dis", {}), S3disOptions) and isinstance(options_of("clouds", {}), CloudsOptions)
    with pytest.raises(SpecInvalid, match="CloudsOptions"):
        open_source(opening(tmp_path, "scannet", CloudsOptions(), "scannet20"))
    with pytest.raises(UnknownName, match="scannet"):
        options_of("scanet", {})

"""Which source a kind names."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import SpecInvalid, UnknownName
from storage.specs.parts import DepthFusion, RgbdOptions, SynthRoomsOptions
from workers.scenes.choose import Opening, open_source
from workers.scenes.rgbd import RgbdSource
from workers.scenes.synthrooms import SynthRoomsSource


def opening(tmp_path: Path, kind: str, options: SynthRoomsOptions | RgbdOptions, label_set: str = "s3dis13") -> Opening:
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

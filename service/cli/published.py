"""What the paper printed, as facts beside which our rows are shown. Source: 3DSS-VLG, ECCV 2024, Tables 1 to 5.

Knows no service and no experiment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """A row of Table 1 or 2, in per cent mIoU."""

    method: str
    effort: str
    """Label effort: minutes of annotation a scene."""
    supervision: str
    """`100%`, `subcloud`, `scene`, or `scene + image`."""
    test: float | None
    val: float | None = None


_FULL = "> 20 min"
_SCENE = "< 1 min"

TABLE_1: tuple[Published, ...] = (
    Published("PointNet", _FULL, "100%", 41.1),
    Published("TangentConv", _FULL, "100%", 52.8),
    Published("MinkowskiNet", _FULL, "100%", 65.8),
    Published("KPConv", _FULL, "100%", 67.1),
    Published("PointTransformer", _FULL, "100%", 70.4),
    Published("PointNetXt", _FULL, "100%", 70.5),
    Published("DeepViewAgg", _FULL, "100%", 67.2),
    Published("SemAffiNet", _FULL, "100%", 71.6),
    Published("MPRM", _SCENE, "scene", 10.3),
    Published("MIL-Trans", _SCENE, "scene", 12.9),
    Published("WYPR", _SCENE, "scene", 22.3),
    Published("MIT", _SCENE, "scene", 27.7),
    Published("3DSS-VLG (paper)", _SCENE, "scene", 45.3),
)
"""S3DIS, Area 5."""

TABLE_2: tuple[Published, ...] = (
    Published("PointNet++", _FULL, "100%", 33.9),
    Published("TangentConv", _FULL, "100%", 43.8),
    Published("MinkowskiNet", _FULL, "100%", 73.6, 72.2),
    Published("KPConv", _FULL, "100%", 68.6, 69.2),
    Published("PointTransformer", _FULL, "100%", None, 70.6),
    Published("PointNetXt", _FULL, "100%", 71.2, 71.5),
    Published("DeepViewAgg", _FULL, "100%", None, 71.0),
    Published("SemAffiNet", _FULL, "100%", 74.9),
    Published("MPRM", "3 min", "subcloud", 41.1, 43.2),
    Published("Kweon et al.", "5 min", "scene + image", 47.4, 49.6),
    Published("MIL-Trans", _SCENE, "scene", None, 26.2),
    Published("WYPR", _SCENE, "scene", 24.0, 29.6),
    Published("MIT", _SCENE, "scene", 31.7, 35.8),
    Published("3DSS-VLG (paper)", _SCENE, "scene", 48.9, 49.7),
)
"""ScanNet v2, the test server's set and the validation set."""

TABLE_3 = {"a": 37.7, "b": 38.2, "c": 42.6, "d": 45.3}
"""Row -> mIoU on S3DIS: a nothing, b ESGS, c filtering, d ESGS, filtering and ESS."""

TABLE_4 = {("s3dis13", "scannet20"): (13.4, 23.0), ("scannet20", "s3dis13"): (33.3, 50.9)}
"""Label set trained on, label set tested on -> mIoU and mAcc (the paper: S3DIS and ScanNet)."""

TABLE_5 = {"MinkUNet14A": 44.5, "MinkUNet18A": 45.3, "MinkUNet34A": 44.7, "transformer": 45.0, "mlp": 45.3}
"""3D backbone (with the MLP adapter) or adapter (with MinkUNet18A) -> mIoU on S3DIS."""

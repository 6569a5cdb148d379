"""What each kind of artifact holds: its arrays (dims, dtype, unit) and whether it has a part a scene.

The only place where the layout of stored arrays is written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.specs.spec import ArtifactKind


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array of a kind."""

    dims: tuple[str, ...]
    dtype: str
    unit: str = ""
    required: bool = True
    others: tuple[str, ...] = ()
    """Dtypes that it may have instead of `dtype`."""
    scaled_by: str = ""
    """The array of scales that is there where the values are int8, and only there (`scaled`)."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Every dtype that it may have."""
        return (self.dtype, *self.others)


@dataclass(frozen=True, slots=True)
class KindLayout:
    """The layout of a kind of artifact."""

    scene_wise: bool
    arrays: Mapping[str, ArrayLayout] = field(default_factory=dict)
    files: bool = False
    """True where parts also hold plain files."""


KINDS: Mapping[ArtifactKind, KindLayout] = {
    "scenes": KindLayout(
        True,
        {
            "points": ArrayLayout(("point", "xyz"), "float32", "m"),
            "colours": ArrayLayout(("point", "rgb"), "uint8"),
            "intrinsics": ArrayLayout(("frame", "row", "column"), "float64", "px"),
            "camera_to_world": ArrayLayout(("frame", "row", "column"), "float64", "m"),
        },
    ),
    "ground_truth": KindLayout(True, {"labels": ArrayLayout(("point",), "int16")}),
    "text_embeddings": KindLayout(False, {"embeddings": ArrayLayout(("class", "dimension"), "float32")}),
    "embeddings": KindLayout(
        True,
        {
            "embeddings": ArrayLayout(
                ("covered_point", "dimension"), "float16", others=("float32", "int8"), scaled_by="scales"
            ),
            "point_index": ArrayLayout(("covered_point",), "int64"),
            "views": ArrayLayout(("point",), "uint16"),
            "scales": ArrayLayout(("covered_point", "block"), "float16", required=False),
        },
    ),
    "labels": KindLayout(
        True,
        {
            "labels": ArrayLayout(("point",), "int16"),
            "confidence": ArrayLayout(("point",), "float16"),
        },
    ),
    "checkpoint": KindLayout(False, {}, files=True),
    "evaluation": KindLayout(False, {"confusion": ArrayLayout(("row", "truth", "prediction"), "int64", "points")}),
    "figures": KindLayout(False, {}, files=True),
    "inspection": KindLayout(False, {}, files=True),
}
"""Kind -> layout. Attributes that every per-point part carries: `num_points`, `point_order`, `split`."""

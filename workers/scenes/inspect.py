"""Looking a dataset over without computing a feature: what each scene holds, what it lacks, whether its poses fit.

Poses that do not belong to the points are found by what the frames see: a point is visible where its depth agrees with
the depth map's (`workers.geometry.visibility`, the very test that lifting makes). A scene of which next to nothing is
visible, and a frame that sees next to nothing of what lies before it, are warnings that name them.
Knows scenes and geometry; knows no store, no encoder and no service.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidInput
from storage.labels import LabelSet
from storage.specs.parts import Lifting, Split
from workers.geometry.camera import has_reading, scale_intrinsics
from workers.geometry.visibility import LEAST_VISIBLE, visible
from workers.scenes.cameras import EMPTY_DEPTH
from workers.scenes.frames import read_depth_m, read_image
from workers.scenes.scene import Frame, Scene, SceneRef, SceneSource

LEAST_AGREEING = 0.05
"""Below this share of agreeing points, of those before it, a frame's pose is doubted."""
MOST_POINTS = 100_000
"""So many points of a scene are looked at, evenly spread."""
_NAMED = 3
NO_PICTURE = "no picture, where others have some: it gets no embeddings, and the method does not learn from it"


@dataclass(frozen=True, slots=True)
class SceneReport:
    """What was found in one scene; None stands for what could not be measured."""

    scene: str
    split: Split
    num_points: int | None = None
    num_frames: int | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Why frames were left out -> how many, as the source tells."""
    invalid_poses: int = 0
    """Those of them whose pose cannot be used."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What else was repaired, left out or taken otherwise -> how often."""
    frames_sampled: int = 0
    """Frames that the next three are measured on."""
    points_sampled: int = 0
    """Points that visibility is measured on."""
    depth_coverage: float | None = None
    """Share of the pixels with a depth reading, mean over the sampled frames."""
    visible_share: float | None = None
    """Share of the sampled points that at least one sampled frame sees."""
    doubtful_frames: tuple[str, ...] = ()
    """Sampled frames that see next to nothing of what lies before them, or nothing at all."""
    classes: tuple[str, ...] = ()
    """The classes present, by label."""
    missing: tuple[str, ...] = ()
    """Of "ground truth", "scene labels", "frames"."""
    warnings: tuple[str, ...] = ()
    """Sentences, each naming the scene."""
    error: str | None = None
    """Why the scene, or one of its frames, cannot be read; names the scene."""

    def to_dict(self) -> dict[str, object]:
        """The report as JSON-like values."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


@dataclass(frozen=True, slots=True)
class _Sight:
    """What the sampled frames see of the sampled points."""

    num_frames: int
    num_points: int
    depth_coverage: float
    visible_share: float
    doubtful: tuple[str, ...]


def inspect_scene(
    source: SceneSource, ref: SceneRef, lifting: Lifting, label_set: LabelSet, *, most_frames: int
) -> SceneReport:
    """Loads a scene and says what it holds; every sampled frame's image and depth map is decoded.

    A scene with a fault, or one that cannot be read, is reported as such, so that a walk over a dataset goes on.

    Args:
        source: the dataset.
        ref: the scene.
        lifting: when a point counts as visible.
        label_set: names of the labels.
        most_frames: frames that are looked at, evenly spread; at least 1.
    """
    if ref.fault is not None:
        return SceneReport(ref.id, ref.split, error=_naming(ref.id, ref.fault.message))
    try:
        scene = source.load(ref.id)
    except InvalidInput as error:
        return SceneReport(ref.id, ref.split, error=_naming(ref.id, error.message))
    report = SceneReport(
        scene.id,
        scene.split,
        len(scene.points_m),
        len(scene.frames),
        dict(scene.skipped),
        sum(count for reason, count in scene.skipped.items() if reason != EMPTY_DEPTH),
        dict(scene.notes),
        classes=tuple(label_set.classes[label] for label in scene.scene_labels),
        missing=_missing(scene),
    )
    if not scene.frames:
        return report
    try:
        sight = _look(source.root, scene, lifting, most_frames)
    except InvalidInput as error:
        return dataclasses.replace(report, error=_naming(scene.id, error.message))
    return dataclasses.replace(
        report,
        frames_sampled=sight.num_frames,
        points_sampled=sight.num_points,
        depth_coverage=sight.depth_coverage,
        visible_share=sight.visible_share,
        doubtful_frames=sight.doubtful,
        warnings=tuple(_warnings(scene.id, sight)),
    )


def without_pictures(reports: Sequence[SceneReport]) -> Sequence[SceneReport]:
    """The reports, with a warning of each scene that has no frame where others of the dataset have some."""
    if not any(report.num_frames for report in reports):
        return reports
    return [
        dataclasses.replace(
            report,
            warnings=(*report.warnings, f"scene {report.scene}: {NO_PICTURE}"),
        )
        if report.num_frames == 0
        else report
        for report in reports
    ]


def _naming(scene: str, message: str) -> str:
    """A message that names its scene, once."""
    return message if message.startswith(f"scene {scene}") else f"scene {scene}: {message}"


def _missing(scene: Scene) -> tuple[str, ...]:
    held = {"ground truth": scene.labels is not None, "scene labels": scene.scene_labels, "frames": scene.frames}
    return tuple(name for name, there in held.items() if not there)


def _warnings(scene: str, sight: _Sight) -> Iterator[str]:
    """What is odd about what the frames see."""
    if sight.depth_coverage == 0:
        yield f"scene {scene}: not one depth reading in {sight.num_frames} frames; check the depth maps and their unit"
    elif sight.visible_share < LEAST_VISIBLE:
        yield (
            f"scene {scene}: {sight.visible_share:.1%} of its points are visible in {sight.num_frames} frames; its "
            "poses may be misaligned, or be of another place than its points"
        )
    if sight.doubtful:
        more = f" and {len(sight.doubtful) - _NAMED} more" if len(sight.doubtful) > _NAMED else ""
        yield (
            f"scene {scene}: {len(sight.doubtful)} of {sight.num_frames} frames see next to nothing of the points "
            f"before them, their poses may be misaligned: {', '.join(sight.doubtful[:_NAMED])}{more}"
        )


def _look(root: Path, scene: Scene, lifting: Lifting, most_frames: int) -> _Sight:
    """What the frames see, of at most MOST_POINTS points."""
    points = scene.points_m[_spread(len(scene.points_m), MOST_POINTS)]
    frames = [scene.frames[i] for i in _spread(len(scene.frames), most_frames)]
    seen = np.zeros(len(points), np.bool_)
    coverage, doubtful = [], []
    for frame in frames:
        read_image(root, frame, check=False)
        depth_m = read_depth_m(root, frame, check=False)
        coverage.append(float(has_reading(depth_m).mean()))
        sees, before = _sees(points, depth_m, frame, lifting)
        seen[sees] = True
        if coverage[-1] > 0 and (len(sees) == 0 or len(sees) < LEAST_AGREEING * before):
            doubtful.append(frame.name)
    return _Sight(len(frames), len(points), float(np.mean(coverage)), float(seen.mean()), tuple(doubtful))


def _sees(
    points_m: NDArray[np.float32], depth_m: NDArray[np.float32], frame: Frame, lifting: Lifting
) -> tuple[NDArray[np.int64], int]:
    """Indices of the points that a frame sees, and how many fall on a pixel with a reading, at whatever depth."""
    k = scale_intrinsics(frame.intrinsics, frame.image_size, (lifting.width, lifting.height))
    any_depth = lifting.model_copy(update={"depth_tolerance": np.inf})
    before = visible(points_m, depth_m, k, frame.camera_to_world, any_depth).point_index
    among = visible(points_m[before], depth_m, k, frame.camera_to_world, lifting).point_index
    return before[among], len(before)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `count` indices, ascending and evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))

"""Report: the four-panel picture and coloured point clouds. Source: Fig. 4.

Pictures are files of the artifact; the service only serves them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.store import WHOLE, PartReader, PartWriter, scene_of
from storage.errors import SpecInvalid
from storage.labels import IGNORE, NYU40_TO_SCANNET20, LabelSet, label_set
from storage.specs.stages import Report
from workers import figures
from workers.context import Context, check_order
from workers.reporting import Pace

TITLES = {
    "2d_text": "2D projection",
    "2d_filtered": "2D projection, filtered",
    "ours": "Ours (3D, no image)",
    "3d": "3D network (no image)",
    "published": "Published network (no image)",
}
"""What the predictions of recipes and of `vlglab runs picture` are called in pictures; any other keeps its name."""
SHOWN = ("2d_text", "ours")
"""Predictions that get a panel where there are more than two; every prediction gets its PLY files."""
PICTURE = "segmentation.png"

Pictures = tuple[str, list[NDArray[np.uint8]]]


def run(context: Context) -> None:
    """Publishes `figures`: `segmentation.png`, `<scene>_<what>.ply`, and where asked `<scene>.txt` for a test server.

    Raises:
        NotFound: no scene of the splits is in every prediction.
        SpecInvalid: no scene in these splits; a submission of another label set than ScanNet-20.
    """
    spec = context.spec
    assert isinstance(spec, Report)
    names = sorted(context.named("predictions"), key=list(TITLES).index if _known(context) else None)
    shown = names if len(names) < 3 else [name for name in names if name in SHOWN] or names[:3]
    scenes = context.in_every("predictions", context.chosen_scenes("scenes", spec.splits), spec.splits)
    scenes = scenes[: spec.max_scenes]
    classes = label_set(context.artifact("scenes").attributes["label_set"])
    has_truth = any(scene in context.artifact("ground_truth").scenes for scene in scenes)
    columns = ["input", *(["ground_truth"] if has_truth else []), *shown]
    pace = Pace(context.reporter, "scene", len(scenes))
    rows: list[Pictures] = []
    seen: set[int] = set()
    with context.scene_part("figures", WHOLE, context.input_keys()) as part:
        if part is not None:
            for scene in scenes:
                rows.append(_draw(context, scene, names, columns, classes, part, seen))
                pace.advance()
            if spec.submission is not None:
                _submit(context, spec.submission, part)
            titles = [{"input": "Input", "ground_truth": "Ground truth", **TITLES}.get(what, what) for what in columns]
            figures.panels(rows, titles, figures.legend(seen, classes)).save(part.path(PICTURE))
            part.set(scenes=scenes, predictions=names)
    context.publish("figures", scenes=scenes, picture=PICTURE)


def _submit(context: Context, name: str, part: PartWriter) -> None:
    """Writes one prediction as ScanNet's server takes it: a text file a scene, a NYU40 id a line, in order.

    The server wants its hidden scenes and no other: where some of the prediction's scenes have no ground truth, only
    those are written, else all.
    """
    predictions = context.named("predictions")
    if predictions[name].attributes["label_set"] != "scannet20":
        raise SpecInvalid("ScanNet's server takes ScanNet-20 labels; the prediction is of another label set")
    nyu_of = np.array([nyu for nyu, _ in sorted(NYU40_TO_SCANNET20.items(), key=lambda pair: pair[1])])
    scenes = predictions[name].scenes
    hidden = [scene for scene in scenes if scene_of(context.artifact("ground_truth"), scene) is None]
    if hidden and len(hidden) < len(scenes):
        context.reporter.note(
            f"the submission holds the {len(hidden)} scenes of {name} whose ground truth is hidden, and leaves out "
            f"{len(scenes) - len(hidden)} that have one"
        )
    for scene in hidden or scenes:
        labels = context.open(predictions[name], scene).array("labels")
        if (labels == IGNORE).any():
            raise SpecInvalid(
                f"scene {scene}: {name} leaves points without a class; submit the 3D network's prediction"
            )
        np.savetxt(part.path(f"{scene}.txt"), nyu_of[labels], fmt="%d")


def _known(context: Context) -> bool:
    return set(context.named("predictions")) <= set(TITLES)


def _draw(
    context: Context,
    scene: str,
    names: list[str],
    columns: list[str],
    classes: LabelSet,
    part: PartWriter,
    seen: set[int],
) -> Pictures:
    """One scene's panels, blank where it has no ground truth; writes its PLY files; adds its labels to `seen`."""
    scene_part = context.open(context.artifact("scenes"), scene)
    points, colours = scene_part.array("points"), scene_part.array("colours")
    layers = {"input": colours}
    for what, labels in _labels(context, scene, scene_part, names).items():
        layers[what] = figures.colour_labels(labels, classes)
        if what in columns:
            seen.update(np.unique(labels).tolist())
    for what, layer in layers.items():
        figures.write_ply(part.path(f"{scene}_{what}.ply"), points, layer)
    inside = figures.cut_open(points)
    blank = figures.draw_cloud(points[:0], colours[:0])
    return scene, [
        figures.draw_cloud(points[inside], layers[what][inside]) if what in layers else blank for what in columns
    ]


def _labels(context: Context, scene: str, scene_part: PartReader, names: list[str]) -> dict[str, NDArray[np.int16]]:
    """The labels of the ground truth, where the scene has one, and of each prediction."""
    found = {}
    if scene_of(context.artifact("ground_truth"), scene) is not None:
        found["ground_truth"] = context.open_for("ground_truth", scene, scene_part).array("labels")
    for name in names:
        part = context.open(context.named("predictions")[name], scene)
        check_order(part, scene_part)
        found[name] = part.array("labels")
    return found

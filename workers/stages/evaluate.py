"""Evaluate: named predictions against the ground truth, on covered points and on all. Source: section 4.1.

Covered points are those that some view covers, the same for every prediction. On all points, a prediction that leaves
uncovered points without a class (the 2D rows) takes the class of the nearest covered one. Every prediction is scored on
the same scenes, those that any of them has: in a scene that one lacks, such as a 2D row's without pictures, its points
have no class, which counts against it. So a score of the 3D network does not depend on what it is compared with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.store import WHOLE, PartReader, scene_of
from storage.labels import IGNORE, label_set
from storage.specs.parts import Split
from storage.specs.stages import Evaluate
from workers import scoring
from workers.context import Context, check_order, few
from workers.reporting import Pace

SUBSETS = ("covered", "all")
NO_TRUTH = "no ground truth: these scenes have no per-point labels, so nothing can be scored"

Confusions = dict[tuple[str, str], NDArray[np.int64]]
"""(prediction, subset) -> confusion matrix."""


def run(context: Context) -> None:
    """Publishes `evaluation`: a confusion matrix a prediction and subset, and the scores in its attributes.

    Raises:
        SpecInvalid: the dataset has no scene in these splits.
        NotFound: no scene with ground truth in these splits is in any prediction.
    """
    spec = context.spec
    assert isinstance(spec, Evaluate)
    names = sorted(context.named("predictions"))
    truth = context.artifact("ground_truth")
    classes = label_set(truth.attributes["label_set"]).classes
    scenes = _scored_scenes(context, spec.splits)
    subsets = SUBSETS if "coverage" in context.inputs else ("all",)
    total: Confusions = {
        (name, subset): np.zeros((len(classes), len(classes) + 1), np.int64) for name in names for subset in subsets
    }
    pace = Pace(context.reporter, "scene", len(scenes))
    for scene in scenes:
        _score(context, scene, total)
        pace.advance()
    rows = _rows(total, classes) if scenes else [_unscored(name) for name in names]
    if not scenes:
        context.reporter.note(NO_TRUTH)
    with context.scene_part("evaluation", WHOLE, context.input_keys()) as part:
        if part is not None:
            part.write("confusion", np.stack([total[key] for key in total]))
            part.set(rows=[{"prediction": name, "subset": subset} for name, subset in total], classes=list(classes))
    context.publish("evaluation", scores=json.loads(json.dumps(rows)), scenes=scenes, classes=list(classes))


def _scored_scenes(context: Context, splits: Sequence[Split]) -> list[str]:
    """The scenes with ground truth that some prediction has; empty only where no scene of these splits has any.

    Those that none has, and those that one lacks, are told in notes.
    """
    context.chosen_scenes("scenes", splits)
    scenes = context.scenes("ground_truth", splits)
    scored = context.in_some("predictions", scenes, splits) if scenes else []
    if len(scored) < len(scenes):
        left = [scene for scene in scenes if scene not in set(scored)]
        context.reporter.note(f"left out {len(left)} scenes that no prediction has: {few(left)}")
    for name, manifest in sorted(context.named("predictions").items()):
        lacks = [scene for scene in scored if scene_of(manifest, scene) is None]
        if lacks:
            context.reporter.note(
                f"{name} lacks {len(lacks)} of the {len(scored)} scenes, whose points count as without a class there: "
                f"{few(lacks)}"
            )
    return scored


def _score(context: Context, scene: str, total: Confusions) -> None:
    """Adds one scene to every confusion matrix."""
    points_part = context.open(context.artifact("scenes"), scene)
    truth = context.open_for("ground_truth", scene, points_part).array("labels")
    points = points_part.array("points")
    covered = np.zeros(len(truth), bool)
    if "coverage" in context.inputs and scene_of(context.artifact("coverage"), scene) is not None:
        covered[context.open_for("coverage", scene, points_part).array("point_index")] = True
    for name, manifest in context.named("predictions").items():
        labels = np.full(len(truth), IGNORE, np.int16)
        if scene_of(manifest, scene) is not None:
            part = context.open(manifest, scene)
            check_order(part, points_part)
            labels = _complete(points, part, covered)
        classes = total[name, "all"].shape[0]
        if (name, "covered") in total:
            total[name, "covered"] += scoring.confusion(truth[covered], labels[covered], classes)
        total[name, "all"] += scoring.confusion(truth, labels, classes)


def _complete(points: NDArray[np.float32], part: PartReader, covered: NDArray[np.bool_]) -> NDArray[np.int16]:
    """The prediction with every point given a class."""
    labels: NDArray[np.int16] = part.array("labels")
    if (labels[~covered] == IGNORE).any():
        return scoring.fill_uncovered(points, labels, covered if covered.any() else labels != IGNORE)
    return labels


def _rows(total: Confusions, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The scores of every matrix, as they are recorded; shares in 0..1, null where undefined."""
    rows = []
    for (name, subset), matrix in total.items():
        got = scoring.scores(matrix)
        in_truth = matrix.sum(axis=1)
        rows.append(
            {
                "prediction": name,
                "subset": subset,
                "miou": _defined(got.miou),
                "macc": _defined(got.macc),
                "num_points": got.num_points,
                "classes": [
                    {
                        "name": classes[k],
                        "iou": _defined(float(got.iou[k])),
                        "accuracy": _defined(float(got.accuracy[k])),
                        "num_points": int(in_truth[k]),
                    }
                    for k in range(len(classes))
                ],
                "confusion": matrix.tolist(),
                "note": None,
            }
        )
    return rows


def _unscored(name: str) -> dict[str, Any]:
    return {
        "prediction": name, "subset": "all", "miou": None, "macc": None, "num_points": 0, "classes": [],
        "confusion": None, "note": NO_TRUTH,
    }  # fmt: skip


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value

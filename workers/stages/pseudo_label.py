"""Pseudo-label: embeddings · text, filtered by the scene-level labels. Source: section 3.1, filtering strategy.

Departure from the paper's text: it multiplies the logits by the mask, which would make an absent class (0) win over
present ones with negative logits; absent classes are set to minus infinity instead, as the method means it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.store import PartReader, PartWriter
from storage.errors import DatasetInvalid
from storage.labels import IGNORE
from storage.specs.stages import PseudoLabel
from workers.context import Context, check_order
from workers.reporting import Pace


def run(context: Context) -> None:
    """Writes Y, one label a point, IGNORE where no view covers it.

    Raises:
        DatasetInvalid: filtering is asked for, and a training scene has no scene-level labels.
    """
    spec = context.spec
    assert isinstance(spec, PseudoLabel)
    text_part = context.open(context.artifact("text_embeddings"))
    text = context.text_embeddings(int(context.artifact("embeddings").attributes["dimension"]), "a lifted embedding")
    scenes = context.chosen_scenes("embeddings", spec.splits)
    splits = context.artifact("embeddings").attributes["splits"]
    pace = Pace(context.reporter, "scene", len(scenes))
    for scene in scenes:
        points = context.open(context.artifact("scenes"), scene)
        present = points.attributes["scene_labels"] or None
        if spec.filtering and present is None and splits[scene] == "train":
            raise DatasetInvalid(
                f"scene {scene}: it trains and has no scene-level labels to filter by; list the classes present in "
                "scene_labels.txt and ingest it again, hold it out, or set filtering to false",
                scene=scene,
            )
        lifted = context.open(context.artifact("embeddings"), scene)
        check_order(lifted, points)
        inputs = {"scenes": points.key, "embeddings": lifted.key, "text_embeddings": text_part.key}
        with context.scene_part("labels", scene, inputs) as part:
            if part is not None:
                _label(lifted, text, present if spec.filtering else None, part)
                part.set(split=points.attributes["split"], label_set=points.attributes["label_set"])
        pace.advance(free=part is None)
    context.publish(
        "labels",
        splits={scene: splits[scene] for scene in scenes},
        label_set=text_part.attributes["label_set"],
        filtering=spec.filtering,
    )


def _label(lifted: PartReader, text: NDArray[np.float32], present: list[int] | None, part: PartWriter) -> None:
    """Writes one scene's labels and confidences."""
    num_points = int(lifted.attributes["num_points"])
    index = lifted.array("point_index")
    embeddings = lifted.array("embeddings")
    labels = np.full(num_points, IGNORE, np.int16)
    confidence = np.zeros(num_points, np.float16)
    for start in range(0, len(index), 65_536):
        rows = slice(start, start + 65_536)
        best, share = classify(embeddings[rows].astype(np.float32), text, present)
        labels[index[rows]] = best
        confidence[index[rows]] = share
    part.write("labels", labels)
    part.write("confidence", confidence)
    part.set(num_points=num_points, point_order=lifted.attributes["point_order"])


def classify(
    embeddings: NDArray[np.float32], text: NDArray[np.float32], present: list[int] | None
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """The best class of each embedding among the present ones, and its softmax share.

    Args:
        embeddings: (M,D).
        text: (K,D), unit norm.
        present: labels that may be given; None allows all.

    Returns:
        (M,) labels and (M,) shares in 0..1.
    """
    logits = embeddings @ text.T
    if present is not None:
        absent = np.setdiff1d(np.arange(len(text)), present)
        logits[:, absent] = -np.inf
    best = logits.argmax(axis=1)
    share = 1.0 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    return best.astype(np.int16), share.astype(np.float32)

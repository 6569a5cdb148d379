"""Supervise: the same network on the training rooms' ground truth, the upper bound. Source: section 4.3, 100 % rows."""

from __future__ import annotations

import torch

from storage.artifacts.store import PartReader
from storage.specs.stages import Supervise
from workers.context import Context
from workers.learning.losses import text_cross_entropy
from workers.learning.train_network import Lesson, train_network


def run(context: Context) -> None:
    """Trains on the scenes of the split `train` and publishes the output `network`."""
    spec = context.spec
    assert isinstance(spec, Supervise)
    text = torch.from_numpy(context.open(context.artifact("text_embeddings")).array("embeddings"))
    text = text.to(context.machine.device)

    def target(scene: str, points: PartReader) -> PartReader:
        return context.open_for("ground_truth", scene, points)

    lesson = Lesson(
        scenes=context.scenes("ground_truth", ("train",)),
        target=target,
        loss=lambda predicted, labels, _scene: text_cross_entropy(predicted, text, labels, spec.training.class_balance),
        dimension=text.shape[1],
        network=spec.network,
        colours=spec.colours,
        head_bias=spec.head_bias,
        training=spec.training,
        voxel_m=spec.voxel_m,
    )
    train_network(context, lesson, context.input_keys())

"""Distill: the 3D network towards the adapted embeddings (ESGS), or pseudo labels. Source: section 3.3, equation 2.

The adapter is frozen. A voxel's target is the mean of its covered points' embeddings, adapted; voxels that no view
covers carry no loss. With `target: labels` (ablations a and c of Table 3) the network keeps its D-dimensional head and
learns by cross-entropy on its product with the text embeddings.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from storage.artifacts.store import PartReader
from storage.specs.parts import Adapter as AdapterSpec
from storage.specs.stages import Distill
from workers.context import Context
from workers.learning.losses import cosine_loss, text_cross_entropy
from workers.learning.train_network import Lesson, train_network
from workers.nets import checkpoints
from workers.nets.adapter import Adapter


def run(context: Context) -> None:
    """Trains on the scenes of the split `train` and publishes the output `network`."""
    spec = context.spec
    assert isinstance(spec, Distill)
    port = spec.target
    loss, dimension = _towards_embeddings(context) if port == "embeddings" else _towards_labels(context)

    def target(scene: str, points: PartReader) -> PartReader:
        return context.open_for(port, scene, points)

    lesson = Lesson(
        scenes=context.scenes("scenes", ("train",)),
        target=target,
        loss=loss,
        dimension=dimension,
        network=spec.network,
        training=spec.training,
        voxel_m=spec.voxel_m,
    )
    train_network(context, lesson, context.input_keys())


def _towards_embeddings(context: Context) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """The cosine loss to embeddings that pass through the frozen adapter, where the run has one."""
    dimension = int(context.artifact("embeddings").attributes["dimension"])
    if "adapter" not in context.inputs:
        return cosine_loss, dimension
    tensors, about = checkpoints.load(
        context.open(context.artifact("adapter")).file(checkpoints.FILE), expected="adapter"
    )
    adapter = Adapter(dimension, AdapterSpec.model_validate(about["adapter"]))
    adapter.load_state_dict(tensors)
    adapter.requires_grad_(False).to(context.machine.device)

    def loss(predicted: Tensor, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            adapted = adapter(embeddings)
        return cosine_loss(predicted, adapted)

    return loss, dimension


def _towards_labels(context: Context) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """Cross-entropy of the network's embeddings times the text embeddings."""
    text = torch.from_numpy(context.open(context.artifact("text_embeddings")).array("embeddings"))
    text = text.to(context.machine.device)
    return lambda predicted, labels: text_cross_entropy(predicted, text, labels), text.shape[1]

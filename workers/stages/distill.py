"""Distill: the 3D network towards the adapted embeddings (ESGS), or pseudo labels. Source: section 3.3, equation 2.

The adapter is frozen. A voxel's target is the mean of its covered points' embeddings, adapted; voxels that no view
covers carry no loss. With `target: labels` (ablations a and c of Table 3) the network keeps its D-dimensional head and
learns by cross-entropy on its product with the text embeddings. With `class_balance` a voxel counts by how frequent its
class is: its pseudo label, or the class whose text its target is nearest to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from storage.artifacts.store import PartReader
from storage.specs.parts import Adapter as AdapterSpec
from storage.specs.stages import Distill
from workers.context import Context
from workers.learning.losses import balance_weights, cosine_loss, text_cross_entropy
from workers.learning.train_network import Lesson, train_network
from workers.nets import checkpoints
from workers.nets.adapter import Adapter


def run(context: Context) -> None:
    """Trains on the scenes of the split `train` and publishes the output `network`."""
    spec = context.spec
    assert isinstance(spec, Distill)
    port = spec.target
    towards = _towards_embeddings if port == "embeddings" else _towards_labels
    loss, dimension = towards(context, spec.training.class_balance)

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


def _towards_embeddings(context: Context, balance: float) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """The cosine loss to embeddings that pass through the frozen adapter, where the run has one."""
    dimension = int(context.artifact("embeddings").attributes["dimension"])
    adapter = _frozen_adapter(context, dimension) if "adapter" in context.inputs else None
    text = _text(context) if balance else None

    def loss(predicted: Tensor, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            target = adapter(embeddings) if adapter else embeddings
            weights = None if text is None else balance_weights((target @ text.T).argmax(dim=1), balance)
        return cosine_loss(predicted, target, weights)

    return loss, dimension


def _frozen_adapter(context: Context, dimension: int) -> Adapter:
    tensors, about = checkpoints.load(
        context.open(context.artifact("adapter")).file(checkpoints.FILE), expected="adapter"
    )
    adapter = Adapter(dimension, AdapterSpec.model_validate(about["adapter"]))
    adapter.load_state_dict(tensors)
    return adapter.requires_grad_(False).to(context.machine.device)


def _towards_labels(context: Context, balance: float) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """Cross-entropy of the network's embeddings times the text embeddings."""
    text = _text(context)
    return lambda predicted, labels: text_cross_entropy(predicted, text, labels, balance), text.shape[1]


def _text(context: Context) -> Tensor:
    """(K,D) the classes' text embeddings on the run's device."""
    text = context.open(context.artifact("text_embeddings")).array("embeddings")
    return torch.from_numpy(text).to(context.machine.device)

"""Distill: the 3D network towards the adapted embeddings (ESGS), or pseudo labels. Source: section 3.3, equation 2.

The adapter is frozen. A voxel's target is the mean of its covered points' embeddings, adapted; voxels that no view
covers carry no loss. With `target: labels` (ablations a and c of Table 3) the network keeps its D-dimensional head and
learns by cross-entropy on its product with the text embeddings; with `target: scene_labels` (Fig. 1a) that product,
averaged over a scene, is taught which classes the scene has. With `class_balance` a voxel counts by how frequent its
class is: its pseudo label, or the class whose text its target is nearest to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from storage.artifacts.store import PartReader
from storage.specs.parts import Adapter as AdapterSpec
from storage.specs.stages import Distill
from workers.context import Context
from workers.learning.losses import balance_weights, cosine_loss, l1_loss, scene_classification_loss, text_cross_entropy
from workers.learning.train_network import Lesson, train_network
from workers.nets import checkpoints
from workers.nets.adapter import make_adapter

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def run(context: Context) -> None:
    """Trains on the scenes of the split `train` and publishes the output `network`.

    Raises:
        SpecInvalid: text of another dimension than the embeddings', whether training reads it or only `predict` will.
    """
    spec = context.spec
    assert isinstance(spec, Distill)
    if {"embeddings", "text_embeddings"} <= context.inputs.keys():
        _text_beside_embeddings(context)
    loss, dimension = _LOSSES[spec.target](context, spec)

    def target(scene: str, points: PartReader) -> PartReader:
        return points if spec.target == "scene_labels" else context.open_for(spec.target, scene, points)

    lesson = Lesson(
        scenes=context.scenes("scenes" if spec.target == "scene_labels" else spec.target, ("train",)),
        target=target,
        loss=loss,
        dimension=dimension,
        network=spec.network,
        colours=spec.colours,
        head_bias=spec.head_bias,
        training=spec.training,
        voxel_m=spec.voxel_m,
    )
    train_network(context, lesson, context.input_keys())


def _towards_embeddings(context: Context, spec: Distill) -> tuple[Loss, int]:
    """The distance to embeddings that pass through the frozen adapter, where the run has one."""
    dimension = int(context.artifact("embeddings").attributes["dimension"])
    adapter = _frozen_adapter(context, dimension) if "adapter" in context.inputs else None
    balance = spec.training.class_balance
    text = None
    if balance:
        text = _text_beside_embeddings(context)
    distance = cosine_loss if spec.loss == "cosine" else l1_loss

    def loss(predicted: Tensor, embeddings: Tensor, _scene: Tensor) -> Tensor:
        with torch.no_grad():
            target = adapter(embeddings) if adapter else embeddings
            weights = None if text is None else balance_weights((target @ text.T).argmax(dim=1), balance)
        return distance(predicted, target, weights)

    return loss, dimension


def _frozen_adapter(context: Context, dimension: int) -> nn.Module:
    tensors, about = checkpoints.load(
        context.open(context.artifact("adapter")).file(checkpoints.FILE), expected="adapter"
    )
    adapter = make_adapter(dimension, AdapterSpec.model_validate(about["adapter"]))
    adapter.load_state_dict(tensors)
    return adapter.requires_grad_(False).to(context.machine.device)


def _towards_labels(context: Context, spec: Distill) -> tuple[Loss, int]:
    """Cross-entropy of the network's embeddings times the text embeddings."""
    text, balance = _text(context), spec.training.class_balance
    return lambda predicted, labels, _scene: text_cross_entropy(predicted, text, labels, balance), text.shape[1]


def _towards_scene_labels(context: Context, _spec: Distill) -> tuple[Loss, int]:
    """Class activation maps: what a scene's voxels say on average, against the classes that the scene has."""
    text = _text(context)

    def loss(predicted: Tensor, classes: Tensor, scene: Tensor) -> Tensor:
        scene = scene.long()
        present = torch.zeros(int(scene.max()) + 1, classes.shape[1], dtype=torch.bool, device=classes.device)
        present[scene] = classes > 0
        return scene_classification_loss(predicted @ text.T, scene, present)

    return loss, text.shape[1]


_LOSSES: dict[str, Callable[[Context, Distill], tuple[Loss, int]]] = {
    "embeddings": _towards_embeddings,
    "labels": _towards_labels,
    "scene_labels": _towards_scene_labels,
}


def _text_beside_embeddings(context: Context) -> Tensor:
    """(K,D) as `_text`, D being that of the lifted embeddings."""
    dimension = int(context.artifact("embeddings").attributes["dimension"])
    return torch.from_numpy(context.text_embeddings(dimension, "a lifted embedding")).to(context.machine.device)


def _text(context: Context) -> Tensor:
    """(K,D) the classes' text embeddings on the run's device."""
    text = context.open(context.artifact("text_embeddings")).array("embeddings")
    return torch.from_numpy(text).to(context.machine.device)

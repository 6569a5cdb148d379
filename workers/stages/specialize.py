"""Specialize: trains the ESS adapter on pseudo labels. Source: section 3.2, equation 1; schedule: section 4.2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from storage.artifacts.store import WHOLE
from storage.errors import PointOrderMismatch, TrainingFailed
from storage.labels import IGNORE
from storage.specs.stages import Specialize
from workers.context import Context
from workers.learning.ahead import ahead, loader_threads
from workers.learning.fit import Job, fit
from workers.learning.kept import Kept
from workers.learning.losses import text_cross_entropy
from workers.nets import checkpoints
from workers.nets.adapter import make_adapter

Batch = tuple[Tensor, Tensor, tuple[str, ...]]
"""(P,D) embeddings, (P,) labels, and the scenes that they are drawn from."""


def run(context: Context) -> None:
    """Trains on the scenes of the split `train` and publishes the output `adapter`.

    Raises:
        TrainingFailed: no training scene, a scene without a single labelled point, a loss that is not finite.
    """
    scenes = context.scenes("embeddings", ("train",))
    if not scenes:
        raise TrainingFailed("there is no scene in the split 'train' to specialise on; check the dataset's splits")
    dimension = int(context.artifact("embeddings").attributes["dimension"])
    with context.scene_part("adapter", WHOLE, context.input_keys()) as part:
        if part is not None:
            adapter = _train(context, scenes, dimension)
            path = part.path(checkpoints.FILE)
            checkpoints.save(
                path, adapter.state_dict(), what="adapter", adapter=_spec(context).adapter.model_dump(),
                dimension=dimension,
            )  # fmt: skip
            part.set(what="adapter", dimension=dimension)
    context.publish("adapter", dimension=dimension, train_scenes=scenes)


def _train(context: Context, scenes: list[str], dimension: int) -> nn.Module:
    spec = _spec(context)
    device = torch.device(context.machine.device)
    torch.manual_seed(int(context.rng("weights").integers(2**31)))
    text = torch.from_numpy(context.text_embeddings(dimension, "a lifted embedding")).to(device)
    adapter = make_adapter(dimension, spec.adapter).to(device)
    batch_size = min(spec.optimiser.batch_size, len(scenes))

    kept = Kept()

    def batches(epoch: int, first: int) -> Iterator[object]:
        order = context.rng("order", epoch).permutation(len(scenes))
        used = [scenes[i] for i in order[: len(scenes) - len(scenes) % batch_size]]
        draws = ahead(
            [partial(_draw, context, scene, epoch, kept) for scene in used[first * batch_size :]],
            batch_size,
            loader_threads(device, context.machine.threads),
        )
        for start in range(first * batch_size, len(used), batch_size):
            chosen, drawn = tuple(used[start : start + batch_size]), list(islice(draws, batch_size))
            yield (
                torch.from_numpy(np.concatenate([e for e, _ in drawn])).to(device),
                torch.from_numpy(np.concatenate([y for _, y in drawn])).to(device),
                chosen,
            )

    def loss(batch: object) -> Tensor:
        embeddings, labels, _ = cast(Batch, batch)
        adapted = adapter(embeddings.float())
        if spec.cosine_scale is not None:
            adapted = spec.cosine_scale * functional.normalize(adapted, dim=1)
        return text_cross_entropy(adapted, text, labels, spec.class_balance)

    def named(batch: object) -> tuple[str, ...]:
        return cast(Batch, batch)[2]

    fit(context, Job(adapter, spec.optimiser, len(scenes) // batch_size, batches, loss, named))
    return adapter


def _draw(
    context: Context, scene: str, epoch: int, kept: Kept
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float16]], np.ndarray[tuple[int, ...], np.dtype[np.int16]]]:
    """Random labelled points of a scene: (P,D) embeddings and (P,) labels."""
    lifted = context.open(context.artifact("embeddings"), scene)
    pseudo = context.open(context.artifact("labels"), scene)
    if pseudo.attributes["point_order"] != lifted.attributes["point_order"]:
        raise PointOrderMismatch(
            f"scene {scene}: the pseudo labels and the embeddings were made for different points; compute both from "
            "the same scenes",
            scene=scene,
        )
    labels = kept.array(pseudo, "labels")[kept.array(lifted, "point_index")]
    labelled = np.flatnonzero(labels != IGNORE)
    if not len(labelled):
        raise TrainingFailed(f"scene {scene} has not one labelled point", scene=scene)
    count = min(_spec(context).points_per_scene, len(labelled))
    chosen = np.sort(context.rng("points", epoch, scene).choice(labelled, count, replace=False))
    return kept.rows(lifted, "embeddings", chosen), labels[chosen]


def _spec(context: Context) -> Specialize:
    assert isinstance(context.spec, Specialize)
    return context.spec

"""Trains the 3D network, whatever its target: what `distill` and `supervise` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from storage.artifacts.store import WHOLE, PartReader
from storage.errors import TrainingFailed
from storage.specs.parts import Augment, InputFeatures, Network, Training
from workers.context import Context
from workers.learning.ahead import ahead, loader_threads
from workers.learning.fit import Job, check_finite, fit
from workers.learning.kept import Kept
from workers.learning.precision import compute_dtype
from workers.learning.samples import Sample, make_sample
from workers.nets import checkpoints
from workers.nets.inputs import as_inputs
from workers.nets.minkunet import MinkUNet
from workers.nets.recognition import HEAD_BIAS
from workers.sparse.choose import choose_engine


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the network is taught."""

    scenes: list[str]
    target: Callable[[str, PartReader], PartReader]
    """Scene id and its `scenes` part -> the part that holds its targets."""
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(T,D) embeddings of the voxels with a target, (T,...) the targets, (T,) their scene in the batch -> a scalar."""
    dimension: int
    network: Network
    training: Training
    voxel_m: float
    colours: InputFeatures = "plus_half"
    """What the network is fed of a voxel's colour."""
    head_bias: bool = True


SHIFT_ONLY = Augment(rotate=False, flip=0, scale=0, elastic=False, colour_jitter=0, colour_shift=0)
"""Nothing but the random shift of the voxel grid: scenes as they are predicted."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Several samples as the network takes them."""

    coordinates: Tensor
    """(V,4) batch index and voxel coordinates."""
    colours: Tensor
    """(V,3) mean colours in 0..1."""
    rows: Tensor
    targets: Tensor
    scenes: tuple[str, ...] = ()
    """Their ids, where somebody may ask."""


def train_network(context: Context, lesson: Lesson, inputs: dict[str, str]) -> None:
    """Trains and publishes the output `network`.

    Args:
        context: the run.
        lesson: what is taught.
        inputs: port -> artifact key, of everything that the network is made from.

    Raises:
        TrainingFailed: no scene to train on, a scene without a single target, a loss that is not finite.
    """
    if not lesson.scenes:
        raise TrainingFailed("there is no scene in the split 'train' to train on; check the dataset's splits")
    with context.scene_part("network", WHOLE, inputs) as part:
        if part is not None:
            _train(context, lesson, part.path(checkpoints.FILE))
            part.set(what="network", arch=lesson.network.arch, voxel_m=lesson.voxel_m, dimension=lesson.dimension)
    context.publish("network", voxel_m=lesson.voxel_m, dimension=lesson.dimension, train_scenes=lesson.scenes)


def _train(context: Context, lesson: Lesson, path: Path) -> None:
    torch.manual_seed(int(context.rng("weights").integers(2**31)))
    device = torch.device(context.machine.device)
    engine = choose_engine(lesson.network.engine)
    model = MinkUNet(3, lesson.dimension, lesson.network.arch, engine, head_bias=lesson.head_bias).to(device)
    training = lesson.training
    order_length = len(lesson.scenes) * training.repeats
    batch_size = min(training.optimiser.batch_size, order_length)

    kept = Kept()
    loaders = loader_threads(device, context.machine.threads)
    lower = compute_dtype(training.precision, device) == torch.bfloat16

    def batches(epoch: int, first: int) -> Iterator[object]:
        order = context.rng("order", epoch).permutation(order_length) % len(lesson.scenes)
        used = [lesson.scenes[scene] for scene in order[: order_length - order_length % batch_size]]
        makes = [partial(_sample, context, lesson, scene, (epoch, place), kept) for place, scene in enumerate(used)]
        samples = ahead(makes[first * batch_size :], batch_size, loaders)
        for start in range(first * batch_size, len(used), batch_size):
            chosen = list(islice(samples, batch_size))
            yield replace(collate(chosen, device), scenes=tuple(used[start : start + batch_size]))

    def loss(batch: object) -> Tensor:
        given = cast(Batch, batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=lower):
            embeddings = model(given.coordinates, as_inputs(given.colours, lesson.colours))
        return lesson.loss(embeddings.float()[given.rows], given.targets, given.coordinates[given.rows, 0])

    def scenes(batch: object) -> tuple[str, ...]:
        return cast(Batch, batch).scenes

    fit(context, Job(model, training.optimiser, order_length // batch_size, batches, loss, scenes))
    if training.calibrate_norms:
        _calibrate(context, lesson, model, kept)
        check_finite(model, training.optimiser)
    tensors, departures = model.state_dict(), _departures(lesson)
    if not lesson.head_bias:  # as an imported network's
        tensors[HEAD_BIAS] = tensors["final.kernel"].new_zeros(1, lesson.dimension)
    checkpoints.save(
        path,
        tensors,
        what="network",
        network=lesson.network.model_dump(),
        dimension=lesson.dimension,
        voxel_m=lesson.voxel_m,
        multiplied_in="bfloat16" if lower else "float32",
        **departures,
    )


def _departures(lesson: Lesson) -> dict[str, object]:
    """What a checkpoint says of colours and head where they are not the defaults: files of the others are as ever."""
    inputs: dict[str, object] = {} if lesson.colours == "plus_half" else {"inputs": lesson.colours}
    return inputs if lesson.head_bias else {**inputs, "head_bias": False}


@torch.no_grad()
def _calibrate(context: Context, lesson: Lesson, model: MinkUNet, kept: Kept) -> None:
    """Takes batch norm's statistics anew from whole training scenes, as they are predicted, with the final weights.

    The running averages that training leaves follow its last few crops, which a short training does not outlive.
    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 (PreciseBN).
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
    model.train()
    whole = lesson.training.model_copy(update={"crop_voxels": None, "augment": SHIFT_ONLY})
    device = next(model.parameters()).device
    for index, scene in enumerate(lesson.scenes):
        points = context.open(context.artifact("scenes"), scene)
        rng = context.rng("calibration", index)
        sample = make_sample(points, lesson.target(scene, points), lesson.voxel_m, whole, rng, kept)
        batch = collate([sample], device)
        model(batch.coordinates, as_inputs(batch.colours, lesson.colours))
        context.check()
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _sample(context: Context, lesson: Lesson, scene: str, place: tuple[int, int], kept: Kept) -> Sample:
    """One scene's sample; a crop without a target is drawn again from the whole scene."""
    points = context.open(context.artifact("scenes"), scene)
    target = lesson.target(scene, points)
    voxel_m = lesson.voxel_m * (2 if place[0] < _coarse_epochs(lesson.training) else 1)
    for attempt in range(4):
        training = lesson.training if attempt < 3 else lesson.training.model_copy(update={"crop_voxels": None})
        rng = context.rng("sample", *place, attempt)
        sample = make_sample(points, target, voxel_m, training, rng, kept)
        if len(sample.rows):
            return sample
    raise TrainingFailed(
        f"scene {scene} has not one voxel with a target: no view covers it, or its labels are all ignored", scene=scene
    )


def _coarse_epochs(training: Training) -> int:
    return min(training.coarse_epochs, training.optimiser.epochs - 1)


def collate(samples: list[Sample], device: torch.device) -> Batch:
    """Several samples as one batch; rows of targets count through the batch."""
    coordinates, rows, first = [], [], 0
    for index, sample in enumerate(samples):
        batch_column = np.full((len(sample.coordinates), 1), index, np.int32)
        coordinates.append(np.concatenate([batch_column, sample.coordinates], axis=1))
        rows.append(sample.rows + first)
        first += len(sample.coordinates)
    return Batch(
        torch.from_numpy(np.concatenate(coordinates)).to(device),
        torch.from_numpy(np.concatenate([s.colours for s in samples])).to(device),
        torch.from_numpy(np.concatenate(rows)).to(device),
        torch.from_numpy(np.concatenate([s.targets for s in samples])).to(device),
    )

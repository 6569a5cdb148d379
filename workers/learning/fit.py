"""The one training loop: an optimiser, a schedule, metrics, cancellation, and a checkpoint to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from storage.errors import TrainingFailed
from storage.specs.parts import Optimiser
from workers.context import Context
from workers.learning import resume
from workers.learning.optimisers import Optimisers
from workers.learning.schedules import learning_rate

KEEP_EVERY_S = 60.0
"""A checkpoint to resume from is kept at the end of an epoch, and after a step that ends so long after the last one."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained and on what."""

    model: nn.Module
    optimiser: Optimiser
    batches_per_epoch: int
    batches: Callable[[int, int], Iterator[object]]
    """(epoch, first) -> its batches from that one on; what they draw must depend on the epoch and their place alone, so
    that a resumed run repeats nothing, and needs no random state."""
    loss: Callable[[object], Tensor]
    """A batch -> its loss, a scalar that gradients flow from."""
    scenes: Callable[[object], Sequence[str]] = lambda _batch: ()
    """A batch -> its scenes, for the error that names them."""


def fit(context: Context, job: Job) -> None:
    """Trains `job.model` in place; continues after the last step that an earlier attempt kept.

    Records the metrics `loss` and `learning_rate` at every step.

    Raises:
        TrainingFailed: the loss is not finite (names the step and the batch's scenes), or in the end a weight is not
            (names them); an epoch holds no whole step; a step does not fit the GPU's memory (names what would).
        RunStopped: the run was cancelled or fenced off; the last checkpoint stays for the next attempt.
    """
    optimisers = Optimisers(job.model, job.optimiser)
    checkpoint = context.machine.scratch / _checkpoint_name(context)
    together, epochs = job.optimiser.accumulate, job.optimiser.epochs
    steps_per_epoch = job.batches_per_epoch // together
    if not steps_per_epoch:
        raise TrainingFailed(
            f"an epoch has {job.batches_per_epoch} batches, a step takes {together}; lower `accumulate` or `batch_size`"
        )
    steps = epochs * steps_per_epoch
    resume.take_over(checkpoint, context.machine.files)
    first = resume.load(checkpoint, job.model, optimisers)
    if first:
        context.reporter.note(f"resumed after step {first} of {steps}")
    job.model.train()
    start = kept = time.monotonic()
    for step in _steps(first, steps, steps_per_epoch, job):
        rate = learning_rate(job.optimiser, step.number, steps)
        try:
            loss = _step(job, optimisers, step.batches, rate)
        except torch.OutOfMemoryError as error:
            raise TrainingFailed(_too_large(job, step, error, steps)) from error
        if not math.isfinite(loss):
            raise TrainingFailed(_not_finite(job, step, loss, steps))
        done, now = step.number + 1, time.monotonic()
        context.reporter.metric("loss", done, loss)
        context.reporter.metric("learning_rate", done, rate)
        context.reporter.progress(
            unit="step", done=done, total=steps, epoch=step.epoch + 1, epochs=epochs, loss=round(loss, 4),
            eta_s=round((now - start) / (done - first) * (steps - done), 1),
        )  # fmt: skip
        if done % steps_per_epoch == 0 or now - kept >= KEEP_EVERY_S:
            resume.save(checkpoint, done, job.model, optimisers)
            resume.send(checkpoint, context.machine.files)
            kept = now
        context.check()
    job.model.eval()
    check_finite(job.model, job.optimiser)


def _checkpoint_name(context: Context) -> str:
    """Of stage, algorithm and spec: what another version of the code kept is not gone on from."""
    spec = context.spec
    return f"{spec.stage}-{spec.algorithm}-{spec.digest()[:12]}.safetensors"


@dataclass(frozen=True, slots=True)
class _Step:
    """A step to come: its number from 0, its epoch, and its batches."""

    number: int
    epoch: int
    batches: list[object]


def _steps(first: int, steps: int, steps_per_epoch: int, job: Job) -> Iterator[_Step]:
    """The steps from `first` on."""
    together = job.optimiser.accumulate
    for epoch in range(first // steps_per_epoch, steps // steps_per_epoch):
        number = max(first, epoch * steps_per_epoch)
        for batches in _groups(job.batches(epoch, (number - epoch * steps_per_epoch) * together), together):
            yield _Step(number, epoch, batches)
            number += 1


def _not_finite(job: Job, step: _Step, loss: float, steps: int) -> str:
    rate = job.optimiser.learning_rate
    return f"the loss is {loss} at {_named(job, step, steps)}; lower the learning rate from {rate}"


def _too_large(job: Job, step: _Step, error: Exception, steps: int) -> str:
    said = (str(error).splitlines() or ["no more is known"])[0][:200]
    return (
        f"{_named(job, step, steps)} does not fit the GPU's memory ({said}); halve `optimiser.batch_size` from "
        f"{job.optimiser.batch_size} and double `optimiser.accumulate` from {job.optimiser.accumulate}, or bound "
        "scenes by `training.crop_voxels`, where the stage has it"
    )


def _named(job: Job, step: _Step, steps: int) -> str:
    """A step with its scenes, in words."""
    shown = ", ".join(["", *(scene for batch in step.batches for scene in job.scenes(batch))])
    return f"step {step.number} of {steps} (epoch {step.epoch}{shown})"


def check_finite(model: nn.Module, optimiser: Optimiser) -> None:
    """Refuses a trained network that would predict nothing.

    Raises:
        TrainingFailed: a parameter or a running statistic is infinite or not a number; names the first ones.
    """
    tensors = model.state_dict()
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise TrainingFailed(
            f"after the last step {len(bad)} of {len(tensors)} tensors are not finite ({', '.join(bad[:3])}, ..); "
            f"lower the learning rate from {optimiser.learning_rate}"
        )


def _groups(batches: Iterator[object], together: int) -> Iterator[list[object]]:
    """Batches by the step that they belong to; a last, incomplete group is left out."""
    while len(group := list(islice(batches, together))) == together:
        yield group


def _step(job: Job, optimisers: Optimisers, batches: Sequence[object], rate: float) -> float:
    """One optimiser step on the mean of the batches' losses; returns that before it."""
    job.model.zero_grad(set_to_none=True)
    value = 0.0
    for batch in batches:
        loss = job.loss(batch) / len(batches)
        value += float(loss.detach())
        if not math.isfinite(value):
            return value
        loss.backward()  # type: ignore[no-untyped-call]
    optimisers.step(rate)
    return value

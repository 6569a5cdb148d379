"""The one training loop: an optimiser, a schedule, metrics, cancellation, and a checkpoint an epoch to resume from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from storage.errors import TrainingFailed
from storage.specs.parts import Optimiser
from workers.context import Context
from workers.learning.optimisers import Optimisers
from workers.learning.schedules import learning_rate


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained and on what."""

    model: nn.Module
    optimiser: Optimiser
    batches_per_epoch: int
    batches: Callable[[int], Iterator[object]]
    """Epoch -> its batches; what it draws must depend on the epoch alone, so that a resumed run repeats nothing."""
    loss: Callable[[object], Tensor]
    """A batch -> its loss, a scalar that gradients flow from."""
    scenes: Callable[[object], Sequence[str]] = lambda _batch: ()
    """A batch -> its scenes, for the error that names them."""


def fit(context: Context, job: Job) -> None:
    """Trains `job.model` in place; continues after the last epoch that an earlier attempt finished.

    Records the metrics `loss` and `learning_rate` at every step.

    Raises:
        TrainingFailed: the loss is not finite (names the step and the batch's scenes); an epoch holds no whole step.
        RunStopped: the run was cancelled or fenced off; the last epoch's checkpoint stays for the next attempt.
    """
    optimisers = Optimisers(job.model, job.optimiser)
    checkpoint = context.machine.scratch / f"{context.spec.stage}-{context.spec.digest()[:12]}.pt"
    first = _resume(checkpoint, job.model, optimisers)
    if first:
        context.reporter.note(f"resumed after epoch {first} of {job.optimiser.epochs}")
    together = job.optimiser.accumulate
    steps_per_epoch = job.batches_per_epoch // together
    if not steps_per_epoch:
        raise TrainingFailed(
            f"an epoch has {job.batches_per_epoch} batches, a step takes {together}; lower `accumulate` or `batch_size`"
        )
    steps = job.optimiser.epochs * steps_per_epoch
    job.model.train()
    start, done_before = time.monotonic(), first * steps_per_epoch
    step = done_before
    for epoch in range(first, job.optimiser.epochs):
        for batches in _groups(job.batches(epoch), together):
            rate = learning_rate(job.optimiser, step, steps)
            loss = _step(job, optimisers, batches, rate)
            if not math.isfinite(loss):
                shown = ", ".join(["", *(scene for batch in batches for scene in job.scenes(batch))])
                raise TrainingFailed(
                    f"the loss is {loss} at step {step} of {steps} (epoch {epoch}{shown}); "
                    f"lower the learning rate from {job.optimiser.learning_rate}"
                )
            step += 1
            context.reporter.metric("loss", step, loss)
            context.reporter.metric("learning_rate", step, rate)
            left = (time.monotonic() - start) / (step - done_before) * (steps - step)
            context.reporter.progress(
                unit="step", done=step, total=steps, epoch=epoch + 1, epochs=job.optimiser.epochs,
                loss=round(loss, 4), eta_s=round(left, 1),
            )  # fmt: skip
            context.check()
        _save(checkpoint, epoch + 1, job.model, optimisers)
    job.model.eval()


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


def _save(path: Path, epochs: int, model: nn.Module, optimisers: Optimisers) -> None:
    """Keeps what is needed to go on after this epoch; replaced in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    torch.save({"epochs": epochs, "model": model.state_dict(), "optimisers": optimisers.state()}, new)
    new.replace(path)


def _resume(path: Path, model: nn.Module, optimisers: Optimisers) -> int:
    """Loads what an earlier attempt kept; returns how many epochs it had finished."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimisers.load(state["optimisers"])
    return int(state["epochs"])

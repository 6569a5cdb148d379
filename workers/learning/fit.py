"""The one training loop: an optimiser, a schedule, metrics, cancellation, and a checkpoint an epoch to resume from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    steps_per_epoch: int
    batches: Callable[[int], Iterator[object]]
    """Epoch -> its batches; what it draws must depend on the epoch alone, so that a resumed run repeats nothing."""
    loss: Callable[[object], Tensor]
    """A batch -> its loss, a scalar that gradients flow from."""


def fit(context: Context, job: Job) -> None:
    """Trains `job.model` in place; continues after the last epoch that an earlier attempt finished.

    Records the metrics `loss` and `learning_rate` at every step.

    Raises:
        TrainingFailed: the loss is not finite.
        RunStopped: the run was cancelled or fenced off; the last epoch's checkpoint stays for the next attempt.
    """
    optimisers = Optimisers(job.model, job.optimiser)
    checkpoint = context.machine.scratch / f"{context.spec.stage}-{context.spec.digest()[:12]}.pt"
    first = _resume(checkpoint, job.model, optimisers)
    if first:
        context.reporter.note(f"resumed after epoch {first} of {job.optimiser.epochs}")
    steps = job.optimiser.epochs * job.steps_per_epoch
    job.model.train()
    start, done_before = time.monotonic(), first * job.steps_per_epoch
    step = done_before
    for epoch in range(first, job.optimiser.epochs):
        for batch in job.batches(epoch):
            rate = learning_rate(job.optimiser, step, steps)
            loss = _step(job, optimisers, batch, rate)
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"the loss is {loss} at step {step} of {steps} (epoch {epoch}); lower the learning rate from "
                    f"{job.optimiser.learning_rate}"
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


def _step(job: Job, optimisers: Optimisers, batch: object, rate: float) -> float:
    """One optimiser step; returns the loss before it."""
    job.model.zero_grad(set_to_none=True)
    loss = job.loss(batch)
    value = float(loss.detach())
    if math.isfinite(value):
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

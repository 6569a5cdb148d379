"""Learning rates over time. Source: section 4.2."""

from __future__ import annotations

from storage.specs.parts import Optimiser, StepSchedule


def learning_rate(optimiser: Optimiser, step: int, steps: int) -> float:
    """The learning rate of a step.

    Args:
        optimiser: the initial rate and the schedule.
        step: 0..steps-1.
        steps: optimiser steps in the whole training.
    """
    schedule = optimiser.schedule
    if isinstance(schedule, StepSchedule):
        epoch = step * optimiser.epochs // steps
        return float(optimiser.learning_rate * schedule.factor ** (epoch // schedule.every_epochs))
    warm = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
    if step == 0:
        warm *= schedule.first_step_factor
    return float(optimiser.learning_rate * warm * (1 - step / steps) ** schedule.power)

"""Learning rates against the numbers that section 4.2 gives."""

from __future__ import annotations

import pytest

from storage.specs.parts import Optimiser, PolySchedule, StepSchedule
from storage.specs.stages import Distill, Specialize
from workers.learning.schedules import learning_rate


def test_step_schedule_multiplies_by_0_7_every_20_epochs() -> None:
    optimiser = Specialize().optimiser
    assert (optimiser.learning_rate, optimiser.epochs, optimiser.batch_size) == (0.003, 80, 16)
    rates = [learning_rate(optimiser, epoch * 10, 800) for epoch in range(80)]
    assert rates[0] == rates[19] == 0.003
    assert rates[20] == pytest.approx(0.0021)
    assert rates[79] == pytest.approx(0.003 * 0.7 * 0.7 * 0.7)


def test_poly_schedule_falls_from_the_initial_rate_towards_zero() -> None:
    optimiser = Distill().training.optimiser
    assert (optimiser.learning_rate, optimiser.batch_size) == (1e-4, 8)
    assert learning_rate(optimiser, 0, 100) == pytest.approx(1e-4)
    assert learning_rate(optimiser, 50, 100) == pytest.approx(1e-4 * 0.5**0.9)
    assert 0 < learning_rate(optimiser, 99, 100) < 2e-6


def test_warm_up_rises_to_the_rate_without_it() -> None:
    plain = Optimiser(learning_rate=1.0, schedule=PolySchedule(), epochs=1, batch_size=1)
    warm = Optimiser(learning_rate=1.0, schedule=PolySchedule(warmup_steps=4), epochs=1, batch_size=1)
    shares = [learning_rate(warm, step, 50) / learning_rate(plain, step, 50) for step in range(6)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_step_schedule_counts_epochs_not_steps() -> None:
    optimiser = Optimiser(learning_rate=1.0, schedule=StepSchedule(factor=0.5, every_epochs=1), epochs=3, batch_size=1)
    assert [learning_rate(optimiser, step, 6) for step in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]

"""What a run asks of a machine: GPUs and memory, as whoever submitted it said, else as its stage does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import ColumnElement, and_, case, func

from storage.records.tables import RunRow
from storage.specs.stages import STAGES

GPU_STAGES = frozenset(name for name, spec in STAGES.items() if spec.uses_gpu)
"""Stages that use a GPU where the machine has one."""
ROUNDING_GB = 1e-6
"""What sums of gigabytes may be off by."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Some of a machine: what a run asks for, or what there is to give."""

    gpus: int = 0
    memory_gb: float = 0.0
    """GB (10^9 bytes) that it holds while it runs; infinite where a machine's is not known."""

    def within(self, other: Needs) -> bool:
        """Whether `other` is enough for it.

        Examples:
            >>> Needs(1, 8.0).within(Needs(2, 8.0)), Needs(1, 8.0).within(Needs(2, 4.0))
            (True, False)
        """
        return self.gpus <= other.gpus and self.memory_gb <= other.memory_gb + ROUNDING_GB

    def less(self, other: Needs) -> Needs:
        """What of it is left beside `other`; never less than nothing."""
        return Needs(max(0, self.gpus - other.gpus), max(0.0, self.memory_gb - other.memory_gb))


class Asking(Protocol):
    """A run, or its row, as far as it asks for something."""

    @property
    def stage(self) -> str:
        """Its stage."""

    @property
    def gpus(self) -> int | None:
        """GPUs that it was submitted with."""

    @property
    def memory_gb(self) -> float | None:
        """Memory that it was submitted with."""


def of(row: Asking, *, has_gpus: bool) -> Needs:
    """What a run asks of a machine with GPUs or without: where it has none, a stage that would use one does without.

    A run that was submitted with a number of GPUs gets no fewer.
    """
    by_stage = int(has_gpus and row.stage in GPU_STAGES)
    return Needs(by_stage if row.gpus is None else row.gpus, row.memory_gb or 0.0)


def fits(room: Needs, *, has_gpus: bool) -> ColumnElement[bool]:
    """SQL's condition for runs that ask for no more than `room`: the same as `of(row).within(room)`."""
    by_stage = case((RunRow.stage.in_(GPU_STAGES), 1), else_=0) if has_gpus else 0
    enough: ColumnElement[bool] = func.coalesce(RunRow.gpus, by_stage) <= room.gpus
    if math.isinf(room.memory_gb):
        return enough
    return and_(enough, func.coalesce(RunRow.memory_gb, 0.0) <= room.memory_gb + ROUNDING_GB)

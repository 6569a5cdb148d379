"""Metrics in columns: what external trainers log, and what charts are drawn from; and the other calls of trainers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import chain, repeat
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service import examples
from service.schemas.pages import gives
from service.schemas.requests import LeaseSeconds, takes
from service.schemas.runs import Progress
from storage.records.states import OwnersEnd

MAX_POINTS_A_CALL = 50_000
"""Most points that one call logs."""

AttemptNumber = Annotated[
    int | None,
    Field(ge=1, le=2**31 - 1, description="Number of the caller's attempt: refused where another has begun."),
]
MetricName = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=250)]
Step = Annotated[int, Field(ge=-(2**53), le=2**53)]
Value = float | None
"""None: it was not finite."""


class MetricColumn(BaseModel):
    """One metric: a value for each step."""

    model_config = ConfigDict(extra="forbid")

    steps: list[Step]
    values: list[Value]


class MetricEntry(BaseModel):
    """One value of one metric."""

    model_config = ConfigDict(extra="forbid")

    name: MetricName
    step: Step
    value: Value = None


class MetricBatch(BaseModel):
    """Metrics of a run, in any of three forms: a table of steps and names, a series a name, or points one by one.

    The last value of a name and step counts. The same batch may be sent twice: the second changes nothing.
    """

    model_config = takes(examples.METRIC_BATCH)

    attempt: AttemptNumber = None
    steps: list[Step] = Field(default_factory=list, description="Steps of `columns`.")
    columns: dict[MetricName, list[Value]] = Field(
        default_factory=dict, description="Name -> a value for each of `steps`; null where it was not finite."
    )
    series: dict[MetricName, MetricColumn] = Field(
        default_factory=dict, description="Name -> its own steps and values."
    )
    points: list[MetricEntry] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuses columns of other lengths than their steps, and too many points."""
        for name, values in self.columns.items():
            _check_lengths(name, len(self.steps), len(values))
        for name, column in self.series.items():
            _check_lengths(name, len(column.steps), len(column.values))
        if self.steps and not self.columns:
            raise ValueError("got steps without columns; `columns` has the values of each name")
        if len(self) > MAX_POINTS_A_CALL:
            raise ValueError(f"got {len(self)} points, expected at most {MAX_POINTS_A_CALL} a call; send several")
        return self

    def __len__(self) -> int:
        """Number of points."""
        return (
            len(self.steps) * len(self.columns)
            + sum(len(column.steps) for column in self.series.values())
            + len(self.points)
        )

    def rows(self) -> Iterator[tuple[str, int, float | None]]:
        """(name, step, value) of every point."""
        return chain(
            chain.from_iterable(zip(repeat(name), self.steps, values) for name, values in self.columns.items()),
            chain.from_iterable(zip(repeat(name), one.steps, one.values) for name, one in self.series.items()),
            ((point.name, point.step, point.value) for point in self.points),
        )


def _check_lengths(name: str, num_steps: int, num_values: int) -> None:
    """Refuses values that have not each their step."""
    if num_steps != num_values:
        raise ValueError(f"{name}: got {num_values} values for {num_steps} steps, expected one for each")


class Held(BaseModel):
    """An attempt that its owner holds."""

    model_config = gives(examples.HELD)

    run_id: str
    attempt: int
    lease_until: datetime = Field(description="When it is given up, unless its trainer calls before.")


class StartRequest(BaseModel):
    """A run of stage `external` to start."""

    model_config = takes(examples.START_REQUEST)

    lease_s: LeaseSeconds = Field(300, description="It fails when its trainer is silent for so long.")


class BeatRequest(BaseModel):
    """A sign of life, with how far the trainer is."""

    model_config = takes(examples.BEAT_REQUEST)

    attempt: AttemptNumber = None
    progress: Progress | None = None


class FinishRequest(BaseModel):
    """How a run of stage `external` ended."""

    model_config = takes(examples.FINISH_REQUEST)

    attempt: AttemptNumber = None
    state: OwnersEnd
    reason: str | None = Field(None, max_length=10_000, description="Why, where it did not succeed.")


class ChartSeries(BaseModel):
    """One metric in buckets: an entry in each list for every bucket that has points."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    num_points: int
    first_step: list[int]
    last_step: list[int]
    count: list[int] = Field(description="Points in the bucket.")
    first: list[float | None] = Field(description="Value at `first_step`; null where it was not finite.")
    min: list[float | None] = Field(description="Least of the finite values.")
    max: list[float | None]
    last: list[float | None]


class MetricChart(BaseModel):
    """Metrics over a range of steps in buckets of one width: what a chart of so many pixels shows of all points."""

    model_config = gives(examples.METRIC_CHART)

    first: int = Field(description="First step of the range.")
    last: int = Field(description="Last step of it; below `first` where there is no point.")
    width: int = Field(description="Steps a bucket.")
    series: list[ChartSeries]

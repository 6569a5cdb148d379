"""What lists are asked for, and runs with only the fields that were."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, TypedDict

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from service import examples
from service.schemas.pages import Page
from storage.records.run_filters import MAX_METRIC_BOUNDS, SORT
from storage.records.states import RunState

_RFC_3339 = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"


def _in_utc(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: in UTC it lies outside the calendar.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("in UTC this lies before the year 1 or after the year 9999") from error


def _written(value: object) -> object:
    """The same text, where it is written as a moment: pydantic alone would take seconds since 1970 too.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, datetime) and (not isinstance(value, str) or re.match(_RFC_3339, value) is None):
        raise ValueError("expected a moment with its zone, such as 2026-01-31T09:30:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_utc)]
"""A point in time with its zone."""

_AFTER, _BEFORE = "Not before this moment (RFC 3339, with its zone).", "Before this moment (RFC 3339, with its zone)."
_CURSOR = Field(None, description="`next` of the page before, which was sorted the same way.")
_LIMIT = Field(100, ge=1, le=500, description="Most items of a page; where few fit the filters, it may hold fewer.")


class RunQuery(BaseModel):
    """Which runs a list holds, in which order, and what it shows of each."""

    model_config = ConfigDict(extra="ignore")

    state: RunState | None = None
    stage: str | None = None
    experiment: str | None = Field(None, description="Id of an experiment.")
    dataset: str | None = Field(None, description="Name of a dataset.")
    owner: str | None = Field(None, description="Who submitted it.")
    tag: str | None = Field(None, description="A tag that it has.")
    text: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Stands in its id, its name, its notes or the reason why it ended; A to Z in either case.",
    )
    created_after: Moment | None = Field(None, description=_AFTER)
    created_before: Moment | None = Field(None, description=_BEFORE)
    finished_after: Moment | None = Field(None, description=_AFTER)
    finished_before: Moment | None = Field(None, description=_BEFORE)
    metric: list[str] = Field(
        default_factory=list,
        max_length=MAX_METRIC_BOUNDS,
        description=(
            "A bound on a metric, such as `loss<0.5` (its latest value), `max(accuracy)>=0.9` or `min(loss)<0.1` (the"
            " highest and the lowest ever logged); give it again for more. `miou` and `macc` are the best that a run's"
            " evaluation gave, `miou.NAME` those of one prediction; shares of 1, or with % of 100."
        ),
        examples=[["loss<0.5"]],
    )
    sort: str = Field(
        "newest",
        pattern=SORT,
        description=(
            "newest, oldest, finished (the last that finished first), priority (the highest first), or highest:METRIC"
            " or lowest:METRIC by its latest value. Runs that have not finished, or have no such metric, are not in the"
            " list that is sorted by it."
        ),
        examples=["newest", "lowest:loss"],
    )
    fields: str | None = Field(
        None,
        max_length=1000,
        description="Only these fields of each run, and its id: names with commas between.",
        examples=["id,state,ended_at"],
    )
    cursor: str | None = _CURSOR
    limit: int = _LIMIT


class ExperimentQuery(BaseModel):
    """Which experiments a list holds, and in which order."""

    model_config = ConfigDict(extra="ignore")

    owner: str | None = Field(None, description="Who submitted it.")
    recipe: str | None = Field(None, description="The recipe that it was made from.")
    text: str | None = Field(
        None, min_length=1, max_length=200, description="Stands in its id or its name; A to Z in either case."
    )
    created_after: Moment | None = Field(None, description=_AFTER)
    created_before: Moment | None = Field(None, description=_BEFORE)
    sort: str = Field("newest", pattern="^(newest|oldest)$", description="newest or oldest.")
    cursor: str | None = _CURSOR
    limit: int = _LIMIT


class RunWanted(TypedDict, total=False):
    """What a client narrows a list of runs by, and how it is sorted: as in `RunQuery`."""

    state: str | None
    stage: str | None
    experiment: str | None
    dataset: str | None
    owner: str | None
    tag: str | None
    text: str | None
    created_after: datetime | None
    created_before: datetime | None
    finished_after: datetime | None
    finished_before: datetime | None
    metric: Sequence[str]
    sort: str | None


class ExperimentWanted(TypedDict, total=False):
    """What a client narrows a list of experiments by, and how it is sorted: as in `ExperimentQuery`."""

    owner: str | None
    recipe: str | None
    text: str | None
    created_after: datetime | None
    created_before: datetime | None
    sort: str | None


class RunPart(BaseModel):
    """Some fields of a run: its id, and those that were asked for, as in `Run`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [examples.RUN_PART]})

    id: str


class RunPartPage(Page[RunPart]):
    """A page of runs of which only some fields were asked for."""

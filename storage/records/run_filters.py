"""Which runs a list holds, and in which order: filters and sorts, and the walk that serves them.

Knows the tables' indexes; reads nothing itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from storage.errors import InvalidInput
from storage.records import walks
from storage.records.states import FINAL, RunState
from storage.records.tables import MetricSummaryRow, RunRow, RunTagRow
from storage.records.walks import Walk, all_of

METRIC_BOUND = r"^[^<>=\x00]{1,200}(>=|<=|>|<) *-?[0-9]{1,18}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,3})?%?$"
"""How a bound on a metric is written."""

SORT = r"^(newest|oldest|finished|priority|(highest|lowest):[^\x00]{1,200})$"
"""How a sort is written."""

MAX_METRIC_BOUNDS = 4
"""Most bounds on metrics that one list takes: each is looked up for every run that is walked."""

_NEWEST, _FIRST = datetime(9999, 12, 31, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)

Value = Literal["latest", "lowest", "highest"]
_VALUES: dict[str, Value] = {"min": "lowest", "max": "highest"}


@dataclass(frozen=True, slots=True)
class MetricBound:
    """A bound on a metric: `loss<0.5` on its latest value, `max(miou)>=30%` or `min(loss)<0.1` on the best that was.

    Examples:
        >>> MetricBound.parse("max(miou) >= 30%")
        MetricBound(name='miou', operator='>=', bound=0.3, value='highest')
    """

    name: str
    operator: str
    bound: float
    value: Value = "latest"

    @classmethod
    def parse(cls, text: str) -> MetricBound:
        """A bound as it is written.

        Raises:
            InvalidInput: it is written otherwise, or its number is not finite.
        """
        parts = re.split("(>=|<=|>|<)", text)
        if re.match(METRIC_BOUND, text) is None or len(parts) != 3 or not parts[0].strip():
            raise InvalidInput(
                f"got the metric {text[:200]!r}, expected NAME>VALUE, such as 'loss<0.5', 'max(miou)>=30%' or"
                " 'min(loss)<0.1'"
            )
        name, number = parts[0].strip(), parts[2].strip()
        bound = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
        if not math.isfinite(bound):
            raise InvalidInput(f"got the metric {text[:200]!r}, whose number is too large")
        best = re.fullmatch(r"(min|max)\((.+)\)", name)
        return cls(best[2] if best else name, parts[1], bound, _VALUES[best[1]] if best else "latest")


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list holds; None does not filter."""

    state: RunState | None = None
    stage: str | None = None
    experiment: str | None = None
    dataset: str | None = None
    owner: str | None = None
    tag: str | None = None
    text: str | None = None
    """Stands in the id, the name, the notes or the reason why the run ended, A to Z in either case."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    metrics: tuple[MetricBound, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSort:
    """An order of runs; those that have no such value (not finished, no such metric) are not in it."""

    by: str = "newest"
    """newest, oldest, finished, priority, or highest or lowest for a metric's latest value."""
    metric: str | None = None

    @classmethod
    def parse(cls, text: str) -> RunSort:
        """A sort as it is written.

        Raises:
            InvalidInput: there is none of that name.

        Examples:
            >>> RunSort.parse("lowest:loss")
            RunSort(by='lowest', metric='loss')
        """
        if re.match(SORT, text) is None:
            raise InvalidInput(
                f"got the sort {text[:200]!r}, expected newest, oldest, finished, priority, highest:METRIC or"
                " lowest:METRIC"
            )
        by, _, metric = text.partition(":")
        return cls(by, metric or None)

    @property
    def text(self) -> str:
        """The sort as it is written."""
        return self.by if self.metric is None else f"{self.by}:{self.metric}"

    @property
    def key_types(self) -> tuple[type, ...]:
        """Types of what its cursor holds."""
        kinds: dict[str, type] = {"finished": datetime, "priority": int, "highest": float, "lowest": float}
        return (kinds[self.by], str) if self.by in kinds else (str,)


@dataclass(frozen=True, slots=True)
class Search:
    """What serves a filter and a sort: a walk, and what each of its rows is put to."""

    walk: Walk
    fits: ColumnElement[bool] | None
    cost: int
    """Rows that are read to know whether one fits, itself included."""


def search(only: RunFilter, sort: RunSort) -> Search:
    """The walk for a filter and a sort.

    By age, it is along the index of the filter that is the narrowest as a rule, between the ids of the time in
    question; all others are put to each row.
    """
    if sort.by in ("newest", "oldest"):
        walk, served = _by_age(only, descending=sort.by == "newest")
    else:
        walk, served = _by_value(only, sort), ""
    run_id = walk.order[-1]
    own, probes = list(_own(only, served)), list(_probes(only, served, run_id))
    if run_id is RunRow.id or not own:
        return Search(walk, all_of([*own, *probes]), 1 + len(probes))
    whole = select(all_of(own)).where(RunRow.id == run_id).scalar_subquery()  # type: ignore[arg-type]
    return Search(walk, all_of([whole, *probes]), 2 + len(probes))


def _by_age(only: RunFilter, *, descending: bool) -> tuple[Walk, str]:
    """The walk by age, and the filter that it serves itself ("": none)."""
    low = () if only.created_after is None else (walks.id_before("r", only.created_after),)
    ends = [end for end in (only.created_before, only.finished_before) if end is not None]
    high = (walks.id_behind("r", min(ends)),) if ends else ()
    served, column, value = _narrowest(only)
    if column is None:
        return Walk((RunRow.id,), (), low, high, descending), served
    tells = {RunTagRow.tag: RunTagRow.run_id, MetricSummaryRow.name: MetricSummaryRow.run_id}.get(column, RunRow.id)
    return Walk((column, tells), (value,), low, high, descending), served


def _narrowest(only: RunFilter) -> tuple[str, InstrumentedAttribute[Any] | None, object]:
    """The filter that leaves the fewest runs as a rule: its name, the first column of its index, its value."""
    waits = only.state is not None and only.state not in FINAL
    metric = only.metrics[0].name if only.metrics else None
    candidates: tuple[tuple[str, InstrumentedAttribute[Any], object], ...] = (
        ("experiment", RunRow.experiment_id, only.experiment),
        ("tag", RunTagRow.tag, only.tag),
        ("state", RunRow.state, only.state if waits else None),
        ("metric", MetricSummaryRow.name, metric),
        ("owner", RunRow.owner, only.owner),
        ("dataset", RunRow.dataset, only.dataset),
        ("stage", RunRow.stage, only.stage),
        ("state", RunRow.state, only.state),
    )
    return next((one for one in candidates if one[2] is not None), ("", None, None))


def _by_value(only: RunFilter, sort: RunSort) -> Walk:
    """The walk by something else than age."""
    if sort.by == "finished":
        low, high = only.finished_after or _FIRST, only.finished_before or _NEWEST
        return Walk((RunRow.ended_at, RunRow.id), (), (low,), (high,))
    if sort.by == "priority":
        return Walk((RunRow.priority, RunRow.id))
    table = MetricSummaryRow
    order = (table.name, table.latest, table.run_id)
    return Walk(order, (sort.metric,), (-math.inf,), (math.inf,), sort.by == "highest")


def _own(only: RunFilter, served: str) -> Iterator[ColumnElement[Any]]:
    """What a run's own row is put to, the cheapest first."""
    for name, column, value in (
        ("state", RunRow.state, only.state),
        ("stage", RunRow.stage, only.stage),
        ("experiment", RunRow.experiment_id, only.experiment),
        ("dataset", RunRow.dataset, only.dataset),
        ("owner", RunRow.owner, only.owner),
    ):
        if value is not None and name != served:
            yield column == value
    if only.created_after is not None:
        yield RunRow.created_at >= only.created_after
    if only.created_before is not None:
        yield RunRow.created_at < only.created_before
    if only.finished_after is not None:
        yield RunRow.ended_at >= only.finished_after
    if only.finished_before is not None:
        yield RunRow.ended_at < only.finished_before
    if only.text is not None:
        places = (RunRow.id, RunRow.name, RunRow.notes, func.coalesce(RunRow.reason, ""))
        yield or_(*(place.icontains(only.text, autoescape=True) for place in places))


def _probes(only: RunFilter, served: str, run_id: InstrumentedAttribute[Any]) -> Iterator[ColumnElement[Any]]:
    """What is looked up elsewhere, one row each, by the run's id.

    As scalars: an EXISTS may be answered from a table of all that exist, which PostgreSQL would read first.
    """
    if only.tag is not None and served != "tag":
        tag = aliased(RunTagRow)
        yield select(tag.run_id).where(tag.run_id == run_id, tag.tag == only.tag).scalar_subquery().is_not(None)
    for bound in only.metrics:
        table = aliased(MetricSummaryRow)
        of_run = select(getattr(table, bound.value)).where(table.run_id == run_id, table.name == bound.name)
        yield of_run.scalar_subquery().op(bound.operator, is_comparison=True)(bound.bound)

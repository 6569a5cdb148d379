"""Lists of runs on a lab's worth of them: filters, sorts and pages against plain Python on all that there is."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.populate import experiment_id, made_at, populate, run_id, score_of
from migrations.upgrade import upgrade
from storage.errors import InvalidInput
from storage.records import run_fields, runs, walks
from storage.records.database import Database
from storage.records.run_filters import MetricBound, RunFilter, RunSort
from storage.records.runs import Run
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.postgres import new_database

NUM_RUNS = 1500
POINTS = 10
Fits = Callable[[Run], bool]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database that nobody writes to, full of runs."""
    if request.param == "sqlite":
        url = f"sqlite:///{Path(tmp_path_factory.mktemp('lab')) / 'vlglab.db'}"
    else:
        url = new_database(request.getfixturevalue("postgres_server"))
    upgrade(url)
    db = Database.open(url)
    populate(db, NUM_RUNS, POINTS)
    yield db
    db.close()


@pytest.fixture(scope="module")
def every(lab: Database) -> list[Run]:
    """Every run, oldest first."""
    with lab.read() as session:
        fields = run_fields.read(session, [run_id(index) for index in range(NUM_RUNS)])
    return [Run(**one) for one in fields]


def walked(db: Database, only: RunFilter, sort: str = "newest", limit: int = 7) -> list[str]:
    """The ids of a whole list, page by page; no page is longer than asked for."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = list_runs(db, only, cursor, limit, sort=RunSort.parse(sort))
        assert len(page.items) <= limit
        found += [run.id for run in page.items]
        cursor = page.next
        if cursor is None:
            return found


def number(run: Run) -> int:
    """Which run it is, from 0."""
    return int(run.spec["seed"])


def loss(run: Run) -> float:
    """The loss at the last step, as `populate` writes it: its metrics' scales count from 1 in their order."""
    return 4.0 * (1.0 / (POINTS // 5) + (number(run) * 7919 % 1000) / 1000.0)


def miou(run: Run) -> float | None:
    return score_of(number(run)) if run.stage == "evaluate" and run.state in ("succeeded", "cached") else None


SINCE, UNTIL = made_at(400), made_at(700) + timedelta(seconds=1)


def between(moment: datetime | None, low: datetime | None = SINCE, high: datetime | None = UNTIL) -> bool:
    return moment is not None and (low is None or moment >= low) and (high is None or moment < high)


def bound(*texts: str) -> tuple[MetricBound, ...]:
    return tuple(MetricBound.parse(text) for text in texts)


FILTERS: dict[str, tuple[RunFilter, Fits]] = {
    "all": (RunFilter(), lambda run: True),
    "state": (RunFilter(state="failed"), lambda run: run.state == "failed"),
    "waiting": (RunFilter(state="ready"), lambda run: run.state == "ready"),
    "stage": (RunFilter(stage="predict"), lambda run: run.stage == "predict"),
    "dataset": (RunFilter(dataset="homes"), lambda run: run.dataset == "homes"),
    "owner": (RunFilter(owner="eve"), lambda run: run.owner == "eve"),
    "experiment and state": (
        RunFilter(experiment=experiment_id(50), state="failed"),
        lambda run: run.experiment_id == experiment_id(50) and run.state == "failed",
    ),
    "tag": (RunFilter(tag="rare"), lambda run: "rare" in run.tags),
    "tag and state": (RunFilter(tag="all", state="cached"), lambda run: "all" in run.tags and run.state == "cached"),
    "text in notes": (RunFilter(text="half THE"), lambda run: "Half the" in run.notes),
    "text in reasons": (RunFilter(text="step 7 is"), lambda run: "step 7 is" in (run.reason or "")),
    "text in ids": (RunFilter(text=run_id(77).upper()), lambda run: run.id == run_id(77)),
    "text in names": (RunFilter(text="predict-77"), lambda run: "predict-77" in run.name),
    "text with signs": (RunFilter(text="100%_"), lambda run: False),
    "created": (RunFilter(created_after=SINCE, created_before=UNTIL), lambda run: between(run.created_at)),
    "created in a state": (
        RunFilter(created_after=SINCE, created_before=UNTIL, state="cached"),
        lambda run: between(run.created_at) and run.state == "cached",
    ),
    "finished": (RunFilter(finished_after=SINCE, finished_before=UNTIL), lambda run: between(run.ended_at)),
    "finished since": (RunFilter(finished_after=SINCE), lambda run: between(run.ended_at, high=None)),
    "metric": (RunFilter(metrics=bound("loss<3.5")), lambda run: loss(run) < 3.5),
    "metrics": (
        RunFilter(metrics=bound("min(loss)>=2.5", "max(loss)<=8.0"), stage="distill"),
        # The highest value is that of step 0: one scale above the last of two steps, half a scale.
        lambda run: loss(run) >= 2.5 and loss(run) + 2.0 <= 8.0 and run.stage == "distill",
    ),
    "miou": (RunFilter(metrics=bound("miou>30%")), lambda run: (miou(run) or 0) > 0.3),
    "tag and metric": (
        RunFilter(tag="all", metrics=bound("miou.ours<0.5")),
        lambda run: "all" in run.tags and miou(run) is not None and (miou(run) or 0) < 0.5,
    ),
    "nothing": (RunFilter(state="failed", owner="ada", text="nowhere"), lambda run: False),
}


SORTS: dict[str, tuple[Callable[[Run], object | None], bool]] = {
    "newest": (lambda run: run.id, True),
    "oldest": (lambda run: run.id, False),
    "finished": (lambda run: run.ended_at, True),
    "priority": (lambda run: run.priority, True),
    "highest:loss": (loss, True),
    "lowest:loss": (loss, False),
    "highest:miou": (miou, True),
}


@pytest.mark.parametrize("sort", ["newest", "oldest", "finished", "lowest:loss"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_list_holds_what_fits_once_and_in_its_order(lab: Database, every: list[Run], name: str, sort: str) -> None:
    only, fits = FILTERS[name]
    value, descending = SORTS[sort]
    wanted = [run for run in every if fits(run) and value(run) is not None]
    wanted.sort(key=lambda run: (value(run), run.id), reverse=descending)  # type: ignore[arg-type, return-value]
    assert wanted or name in ("nothing", "text with signs") or sort == "finished", "a filter that nothing fits"
    assert walked(lab, only, sort, 500) == [run.id for run in wanted]


@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_any_size_make_the_same_list(lab: Database, every: list[Run], sort: str) -> None:
    only, fits = FILTERS["all"] if sort == "highest:miou" else FILTERS["tag"]
    value, descending = SORTS[sort]
    wanted = [run for run in every if fits(run) and value(run) is not None]
    wanted.sort(key=lambda run: (value(run), run.id), reverse=descending)  # type: ignore[arg-type, return-value]
    assert wanted
    for limit in (1, 3, 50):
        assert walked(lab, only, sort, limit) == [run.id for run in wanted]


def test_a_page_may_be_empty_and_lead_on(lab: Database) -> None:
    only = RunFilter(text="step 7 is")
    first = list_runs(lab, only, limit=3)
    assert first.items == ()
    assert first.next is not None


@pytest.mark.parametrize("sort", ["finished", "priority", "lowest:loss"])
def test_a_cursor_belongs_to_its_order(lab: Database, sort: str) -> None:
    cursor = list_runs(lab, limit=1).next
    with pytest.raises(InvalidInput, match="sorted by"):
        list_runs(lab, cursor=cursor, sort=RunSort.parse(sort))


@pytest.mark.parametrize(
    "cursor", ["", "r0199f2a4c0de5e1a", "e30", "W10", "ü", "WyJuZXdlc3QiLCAxXQ", "WyJuZXdlc3QiLCJcdWQ4MDAiXQ"]
)
def test_a_cursor_that_no_page_gave(lab: Database, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="start again without"):
        list_runs(lab, cursor=cursor)


def test_moments_of_cursors_are_in_utc(lab: Database) -> None:
    cursor = base64.urlsafe_b64encode(b'["finished", "0001-01-01T00:00:00+14:00", "r1"]').decode().rstrip("=")
    with pytest.raises(InvalidInput, match="start again without"):
        list_runs(lab, cursor=cursor, sort=RunSort.parse("finished"))


def test_numbers_of_cursors_have_bounds() -> None:
    for name, kinds, key in (("priority", (int, str), (1 << 70, "r1")), ("highest:a", (float, str), (1e999, "r1"))):
        with pytest.raises(InvalidInput):
            walks.key_of(walks.cursor_of(name, key) or "", name, kinds)


@pytest.mark.parametrize("text", ["loss", "loss<", "<1", "loss<nan", "loss<1e999", "a<b<1", "loss=1", "loss<1x", " <1"])
def test_a_bound_that_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="got the metric"):
        MetricBound.parse(text)


@pytest.mark.parametrize("text", ["", "newest ", "highest:", "best:loss", "highest:\0"])
def test_a_sort_that_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="got the sort"):
        RunSort.parse(text)


def test_fields_are_those_of_a_run() -> None:
    assert set(run_fields.FIELDS) == set(Run.__dataclass_fields__)


def test_some_fields_of_runs(lab: Database, every: list[Run]) -> None:
    page = runs.list_fields(lab, ["state", "tags"], limit=3)
    assert list(page.items) == [{"id": run.id, "state": run.state, "tags": run.tags} for run in every[:-4:-1]]


def test_a_whole_run_is_read_as_by_itself(lab: Database, every: list[Run]) -> None:
    for run in every[::300]:
        assert runs.get(lab, run.id) == run

"""A lab's years of work, made up and written in bulk: experiments of ten runs, with metrics, events and evaluations.

Deterministic. What lists are filtered by is uneven, as it is in a lab: every failure is old, one owner has left, a tag
was used for a week, and what runs is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from storage import keys
from storage.records import tables
from storage.records.database import Database

STAGES = (
    "ingest", "embed_labels", "extract", "pseudo_label", "specialize",
    "distill", "predict", "predict", "evaluate", "report",
)  # fmt: skip
"""Stages of an experiment's runs, in their order; each reads the one before."""
METRICS = ("accuracy", "grad_norm", "learning_rate", "loss", "seconds")
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
BETWEEN = timedelta(seconds=300)
"""Time between two runs."""
_AT_ONCE = 5000

POINTS = """
INSERT INTO metrics (run_id, name, step, value, at)
WITH RECURSIVE steps(step) AS (SELECT 0 UNION ALL SELECT step + 1 FROM steps WHERE step + 1 < :steps),
names(name, scale) AS (VALUES {names})
SELECT runs.id, names.name, steps.step, names.scale * (1.0 / (1 + steps.step) + ((runs.seed * 7919) % 1000) / 1000.0),
    runs.created_at
FROM runs CROSS JOIN names CROSS JOIN steps WHERE runs.seed >= :first AND runs.seed < :until
"""
SUMMARIES = """
INSERT INTO metric_summaries (run_id, name, step, latest, lowest, highest)
SELECT run_id, name, :last, min(value), min(value), max(value) FROM metrics GROUP BY run_id, name
"""


@dataclass(frozen=True, slots=True)
class Lab:
    """What was made."""

    runs: int
    experiments: int
    points: int
    """Values of metrics."""


def populate(db: Database, num_runs: int, points_a_run: int) -> Lab:
    """Fills an empty database whose tables exist.

    Args:
        db: the database.
        num_runs: how many runs, a multiple of ten.
        points_a_run: values of metrics of each, a multiple of five.
    """
    with db.write() as session:
        session.execute(insert(tables.HostRow), [_host()])
        session.execute(insert(tables.DatasetRow), [_dataset(name) for name in ("offices", "homes")])
        for table, rows in (
            (tables.ExperimentRow, (experiment_row(i) for i in range(0, num_runs, len(STAGES)))),
            (tables.RunRow, (_run(i, num_runs) for i in range(num_runs))),
            (tables.ArtifactTableRow, (_artifact(i) for i in range(num_runs) if has_output(i, num_runs))),
            (tables.RunOutputRow, (_output(i) for i in range(num_runs) if has_output(i, num_runs))),
            (tables.RunInputRow, (_input(i, num_runs) for i in range(num_runs) if i % len(STAGES))),
            (tables.RunTagRow, (row for i in range(num_runs) for row in _tags(i))),
            (tables.EventRow, (row for i in range(num_runs) for row in _events(i, num_runs))),
            (tables.EvaluationTableRow, (row for i in range(num_runs) for row in _evaluations(i, num_runs))),
        ):
            _add(session, table, rows)
    steps = points_a_run // len(METRICS)
    names = ", ".join(f"('{name}', {scale + 1}.0)" for scale, name in enumerate(METRICS))
    for first in range(0, num_runs, _AT_ONCE):
        with db.write() as session:
            bounds = {"steps": steps, "first": first, "until": first + _AT_ONCE}
            session.execute(text(POINTS.format(names=names)), bounds)
    with db.write() as session:
        session.execute(text(SUMMARIES), {"last": steps - 1})
        scores = (row for i in range(num_runs) if has_output(i, num_runs) for row in _scores(i))
        _add(session, tables.MetricSummaryRow, scores)
    analyse(db)
    return Lab(num_runs, num_runs // len(STAGES), num_runs * steps * len(METRICS))


def analyse(db: Database) -> None:
    """What PostgreSQL's autovacuum does by itself sooner or later; SQLite needs none of it."""
    if not db.is_sqlite:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def run_id(index: int) -> str:
    """The id of a run by its number, from 0; ids rise with it."""
    return keys.id_at("r", made_at(index)) + f"{index:08x}"


def experiment_id(index: int) -> str:
    """The id of the experiment of a run."""
    first = index - index % len(STAGES)
    return keys.id_at("e", made_at(first)) + f"{first:08x}"


def made_at(index: int) -> datetime:
    """When a run was submitted."""
    return BEGAN + index * BETWEEN


def state_of(index: int, num_runs: int) -> str:
    """A run's state: the newest are ready or run, the oldest failed, and of the first half some are cancelled."""
    if index >= num_runs - 40:
        return ("ready", "running")[index % 2]
    if index < num_runs // 20:
        return "failed"
    if index < num_runs // 2 and index % 17 == 0:
        return "cancelled"
    return "cached" if index % 5 == 0 else "succeeded"


def owner_of(index: int, num_runs: int) -> str:
    """Whose a run is: eve left early; of the others ada has most."""
    if index < num_runs // 50:
        return "eve"
    return "bob" if index % 10 == 3 else "ada"


def has_output(index: int, num_runs: int) -> bool:
    """Whether a run gave something."""
    return state_of(index, num_runs) in ("succeeded", "cached")


def score_of(index: int) -> float:
    """The mIoU of an evaluation, a share of 1."""
    return (index * 31 % 997) / 1000


def tags_of(index: int) -> list[str]:
    """A run's tags: nearly all have the first, one in a thousand the second."""
    return [tag for tag, has in (("all", index % 20), ("rare", index % 1000 == 7)) if has]


def _add(session: Session, table: type[tables.Base], rows: Iterable[dict[str, Any]]) -> None:
    """Inserts rows, some thousands at a time, without making objects of them."""
    iterator: Iterator[dict[str, Any]] = iter(rows)
    while some := list(islice(iterator, _AT_ONCE)):
        session.connection().execute(insert(tables.Base.metadata.tables[table.__tablename__]), some)


def _run(index: int, num_runs: int) -> dict[str, Any]:
    stage, state = STAGES[index % len(STAGES)], state_of(index, num_runs)
    ended = None if state in ("ready", "running") else made_at(index) + timedelta(seconds=index * 53 % 9000)
    failed = state == "failed"
    spec = {
        "stage": stage, "voxel_m": (index % 7 + 1) / 100, "seed": index, "optimiser": {"kind": "adam", "rate": 1e-4},
        "network": {"arch": "MinkUNet18A", "width": 96}, "epochs": index % 11, "splits": ["train", "test"],
    }  # fmt: skip
    packages = {f"package-{number}": f"{number}.{index % 3}" for number in range(12)}
    return {
        "id": run_id(index), "experiment_id": experiment_id(index), "name": f"{stage}-{index % 1000}", "stage": stage,
        "dataset": ("offices" if index % 50 else "homes") if stage in ("ingest", "extract") else None, "spec": spec,
        "spec_digest": f"{index:032x}", "key": f"{index:032x}", "state": state, "priority": index * 13 % 7 - 3,
        "reason_code": "training_failed" if failed else None, "scene": None, "progress": None, "seed": index,
        "reason": f"the loss of step {index % 97} is not finite: lower the learning rate" if failed else None,
        "attempt": 1, "token": None, "created_at": made_at(index),
        "started_at": ended and made_at(index), "ended_at": ended, "host": "lab-1", "device": "cuda:0",
        "code": {"version": "0.1.0", "commit": "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d1f2a3c4d", "dirty": False},
        "environment": {"python": "3.11.9", "packages": packages}, "cancel_requested": False,
        "peak_rss_bytes": 10**9, "owner": owner_of(index, num_runs), "time_limit_s": None, "attempts_before_retry": 0,
        "notes": "with Half the voxels" if index % 500 == 3 else "a sweep over sizes of voxels and rates of learning",
    }  # fmt: skip


def experiment_row(index: int) -> dict[str, Any]:
    """The experiment that begins with a run."""
    return {
        "id": experiment_id(index), "name": f"sweep {index % 370}",
        "recipe": ("3dss-vlg", "ablation-a")[index % 3 == 0],
        "preset": "demo", "request": {"dataset": "offices"}, "created_at": made_at(index),
        "owner": ("ada", "bob")[index % 40 == 10],
    }  # fmt: skip


def _artifact(index: int) -> dict[str, Any]:
    return {
        "key": f"{index:032x}", "kind": "labels", "stage": STAGES[index % len(STAGES)], "output": "out",
        "run_id": run_id(index), "manifest_digest": "ab" * 32, "num_bytes": 10**6, "num_scenes": 25,
        "num_points": 10**6, "attributes": {"dimension": 384}, "created_at": made_at(index),
    }  # fmt: skip


def _output(index: int) -> dict[str, Any]:
    return {"run_id": run_id(index), "output": "out", "artifact_key": f"{index:032x}"}


def _input(index: int, num_runs: int) -> dict[str, Any]:
    key = f"{index - 1:032x}" if has_output(index - 1, num_runs) else None
    port = "predictions.ours" if STAGES[index % len(STAGES)] == "evaluate" else "scenes"
    return {
        "run_id": run_id(index), "port": port, "source_run_id": run_id(index - 1), "output": "out", "artifact_key": key,
    }  # fmt: skip


def _tags(index: int) -> list[dict[str, Any]]:
    return [{"run_id": run_id(index), "tag": tag} for tag in tags_of(index)]


def _events(index: int, num_runs: int) -> list[dict[str, Any]]:
    states = ("queued", "ready", "running", state_of(index, num_runs))
    return [
        {
            "run_id": run_id(index), "at": made_at(index), "kind": "state", "state": state, "attempt": 1,
            "message": "moved",
        }
        for state in states
    ]  # fmt: skip


def _evaluations(index: int, num_runs: int) -> list[dict[str, Any]]:
    if STAGES[index % len(STAGES)] != "evaluate" or not has_output(index, num_runs):
        return []
    classes = [{"name": name, "iou": score_of(index), "accuracy": 0.5, "num_points": 100} for name in ("wall", "floor")]
    return [
        {
            "artifact_key": f"{index:032x}", "prediction": "ours", "subset": "all", "position": 0,
            "miou": score_of(index), "macc": 0.5, "num_points": 200, "classes": classes, "confusion": None,
            "note": None,
        }
    ]  # fmt: skip


def _scores(index: int) -> list[dict[str, Any]]:
    if STAGES[index % len(STAGES)] != "evaluate":
        return []
    return [
        {"run_id": run_id(index), "name": name, "step": 0, "latest": value, "lowest": value, "highest": value}
        for name, value in (
            ("miou", score_of(index)), ("miou.ours", score_of(index)), ("macc", 0.5), ("macc.ours", 0.5))
    ]  # fmt: skip


def _host() -> dict[str, Any]:
    long_ago = BEGAN - timedelta(days=1)
    return {
        "id": "h0", "name": "lab-1", "pid": 1, "slots": 2, "gpus": [], "registered_at": long_ago,
        "heartbeat_at": long_ago, "retired_at": long_ago, "rss_bytes": 0, "peak_rss_bytes": 0,
    }  # fmt: skip


def _dataset(name: str) -> dict[str, Any]:
    return {
        "name": name, "kind": "synthrooms", "path": f"/rooms/{name}", "label_set": "s3dis13", "splits": ["train"],
        "options": {}, "created_at": BEGAN,
    }  # fmt: skip

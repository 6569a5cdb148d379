"""What a run may take, from past runs: medians of those of the same spec, else of the same stage. Knows the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from storage.records.tables import ArtifactTableRow, AttemptRow, RunRow

MOST = 50
"""How many past runs an estimate rests on at most: the latest."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run may take."""

    seconds: float
    """Median of the attempts that succeeded."""
    num_bytes: int
    """Median of what was published."""
    past_runs: int
    """How many runs it rests on."""
    alike: Literal["spec", "stage"]
    """What these have in common with it."""


def of(session: Session, stage: str, spec_digest: str) -> Estimate | None:
    """The estimate for a run; None where no run of its stage has computed anything."""
    same_spec = RunRow.spec_digest == spec_digest
    if (found := _past(session, [RunRow.stage == stage, same_spec])) is not None:
        return Estimate(*found, "spec")
    found = _past(session, [RunRow.stage == stage])
    return None if found is None else Estimate(*found, "stage")


def _past(session: Session, alike: Sequence[ColumnElement[bool]]) -> tuple[float, int, int] | None:
    """Median seconds and bytes of the latest runs that computed something, and how many they were."""
    latest = select(RunRow.id).where(*alike, RunRow.state == "succeeded").order_by(RunRow.id.desc()).limit(MOST)
    ids = list(session.scalars(latest))
    attempts = select(AttemptRow.claimed_at, AttemptRow.ended_at).where(
        AttemptRow.run_id.in_(ids), AttemptRow.state == "succeeded", AttemptRow.ended_at.is_not(None)
    )
    seconds = [(end - begin).total_seconds() for begin, end in session.execute(attempts) if end is not None]
    if not seconds:
        return None
    sizes = select(func.sum(ArtifactTableRow.num_bytes)).where(ArtifactTableRow.run_id.in_(ids))
    num_bytes = [int(size) for size in session.scalars(sizes.group_by(ArtifactTableRow.run_id))]
    num_bytes += [0] * (len(ids) - len(num_bytes))
    return median(seconds), int(median(num_bytes)), len(seconds)

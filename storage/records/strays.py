"""Logs and checkpoints of runs that are gone: an attempt that outlived its run's deletion wrote them after it.

Where the store is a bucket that is a host which had not heard of it, or that sent late. Knows the tables of runs and
where such files lie; what is marked, and when it is due, is `collecting`'s matter.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from storage.artifacts.run_files import RunFiles
from storage.records.database import Database
from storage.records.pages import pieces
from storage.records.tables import RunRow


def find(db: Database, files: RunFiles) -> dict[str, int]:
    """Ids of runs that are gone and of which files lie where every host sees them -> bytes of these.

    What lies is listed before the runs are asked for: a run that begins in between is not on the list.

    Raises:
        StoreUnreachable: the bucket does not answer.
    """
    lying = files.sizes()
    there = _there(db, lying)
    return {run_id: size for run_id, size in sorted(lying.items()) if run_id not in there}


def remove(db: Database, files: RunFiles, run_ids: Collection[str]) -> tuple[str, ...]:
    """Removes the files of those of some runs that are gone; the ids of these.

    Raises:
        StoreUnreachable: the bucket does not answer.
    """
    there = _there(db, run_ids)
    gone = tuple(sorted(set(run_ids) - there))
    for run_id in gone:
        files.forget(run_id)
    return gone


def _there(db: Database, run_ids: Collection[str]) -> set[str]:
    with db.read() as session:
        found = (session.scalars(select(RunRow.id).where(RunRow.id.in_(some))) for some in pieces(sorted(run_ids)))
        return {run_id for some in found for run_id in some}

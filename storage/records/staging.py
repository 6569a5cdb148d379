"""The collector of what was staged and never published, and which runs left what nobody needs. Knows no stage."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import select

from storage.artifacts.store import ArtifactStore
from storage.records import claims
from storage.records.database import Database
from storage.records.pages import pieces
from storage.records.tables import RunRow
from storage.records.withdrawals import writable

_WELL = ("succeeded", "cached")


def sweep(db: Database, store: ArtifactStore) -> int:
    """Removes what attempts that are over have left staged; returns of how many.

    What is staged is listed before the living attempts are asked for: one that is claimed in between stages nothing
    that is on the list.

    Raises:
        DatabaseError: the database does not answer; nothing is removed then.
        StoreUnwritable: the store cannot be changed.
    """
    staged = store.staged()
    if not staged:
        return 0
    living = claims.living_tokens(db)
    with writable():
        return store.sweep(living, among=staged)


def dead(db: Database, store: ArtifactStore) -> frozenset[str]:
    """Names of what a sweep would remove."""
    staged = store.staged()
    return staged - claims.living_tokens(db) if staged else staged


def needless(db: Database, run_ids: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Of some runs those that are gone, and those that have ended well, so that nothing resumes them."""
    well: set[str] = set()
    there: set[str] = set()
    with db.read() as session:
        for some in pieces(sorted(run_ids)):
            for run_id, state in session.execute(select(RunRow.id, RunRow.state).where(RunRow.id.in_(some))):
                there.add(run_id)
                if state in _WELL:
                    well.add(run_id)
    return frozenset(run_ids) - there, frozenset(well)


def num_bytes(store_root: Path, names: frozenset[str]) -> int:
    """Bytes of the files under some staging directories: it walks these, and nothing that is published."""
    folders = [store_root / "staging" / name for name in names]
    return sum(_size(path) for folder in folders if folder.is_dir() for path in folder.rglob("*"))


def _size(path: Path) -> int:
    """Bytes of a file; 0 of a folder, and of a file that has gone meanwhile."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0

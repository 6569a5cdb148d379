"""The collector of what was staged and never published. Knows attempts and the store; no stage's work."""

from __future__ import annotations

from storage.artifacts.store import ArtifactStore
from storage.records import claims
from storage.records.database import Database


def sweep(db: Database, store: ArtifactStore) -> int:
    """Removes what attempts that are over have left staged; returns of how many.

    What is staged is listed before the living attempts are asked for: one that is claimed in between stages nothing
    that is on the list.

    Raises:
        DatabaseError: the database does not answer; nothing is removed then.
    """
    staged = store.staged()
    return store.sweep(claims.living_tokens(db), among=staged) if staged else 0

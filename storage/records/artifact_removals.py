"""Deleting one artifact that no run is left of. Knows the tables and the store; not who may do it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.artifacts.store import ArtifactStore
from storage.errors import InUse, NotFound
from storage.records import artifact_sources, marks, references, withdrawals
from storage.records.database import Database, now
from storage.records.removals import Removal, is_begun
from storage.records.states import FINAL
from storage.records.tables import ArtifactTableRow, RunRow
from storage.records.withdrawals import Fate, kind_of


def delete(
    db: Database, store: ArtifactStore, key: str, by: str, *, at_once: bool = False, dry_run: bool = False
) -> Removal:
    """Deletes an artifact that no run gives or reads, nobody keeps and no other artifact was made from.

    Args:
        db: the database.
        store: the store.
        key: the artifact; one that somebody began to delete at once is deleted to the end.
        by: who deletes it; empty where nobody was asked.
        at_once: take it out of the store now; else it is marked and the collector does, after the grace period.
        dry_run: only tell what would be done.

    Raises:
        NotFound: there is none of that key.
        InUse: a run, a person or another artifact needs it; says which.
        StoreUnwritable: the store cannot be changed; the same request goes on.
    """
    if is_begun(db, "artifact", key):
        removed = () if dry_run else tuple(withdrawals.withdraw_all(db, store))
        return Removal((), None, tuple(one for one in removed if one.key == key), (), None)
    artifact_sources.learn(db, store)
    if dry_run:
        with db.read() as session:
            fate, due = _fate(session, key), None if at_once else marks.due(session)
        return Removal((), None, *withdrawals.foreseen(db, store, fate), due)
    with db.write() as session:
        fate, due = _fate(session, key), None
        if at_once:
            withdrawals.hide(session, [key], now(session))
        else:
            due = marks.set_deleted(session, [key], f"{by or 'somebody'} deleted it")
    if at_once:
        removed = tuple(one for one in withdrawals.withdraw_all(db, store) if one.key == key)
    else:
        removed = withdrawals.foreseen(db, store, fate)[0]
    return Removal((), None, removed, (), due)


def _fate(session: Session, key: str) -> Fate:
    """What becomes of it, once it was seen that it may go.

    Raises:
        NotFound, InUse: as `delete`.
    """
    row = session.get(ArtifactTableRow, key)
    if row is None:
        raise NotFound(f"there is no published artifact {key!r}")
    computing = select(RunRow.id).where(RunRow.id == row.run_id, RunRow.state.not_in(FINAL))
    if (used := withdrawals.users(session, [key], ()).get(key)) is not None:
        raise InUse(f"the artifact {key} is {used}; delete what uses it first (`vlglab runs delete`)")
    if (living := session.scalar(computing)) is not None:
        raise InUse(f"the artifact {key} is an output of the run {living}, which has not ended; wait, or cancel it")
    if (held := references.held(session, [key]).get(key)) is not None:
        raise InUse(f"the artifact {key} is {held}; ask them to let it go (`vlglab features pins`, `features leases`)")
    if (made := artifact_sources.made_from(session, key)) is not None:
        raise InUse(
            f"the {made[1]} artifact {made[0]} was made from the artifact {key}, and is verified and made again with"
            " it; delete that one first"
        )
    return Fate({key: kind_of(row.kind)}, ())

"""The collector: what nothing in the store needs is marked, and deleted when its grace period is over.

Whether something may go is asked twice: when it is marked, and again in the write transaction that takes its row away,
so that a pin, a lease or a run in between keeps it. Files leave by `withdrawals`, as those of deleted runs do. A
collector that dies leaves marks or removals, from which the next one goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import ColumnElement, Select, and_, delete, select
from sqlalchemy.orm import Session

from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import WHOLE, ArtifactManifest, ArtifactStore, PartEntry
from storage.errors import StoreError
from storage.records import artifacts, part_index, policies, references, runs, staging, strays, withdrawals
from storage.records.database import Database, now
from storage.records.keeping_tables import CollectionMarkRow
from storage.records.pages import pieces
from storage.records.references import Code
from storage.records.tables import RunOutputRow

What = Literal["artifact", "manifest", "part", "run_files"]
"""An artifact with its row; a manifest that no row names, with its parts; a part that no manifest names; logs and
checkpoints of a run that is gone."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that may go."""

    what: What
    id: str
    """Key of the artifact or of the part, or the run's id."""
    code: Code
    why: str
    num_bytes: int
    """What its deletion frees; a part that several of those found hold is counted with the first."""
    due_at: datetime
    """When it is deleted, unless somebody uses it before."""


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collector did; of a dry run, what it would do."""

    marked: tuple[Found, ...]
    """What waits for the end of its grace period."""
    removed: tuple[Found, ...]
    unmarked: int
    """What was marked and is needed again."""
    num_staged: int
    """Staging directories of dead workers."""
    staged_bytes: int

    @property
    def removed_bytes(self) -> int:
        """What is freed, staging included."""
        return sum(one.num_bytes for one in self.removed) + self.staged_bytes


@dataclass(frozen=True, slots=True)
class Collector:
    """Collects in one database and one store."""

    db: Database
    store: ArtifactStore
    store_root: Path
    """Where staging lies."""
    files: RunFiles | None = None
    """Where logs and checkpoints lie; None: they are left."""

    def look(self) -> Collection:
        """What `collect` would do now; nothing is written."""
        found, marks = self._find(), self._marks()
        moment = self.db.now()
        current = [replace(one, due_at=marks.get((one.what, one.id), one.due_at)) for one in found]
        due = tuple(one for one in current if one.due_at <= moment)
        dead = staging.dead(self.db, self.store)
        return Collection(
            marked=tuple(one for one in current if one.due_at > moment),
            removed=due,
            unmarked=len(marks.keys() - {(one.what, one.id) for one in found}),
            num_staged=len(dead),
            staged_bytes=staging.num_bytes(self.store_root, dead),
        )

    def collect(self) -> Collection:
        """Marks what may go, deletes what was marked long enough ago, and sweeps what dead workers have left.

        Raises:
            StoreUnwritable: the store cannot be changed; the next collector goes on.
        """
        dead = staging.dead(self.db, self.store)
        staged_bytes = staging.num_bytes(self.store_root, dead)
        num_staged = staging.sweep(self.db, self.store)
        part_index.update(self.db, self.store)
        unmarked = self._mark(self._find())
        removed, needed = self._collect_due()
        with self.db.read() as session:
            marked = tuple(_found(row) for row in session.scalars(_every_mark()))
        return Collection(marked, removed, unmarked + needed, num_staged, staged_bytes)

    def collect_due(self) -> tuple[Found, ...]:
        """Deletes what was marked long enough ago and is still not needed, and marks nothing.

        Raises:
            StoreUnwritable: the store cannot be changed; the next collector goes on.
        """
        with self.db.read() as session:
            if session.scalars(_due(now(session)).limit(1)).first() is None:
                return ()
        part_index.update(self.db, self.store)
        return self._collect_due()[0]

    def _find(self) -> list[Found]:
        """All that may go."""
        with self.db.read() as session:
            policy, moment = policies.of(session), now(session)
            chosen = references.candidates(session, policy)
            sizes = part_index.own_bytes(session, [one.key for one in chosen])
        due = moment + timedelta(seconds=policy.grace_s)
        found = [Found("artifact", one.key, one.code, one.why, sizes[one.key], due) for one in chosen]
        manifests = self._unrecorded()
        for key, manifest in manifests.items():
            size = 0 if manifest is None else sum(self._unheld(manifest).values())
            found.append(Found("manifest", key, "unrecorded", "no row names it: a dead worker left it", size, due))
        found += [
            Found("part", one.key, "orphan", "no artifact holds it: a dead worker left it", one.num_bytes, due)
            for one in self._orphans(manifests)
        ]
        strange = {} if self.files is None else strays.find(self.db, self.files)
        why = "its run is gone: a worker that outlived it left its logs or checkpoints"
        return found + [Found("run_files", run_id, "orphan", why, size, due) for run_id, size in strange.items()]

    def _unrecorded(self) -> dict[str, ArtifactManifest | None]:
        """Manifests that no row names; one that cannot be read is None."""
        lying = list(self.store.artifacts())
        recorded = artifacts.exists(self.db, lying)
        return {key: part_index.readable(self.store, key) for key in lying if key not in recorded}

    def _unheld(self, manifest: ArtifactManifest) -> dict[str, int]:
        """Part's key -> bytes, of those parts of a manifest that no artifact holds."""
        with self.db.read() as session:
            known = part_index.known(session, [part.key for part in manifest.parts])
        return {part.key: part.num_bytes for part in manifest.parts if part.key not in known}

    def _orphans(self, manifests: Mapping[str, ArtifactManifest | None]) -> list[PartEntry]:
        """Parts in the store that no manifest names; none where a manifest cannot be read, for it may name any."""
        with self.db.read() as session:
            others = {key: part_index.readable(self.store, key) for key in session.scalars(part_index.not_copied())}
        every = [*manifests.values(), *others.values()]
        if any(manifest is None for manifest in every):
            return []
        named = {part.key for manifest in every if manifest is not None for part in manifest.parts}
        lying = sorted(set(self.store.parts()) - named)
        with self.db.read() as session:
            known = part_index.known(session, lying)
        entries = (self._entry(key) for key in lying if key not in known)
        return [entry for entry in entries if entry is not None]

    def _entry(self, key: str) -> PartEntry | None:
        """A part's line; of one that cannot be read, a line that knows nothing but its key. None where it is gone."""
        try:
            return self.store.entry(key)
        except StoreError:
            return PartEntry("?", key, "")

    def _marks(self) -> dict[tuple[str, str], datetime]:
        """What is marked -> when it is due."""
        with self.db.read() as session:
            return {(row.what, row.id): row.due_at for row in session.scalars(_every_mark())}

    def _mark(self, found: Sequence[Found]) -> int:
        """Marks what is new, and takes the marks of what is needed again away; returns how many of these."""
        with self.db.write() as session:
            moment = now(session)
            grace = timedelta(seconds=policies.of(session).grace_s)
            marked = {(row.what, row.id): row for row in session.scalars(_every_mark())}
            for one in found:
                if marked.pop((one.what, one.id), None) is None:
                    session.add(
                        CollectionMarkRow(
                            what=one.what, id=one.id, code=one.code, why=one.why, num_bytes=one.num_bytes,
                            at=moment, due_at=moment + grace,
                        )
                    )  # fmt: skip
            for row in marked.values():
                session.delete(row)
            return len(marked)

    def _collect_due(self) -> tuple[tuple[Found, ...], int]:
        """Deletes what is due and not needed; that, and how many of the due ones are needed again."""
        with self.db.read() as session:
            due = [_found(row) for row in session.scalars(_due(now(session)))]
        by_id = {(one.what, one.id): one for one in due}
        keys = [one.id for one in due if one.what == "artifact"]
        needed = sum(len(some) - len(self._hide(some)) for some in pieces(keys))
        self._hide_manifests([one.id for one in due if one.what == "manifest"])
        gone: list[Found] = []
        for removed in withdrawals.withdraw_all(self.db, self.store):
            one = by_id.get(("artifact", removed.key)) or by_id.get(("manifest", removed.key))
            gone += [] if one is None else [replace(one, num_bytes=removed.num_bytes)]
        parts = self._withdraw_parts([one.id for one in due if one.what == "part"])
        gone += [by_id["part", key] for key in parts]
        gone += [by_id["run_files", run_id] for run_id in self._forget([i for what, i in by_id if what == "run_files"])]
        self.store.clear()
        return tuple(gone), needed

    def _forget(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Removes the files of those of some runs that are gone, and the marks of all; the former's ids."""
        if self.files is None or not run_ids:
            return ()
        gone = strays.remove(self.db, self.files, run_ids)
        with self.db.write() as session:
            session.execute(delete(CollectionMarkRow).where(_of("run_files", run_ids)))
        return gone

    def _hide(self, keys: Sequence[str]) -> list[str]:
        """Takes the rows of those artifacts away that still may go, and the marks of the others; the former's keys."""
        with self.db.write() as session:
            chosen = references.candidates(session, policies.of(session), keys)
            _tell_runs(session, {one.key: one.why for one in chosen})
            withdrawals.hide(session, [one.key for one in chosen], now(session))
            session.execute(delete(CollectionMarkRow).where(_of("artifact", keys)))  # those that are needed again
            return [one.key for one in chosen]

    def _hide_manifests(self, keys: Sequence[str]) -> None:
        """Marks manifests without a row for `withdraw_all`; those that a run may be about to record stay."""
        for key in keys:
            manifest = part_index.readable(self.store, key)
            with self.db.write() as session:
                if artifacts.existing(session, [key]):
                    session.execute(delete(CollectionMarkRow).where(_of("manifest", [key])))
                elif not references.is_being_written(session, kind=None if manifest is None else manifest.kind):
                    withdrawals.hide(session, [key], now(session))

    def _withdraw_parts(self, keys: Iterable[str]) -> list[str]:
        """Withdraws those of some parts that still may go."""
        groups: dict[bool | None, list[str]] = {}
        for key in keys:
            entry = self._entry(key)
            scene_wise = None if entry is None or not entry.digest else entry.scene != WHOLE
            groups.setdefault(scene_wise, []).append(key)
        return [
            key
            for scene_wise, some in groups.items()
            for key in withdrawals.withdraw_parts(self.db, self.store, some, scene_wise)
        ]


def _tell_runs(session: Session, reasons: Mapping[str, str]) -> None:
    """Writes into the events of runs that an output of theirs was collected; they have it no more."""
    for some in pieces(list(reasons)):
        for given in session.scalars(select(RunOutputRow).where(RunOutputRow.artifact_key.in_(some))).all():
            said = f"its output {given.output!r} ({given.artifact_key}) was collected: {reasons[given.artifact_key]}"
            runs.note(session, runs.row_of(session, given.run_id), said)
        session.execute(delete(RunOutputRow).where(RunOutputRow.artifact_key.in_(some)))
    session.flush()


def _of(what: What, keys: Sequence[str]) -> ColumnElement[bool]:
    return and_(CollectionMarkRow.what == what, CollectionMarkRow.id.in_(keys))


def _every_mark() -> Select[CollectionMarkRow]:
    return select(CollectionMarkRow).order_by(CollectionMarkRow.due_at, CollectionMarkRow.what, CollectionMarkRow.id)


def _due(moment: datetime) -> Select[CollectionMarkRow]:
    return _every_mark().where(CollectionMarkRow.due_at <= moment)


def _found(row: CollectionMarkRow) -> Found:
    what: What = row.what  # type: ignore[assignment]
    code: Code = row.code  # type: ignore[assignment]
    return Found(what, row.id, code, row.why, row.num_bytes, row.due_at)

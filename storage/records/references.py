"""What keeps an artifact in the store, and which artifacts nothing keeps. Knows the tables alone; deletes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, Exists, Select, and_, func, literal, or_, select
from sqlalchemy.orm import Session, aliased

from storage.artifacts.kinds import KINDS
from storage.records.database import now
from storage.records.keeping_tables import ArtifactUseRow, CollectionMarkRow, PinRow, ReadLeaseRow
from storage.records.pages import pieces
from storage.records.policies import Policy
from storage.records.tables import ArtifactTableRow, RunInputRow, RunOutputRow, RunRow
from storage.specs.spec import ArtifactKind
from storage.specs.stages import STAGES

Code = Literal["deleted", "unreferenced", "expired", "unrecorded", "orphan"]
"""Why something may go: somebody deleted it, or its run; no run is left that has to do with it; nobody used it for
long; a manifest that no row names; a part that no artifact holds, or files of a run that is gone."""

_WAITING = ("queued", "ready")
_LIVE = (*_WAITING, "running")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An artifact that may go."""

    key: str
    kind: ArtifactKind
    code: Code
    why: str


def held(session: Session, keys: Collection[str]) -> dict[str, str]:
    """Artifact's key -> who keeps it by a pin or a lease, in words; keys that nobody keeps are left out."""
    moment = now(session)
    found: dict[str, list[str]] = defaultdict(list)
    for some in pieces(keys):
        pins = select(PinRow).where(PinRow.artifact_key.in_(some), _pin_holds(moment)).order_by(PinRow.owner)
        for pin in session.scalars(pins):
            found[pin.artifact_key].append(f"pinned{_by(pin.owner)}: {pin.reason}")
        leases = select(ReadLeaseRow).where(ReadLeaseRow.artifact_key.in_(some), ReadLeaseRow.until > moment)
        for lease in session.scalars(leases.order_by(ReadLeaseRow.id)):
            until = f"{lease.until:%Y-%m-%d %H:%M:%S} UTC"
            found[lease.artifact_key].append(f"read{_by(lease.owner)} under the lease {lease.id} until {until}")
    return {key: "; ".join(said[:3]) for key, said in found.items()}


def candidates(session: Session, policy: Policy, among: Sequence[str] | None = None) -> list[Candidate]:
    """The artifacts that nothing keeps, by key; those `among` some keys, or of all.

    One is deleted where somebody marked it so and no run gives or reads it; it is unreferenced where the run that
    computed it was deleted and no run gives or reads it; it is expired where its kind expires and nobody has used it
    for so long. None of these holds for what is pinned or leased, nor for what a run that has not ended reads, waits
    for, or has computed.
    """
    moment = now(session)
    free = and_(~_pinned(moment), ~_leased(moment), ~_read_by_live(), ~_awaited(), ~_computed_by_live())
    cutoff = moment - timedelta(days=policy.unused_days)
    expired = _unused_since(cutoff, policy) if policy.unused_days else None
    unread = "the run that computed it was deleted, and no other gives or reads it"
    unused = f"nobody has used it since {cutoff:%Y-%m-%d}: unused for {policy.unused_days:g} days"
    rules: list[tuple[Code, ColumnElement[bool] | None, ColumnElement[str]]] = [
        ("deleted", and_(_deleted().exists(), *_no_run_names_it()), _deleted().scalar_subquery()),
        ("unreferenced", _unreferenced(), literal(unread)),
        ("expired", expired, literal(unused)),
    ]
    found: dict[str, Candidate] = {}
    for code, rule, why in rules:
        if rule is None:
            continue
        query = select(ArtifactTableRow.key, ArtifactTableRow.kind, why).where(free, rule)
        for some in [None] if among is None else pieces(among):
            chosen = query if some is None else query.where(ArtifactTableRow.key.in_(some))
            for key, kind, said in session.execute(chosen):
                found.setdefault(key, Candidate(key, _kind(kind), code, said))
    return [found[key] for key in sorted(found)]


def is_being_written(session: Session, *, kind: ArtifactKind | None = None, scene_wise: bool | None = None) -> bool:
    """Whether a run that has begun and not ended may count on what has no row: of a kind, of some, of any."""
    stages = [
        name
        for name, spec in STAGES.items()
        for output in spec.outputs.values()
        if kind in (None, output) and scene_wise in (None, KINDS[output].scene_wise)
    ]
    begun = or_(RunRow.state == "running", and_(RunRow.state.in_(_WAITING), RunRow.attempt > 0))
    return session.scalar(select(RunRow.id).where(RunRow.stage.in_(stages), begun).limit(1)) is not None


def pinned_keys(session: Session) -> list[str]:
    """Keys of the artifacts that are pinned now, sorted."""
    query = select(PinRow.artifact_key).where(_pin_holds(now(session))).distinct()
    return sorted(session.scalars(query))


def _kind(kind: str) -> ArtifactKind:
    """A kind as the table has it, typed."""
    return kind  # type: ignore[return-value]


def _by(owner: str) -> str:
    return f" by {owner}" if owner else ""


def _pin_holds(moment: datetime) -> ColumnElement[bool]:
    return or_(PinRow.until.is_(None), PinRow.until > moment)


def _pinned(moment: datetime) -> Exists:
    return select(PinRow.owner).where(PinRow.artifact_key == ArtifactTableRow.key, _pin_holds(moment)).exists()


def _leased(moment: datetime) -> Exists:
    table = ReadLeaseRow
    return select(table.id).where(table.artifact_key == ArtifactTableRow.key, table.until > moment).exists()


def _read_by_live() -> Exists:
    run = aliased(RunRow)
    query = select(RunInputRow.run_id).join(run, run.id == RunInputRow.run_id)
    return query.where(RunInputRow.artifact_key == ArtifactTableRow.key, run.state.in_(_LIVE)).exists()


def _awaited() -> Exists:
    """A run that has not ended names the run that gave it, and the planner has not filled its key in yet."""
    run = aliased(RunRow)
    given = and_(RunInputRow.source_run_id == RunOutputRow.run_id, RunInputRow.output == RunOutputRow.output)
    query = select(RunOutputRow.run_id).join(RunInputRow, given).join(run, run.id == RunInputRow.run_id)
    waits = and_(RunInputRow.artifact_key.is_(None), run.state.in_(_LIVE))
    return query.where(RunOutputRow.artifact_key == ArtifactTableRow.key, waits).exists()


def _computed_by_live() -> Exists:
    run = aliased(RunRow)
    return select(run.id).where(run.id == ArtifactTableRow.run_id, run.state.in_(_LIVE)).exists()


def _unreferenced() -> ColumnElement[bool]:
    run = aliased(RunRow)
    gone = and_(ArtifactTableRow.run_id != "", ~select(run.id).where(run.id == ArtifactTableRow.run_id).exists())
    return and_(gone, *_no_run_names_it())


def _deleted() -> Select[str]:
    """Why somebody let it go; of one that nobody has, nothing."""
    mark = CollectionMarkRow
    return select(mark.why).where(mark.what == "artifact", mark.code == "deleted", mark.id == ArtifactTableRow.key)


def _no_run_names_it() -> tuple[ColumnElement[bool], ...]:
    return tuple(~_names(table) for table in (RunOutputRow, RunInputRow))


def _names(table: type[RunOutputRow] | type[RunInputRow]) -> Exists:
    return select(table.run_id).where(table.artifact_key == ArtifactTableRow.key).exists()


def _unused_since(cutoff: datetime, policy: Policy) -> ColumnElement[bool]:
    """Neither made nor used by anybody since: no run that gave or read it, no reader who said so."""
    used = select(ArtifactUseRow.at).where(ArtifactUseRow.artifact_key == ArtifactTableRow.key)
    by_runs = list(_used_by_runs(cutoff))
    fresh = or_(ArtifactTableRow.created_at >= cutoff, used.where(ArtifactUseRow.at >= cutoff).exists(), *by_runs)
    return and_(ArtifactTableRow.kind.in_(policy.expiring), ~fresh)


def _used_by_runs(cutoff: datetime) -> Iterator[Exists]:
    for table in (RunOutputRow, RunInputRow):
        run = aliased(RunRow)
        last = func.coalesce(run.ended_at, run.started_at, run.created_at)
        query = select(table.run_id).join(run, run.id == table.run_id)
        yield query.where(table.artifact_key == ArtifactTableRow.key, last >= cutoff).exists()

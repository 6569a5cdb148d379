"""How worker hosts take runs: the next that fits, under a new fencing token. Knows the tables; no stage's work."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from storage import keys
from storage.records import hosts, needs, quotas, revision
from storage.records.database import Database, now
from storage.records.runs import move
from storage.records.tables import AttemptRow, HostRow, RunRow
from storage.specs.stages import BY_OWNER


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that a host has taken."""

    run_id: str
    token: str
    attempt: int
    stage: str
    gpus: tuple[int, ...]
    """The GPUs that the run may use; empty where it uses none."""


def claim(db: Database, host_id: str, lease_s: float, started: Collection[str] = ()) -> Claim | None:
    """Takes the ready run of the highest priority, the oldest first, and opens an attempt under a new token.

    What is free on the host's machine is read in the same transaction (`hosts.room`), and which stages the host takes.
    Where it has GPUs, a stage that uses one waits for a free one. The first run that the host could hold but has no
    room for keeps what it waits for from those behind it, so that small ones do not pass it for ever. Nothing fits
    while the store's quota is used up. Whether the tables are still those of this code is read there too.

    Args:
        db: the database.
        host_id: the host, as `hosts.register` named it.
        lease_s: seconds until the claim lapses without a heartbeat.
        started: tokens of attempts whose processes this host still sees.

    Returns:
        The claim, or None where nothing fits.

    Raises:
        NotFound: there is no such host.
        WrongRevision: the database was upgraded or downgraded under this host.
    """
    with db.read() as session:
        revision.check(session)
        if _fitting(session, host_id, started) is None:
            return None
    with db.write() as session:
        revision.check(session)
        found = _fitting(session, host_id, started, lock=True)
        return None if found is None else _open_attempt(session, *found, host_id, lease_s)


def keep(db: Database, tokens: Collection[str], lease_s: float, start_s: float) -> None:
    """Renews the leases of attempts whose processes their host sees, but which have not reported themselves yet.

    A process may need longer than a short lease to start on a busy machine; from its first report on it holds its run
    by its own heartbeat. One that hangs before that has its run for `start_s`, or for its first lease where that is
    longer, and no longer.

    Args:
        db: the database.
        tokens: tokens of the attempts.
        lease_s: seconds from now until the leases lapse.
        start_s: seconds after the claim from which on a process must have reported.
    """
    with db.read() as session:
        late = now(session) - timedelta(seconds=start_s)
        waits = and_(AttemptRow.state == "running", AttemptRow.pid.is_(None), AttemptRow.claimed_at > late)
        query = select(AttemptRow.token, AttemptRow.claimed_at).where(AttemptRow.token.in_(tokens), waits)
        starting = session.execute(query).all()
    if starting:
        with db.write(ordered=False) as session:
            renewed = now(session) + timedelta(seconds=lease_s)
            for token, claimed_at in starting:
                until = min(renewed, claimed_at + timedelta(seconds=start_s))
                change = update(AttemptRow).where(AttemptRow.token == token, waits, AttemptRow.lease_until < until)
                session.execute(change.values(lease_until=until))


def living_tokens(db: Database) -> frozenset[str]:
    """Tokens of the attempts that hold a run: whatever else is staged in the store may be swept."""
    with db.read() as session:
        return frozenset(session.scalars(select(AttemptRow.token).where(AttemptRow.state == "running")))


def begun_on(db: Database, machine: str, ended_within_s: float) -> dict[tuple[str, int], bool]:
    """Attempts that hosts of a machine have begun and that go on, or have ended lately.

    Args:
        db: the database.
        machine: the name that its hosts register under.
        ended_within_s: seconds since their end at most.

    Returns:
        Run's id and number of the attempt -> whether it goes on.
    """
    with db.read() as session:
        lately = AttemptRow.ended_at > now(session) - timedelta(seconds=ended_within_s)
        query = (
            select(AttemptRow.run_id, AttemptRow.number, AttemptRow.state)
            .join(HostRow, HostRow.id == AttemptRow.host_id)
            .where(HostRow.name == machine, or_(AttemptRow.state == "running", lately))
        )
        return {(run_id, number): state == "running" for run_id, number, state in session.execute(query)}


def _fitting(
    session: Session, host_id: str, started: Collection[str], *, lock: bool = False
) -> tuple[RunRow, tuple[int, ...]] | None:
    """The ready run that a host may take next, and the GPUs for it; None where nothing fits."""
    room = hosts.room(session, host_id, started)
    if not room.slots:
        return None
    query = select(RunRow).where(RunRow.state == "ready", RunRow.stage.not_in(BY_OWNER))
    if only := hosts.stages(session, host_id):
        query = query.where(RunRow.stage.in_(only))
    query = query.order_by(RunRow.priority.desc(), RunRow.id).limit(1)
    if lock:
        query = query.with_for_update()
    whole, free = hosts.whole(session, host_id), room.free
    row = session.scalars(query.where(needs.fits(whole, has_gpus=room.has_gpus))).first()
    if row is not None and not (asked := needs.of(row, has_gpus=room.has_gpus)).within(free):
        row = session.scalars(query.where(needs.fits(free.less(asked), has_gpus=room.has_gpus))).first()
    if row is None or quotas.is_full(session):
        return None
    return row, room.gpus[: needs.of(row, has_gpus=room.has_gpus).gpus]


def _open_attempt(session: Session, row: RunRow, gpus: tuple[int, ...], host_id: str, lease_s: float) -> Claim:
    """Makes the next attempt of a ready run."""
    moment = now(session)
    row.attempt += 1
    token = keys.new_token()
    session.add(
        AttemptRow(
            token=token,
            run_id=row.id,
            number=row.attempt,
            state="running",
            host_id=host_id,
            gpus=list(gpus),
            lease_until=moment + timedelta(seconds=lease_s),
            claimed_at=moment,
        )
    )
    with_gpus = f", GPU {', '.join(map(str, gpus))}" if gpus else ""
    move(session, row, "running", f"attempt {row.attempt} claimed{with_gpus}")
    row.token = token
    return Claim(row.id, token, row.attempt, row.stage, gpus)

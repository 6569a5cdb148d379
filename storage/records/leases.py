"""What worker processes do with a run that was claimed for them: hold it by its lease, report, end it.

Every write of a worker names its fencing token; once the run has gone on without it, each raises `LeaseLost` and
writes nothing. Time is the database's own. Knows the tables; not what a stage does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from storage.errors import NotFound, PartGone
from storage.records import artifacts, evaluations, features, metrics, part_index, quotas, runs
from storage.records.artifacts import ArtifactRow
from storage.records.database import Database, now
from storage.records.evaluations import EvaluationRow
from storage.records.features import Finding
from storage.records.fencing import close, end_cancelled, holding
from storage.records.runs import living_of_key, move
from storage.records.states import RunState


def start(
    db: Database,
    token: str,
    *,
    pid: int,
    host: str,
    device: str,
    code: dict[str, Any],
    environment: dict[str, Any],
    lease_s: float | None = None,
) -> None:
    """Records what runs the attempt: process, host's name, device, code version and environment; renews the lease.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        attempt.pid = pid
        if lease_s is not None:
            attempt.lease_until = now(session) + timedelta(seconds=lease_s)
        row.host, row.device, row.code, row.environment = host, device, code, environment
        runs.note(session, row, f"started on {host} ({device}), process {pid}")


def report(db: Database, token: str, *, pid: int, lease_s: float) -> None:
    """Says that the attempt's process lives, before it does anything that takes long; renews the lease.

    From here on no host keeps the lease for it.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token, ordered=False) as (session, _, attempt):
        attempt.pid = pid
        attempt.lease_until = now(session) + timedelta(seconds=lease_s)


def beat(
    db: Database, token: str, *, lease_s: float, progress: dict[str, Any] | None = None, rss_bytes: int = 0
) -> bool:
    """Renews the lease and records progress and memory; returns whether somebody asked to cancel.

    Args:
        db: the database.
        token: the attempt's token.
        lease_s: seconds from now until the lease lapses.
        progress: {"unit", "done", "total", "loss"?, "eta_s"?, "message"?}; None keeps what was known.
        rss_bytes: the process's resident memory now; the run keeps the peak.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token, ordered=False) as (session, row, attempt):
        attempt.lease_until = now(session) + timedelta(seconds=lease_s)
        if progress is not None:
            row.progress = {name: metrics.finite(value) for name, value in progress.items()}
        row.peak_rss_bytes = max(row.peak_rss_bytes, rss_bytes)
        return row.cancel_requested


def set_key(db: Database, token: str, key: str) -> str | None:
    """Records the run's key, once a worker could compute it.

    Returns:
        The id of another run of the same key that is ready or running: release this one then. Else None.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, _):
        row.key = key
        return living_of_key(session, key, but=row.id)


def release(db: Database, token: str, reason: str) -> None:
    """Gives the run back unharmed: it waits again, as `queued`; where somebody cancelled it, that is how it ends.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        if row.cancel_requested:
            end_cancelled(session, row, attempt, f"stopped: {reason}")
            return
        close(session, attempt, "released", reason)
        move(session, row, "queued", f"released: {reason}")


def succeed(db: Database, token: str, outputs: Mapping[str, str], cached: bool) -> None:
    """Ends the run with its outputs.

    Args:
        db: the database.
        token: the attempt's token.
        outputs: output name -> key of an artifact that has its row.
        cached: True where the worker found every output published already.

    Raises:
        LeaseLost: the token no longer holds the run.
        NotFound: an output's artifact is not recorded.
    """
    to: RunState = "cached" if cached else "succeeded"
    with holding(db, token) as (session, row, attempt):
        if missing := set(outputs.values()) - artifacts.existing(session, outputs.values()):
            raise NotFound(f"the run {row.id} gives artifacts that are not recorded: {', '.join(sorted(missing))}")
        close(session, attempt, "cached" if cached else "succeeded", None)
        runs.give_outputs(session, row, outputs)
        move(session, row, to, "found every output published" if cached else "wrote its outputs")


def fail(db: Database, token: str, code: str, message: str, scene: str | None = None) -> None:
    """Ends the run as failed; as cancelled where somebody cancelled it, for then its children may have been ended.

    Args:
        db: the database.
        token: the attempt's token.
        code: stable code of the error.
        message: the error in words.
        scene: the scene that it is about.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        if row.cancel_requested:
            end_cancelled(session, row, attempt, f"stopped: {code}: {message}"[:2000])
            return
        close(session, attempt, "failed", message)
        row.scene = None if scene is None else runs.printable(scene)
        where = f" (scene {scene})" if scene else ""
        move(session, row, "failed", f"{code}: {message}{where}"[:2000], reason_code=code, reason=message)


def cancelled(db: Database, token: str) -> None:
    """Ends the run as cancelled: its worker has stopped.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        end_cancelled(session, row, attempt, "stopped")


def note(db: Database, token: str, message: str) -> None:
    """Writes an event that changes no state.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, _):
        runs.note(session, row, message)


def append_metrics(db: Database, token: str, points: Sequence[tuple[str, int, float]]) -> None:
    """Records (name, step, value) of metrics; a step that is known already is overwritten.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token, ordered=False) as (session, row, _):
        metrics.append(session, row.id, points)


def keep_room(db: Database, token: str, parts: Mapping[str, int]) -> None:
    """Keeps room of the store's quota for parts that the attempt fetches, until it ends.

    Args:
        db: the database.
        token: the attempt's token.
        parts: part's key -> bytes, of all that it publishes; those that a published artifact holds take no more room.

    Raises:
        LeaseLost: the token no longer holds the run.
        QuotaExceeded: the quota has not so much room, or other running attempts keep it.
    """
    with holding(db, token) as (session, _, attempt):
        held = part_index.known(session, parts)
        num_bytes = sum(size for key, size in parts.items() if key not in held)
        quotas.check_room(session, num_bytes, apart_from=token)
        attempt.room_bytes = num_bytes


def record_artifact(
    db: Database,
    token: str,
    artifact: ArtifactRow,
    is_whole: Callable[[], bool] = lambda: True,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Makes an artifact visible; a key that is known already is left as it is.

    Args:
        db: the database.
        token: the attempt's token.
        artifact: its row.
        is_whole: looks whether the store has all of it. It is asked under the lock under which parts are withdrawn
            (`withdrawals`): what has its row has its parts.
        sources: the `inputs` of its manifest; None where they are to be read there when somebody asks.

    Raises:
        LeaseLost: the token no longer holds the run.
        PartGone: the store has not all of it any more.
    """
    with holding(db, token) as (session, row, _):
        if not is_whole():
            raise PartGone(f"a part of the artifact {artifact.key} was deleted while the run counted on it")
        artifacts.insert(session, row.id, artifact, sources)


def record_finding(db: Database, token: str, artifact_key: str, found: Finding) -> None:
    """Records what the run found when it verified a feature store; where that was deleted meanwhile, nothing.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, _):
        features.record_finding(session, artifact_key, row.id, found)


def record_evaluations(db: Database, token: str, artifact_key: str, rows: Sequence[EvaluationRow]) -> None:
    """Records the scores that an evaluation artifact (recorded before) holds; a known artifact's are left as they are.

    Raises:
        LeaseLost: the token no longer holds the run.
        NotFound: no artifact of that key is recorded.
    """
    with holding(db, token) as (session, _, _):
        evaluations.insert(session, artifact_key, rows)

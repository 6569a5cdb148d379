"""Why a run waits, in words: for its inputs, another run of its key, room in the store, a machine. Knows the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import InvalidInput
from storage.records import hosts, needs, quotas, runs
from storage.records.database import Database
from storage.records.hosts import Host
from storage.records.needs import Needs
from storage.records.runs import Run
from storage.records.states import FINAL
from storage.records.tables import RunInputRow, RunRow
from storage.specs import stages


def read(db: Database, run_id: str) -> tuple[Run, str | None]:
    """A run, and what it waits for; None where that is nothing but a look of a planner or a host, or it has begun.

    Raises:
        NotFound: there is none of that id.
    """
    with db.read() as session:
        run = runs.within(session, run_id)
        return run, reason(session, run)


def reason(session: Session, run: Run) -> str | None:
    """What a run waits for, within the transaction that read it; as `read`."""
    if run.state == "queued":
        return _missing_input(session, run) or _other_run(session, run)
    if run.state != "ready":
        return None
    if run.stage in stages.BY_OWNER:
        return "its owner, who starts it"
    full = quotas.room(session)
    if full.fill == "full":
        return f"room in the store: {full.warning}"
    return _machine(run, hosts.living(session))


def _missing_input(session: Session, run: Run) -> str | None:
    """The first input whose run has not ended."""
    if all(source["artifact_key"] is not None for source in run.inputs.values()):
        return None
    query = (
        select(RunInputRow.port, RunRow.id, RunRow.state)
        .join(RunRow, RunRow.id == RunInputRow.source_run_id)
        .where(RunInputRow.run_id == run.id, RunInputRow.artifact_key.is_(None), RunRow.state.not_in(FINAL))
        .order_by(RunInputRow.port)
    )
    found = session.execute(query.limit(1)).first()
    return None if found is None else f"its input {found[0]!r}: the run {found[1]} is {found[2]}"


def _other_run(session: Session, run: Run) -> str | None:
    """A run that computes the same."""
    key = run.key or _key_of(run)
    holder = None if key is None else runs.living_of_key(session, key, but=run.id)
    return None if holder is None else f"the run {holder}, which computes the same"


def _key_of(run: Run) -> str | None:
    """The key that a planner computes for a run; None where only a worker can, or an input is missing."""
    try:
        spec = stages.parse(run.spec)
    except InvalidInput:
        return None
    inputs = {port: source["artifact_key"] for port, source in run.inputs.items() if source["artifact_key"] is not None}
    return None if spec.external or len(inputs) < len(run.inputs) else keys.artifact_key(spec, "", inputs)


def _machine(run: Run, living: Sequence[Host]) -> str:
    """The host that a ready run waits for, of those that beat."""
    if not living:
        return "a worker host: none lives (`python -m workers host` starts one)"
    taking = [host for host in living if host.takes(run.stage)]
    if not taking:
        said = "; ".join(f"{host.name}: {', '.join(host.stages)}" for host in living[:3])
        asked = f"a worker host that takes {run.stage} (VLGLAB_STAGES)"
        return f"{asked}: none of the {len(living)} that live does ({said})"
    without_gpus, with_gpus = (needs.of(run, has_gpus=has_gpus) for has_gpus in (False, True))
    able = [host for host in taking if (with_gpus if host.gpus else without_gpus).within(host.whole)]
    if not able:
        those = "live" if len(taking) == len(living) else f"live and take {run.stage}"
        asked = f"a worker host with {_amount(with_gpus)}"
        return f"{asked}: none of the {len(taking)} that {those} has that ({_most(taking)})"
    active = [host for host in able if host.mode == "active"]
    if not active:
        modes = ", ".join(f"{host.id} on {host.name} is {host.mode}" for host in able[:5])
        return f"a worker host that is not paused: {modes}"
    return f"room: {len(active)} living worker host{'s' * (len(active) > 1)} could hold it, as soon as runs there end"


def _amount(asked: Needs) -> str:
    """GPUs and memory in words."""
    gpus = f"{asked.gpus} GPU{'s' * (asked.gpus != 1)}"
    return f"{gpus} and {asked.memory_gb:g} GB of memory" if asked.memory_gb else gpus


def _most(living: Sequence[Host]) -> str:
    """What each of the largest hosts has, in words."""
    largest = sorted(living, key=lambda host: (host.whole.gpus, host.whole.memory_gb), reverse=True)[:3]
    said = []
    for host in largest:
        memory = "" if math.isinf(host.whole.memory_gb) else f", {host.whole.memory_gb:g} GB"
        said.append(f"{host.name}: {host.whole.gpus} GPUs{memory}")
    return "; ".join(said)

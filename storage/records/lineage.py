"""Lineage: what a run was made from, and what was made from it. Knows inputs, outputs and artifacts; no route.

A run reads another's output, or an artifact by its key: then its source is the run that computed the artifact. What a
run gave is read by runs that name it, and by those that read the same artifact because another run gave it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.records.database import Database
from storage.records.pages import pieces
from storage.records.runs import row_of
from storage.records.tables import ArtifactTableRow, RunInputRow, RunOutputRow, RunRow

MAX_DEPTH = 50
"""Most steps away from the run that are followed."""
MAX_RUNS = 1000
"""Most runs that one lineage holds."""


@dataclass(frozen=True, slots=True)
class LineageRun:
    """A run of a lineage."""

    id: str
    name: str
    stage: str
    state: str
    experiment_id: str | None
    distance: int
    """Steps away: negative where the run in question was made from it, positive where it was made from that one."""


@dataclass(frozen=True, slots=True)
class LineageArtifact:
    """An artifact of a lineage."""

    key: str
    kind: str
    output: str
    run_id: str
    """The run that computed it."""
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Link:
    """One input: the run `run_id` reads `output` of `source_id` at `port`; `artifact_key` once it exists."""

    source_id: str
    output: str
    artifact_key: str | None
    run_id: str
    port: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a run was made from, and what was made from it."""

    run_id: str
    runs: tuple[LineageRun, ...]
    artifacts: tuple[LineageArtifact, ...]
    links: tuple[Link, ...]
    whole: bool
    """False where there is more than was asked for."""


@dataclass(slots=True)
class Found:
    """Distances and links of a walk, as it goes."""

    distances: dict[str, int]
    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    whole: bool = True


def of_run(db: Database, run_id: str, depth: int = 10, limit: int = 200) -> Lineage:
    """The lineage of a run, the nearest first.

    Args:
        db: the database.
        run_id: the run.
        depth: most steps that are followed up, and down; at most MAX_DEPTH.
        limit: most runs besides itself; at most MAX_RUNS. What it was made from comes first.

    Raises:
        NotFound: there is no such run.
    """
    with db.read() as session:
        row_of(session, run_id)
        found = Found({run_id: 0})
        for up in (True, False):
            follow(session, found, [run_id], up=up, depth=min(depth, MAX_DEPTH), limit=min(limit, MAX_RUNS))
        runs = _runs(session, found.distances)
        keys = {link.artifact_key for link in found.links.values() if link.artifact_key is not None}
        of_itself = select(RunOutputRow.artifact_key).where(RunOutputRow.run_id == run_id)
        keys |= set(session.scalars(of_itself))
        return Lineage(run_id, runs, _artifacts(session, sorted(keys)), tuple(found.links.values()), found.whole)


def follow(session: Session, found: Found, start: Sequence[str], *, up: bool, depth: int, limit: int) -> None:
    """Follows inputs (up) or readers (down) from some runs, step by step, and adds what there is to `found`.

    A step that finds more runs than `limit` leaves room for keeps the oldest of them, and `found.whole` says so.
    """
    level = list(start)
    for step in range(1, depth + 2):
        if not level:
            return
        most = 2 * max(limit + 1 - len(found.distances), 0) + 50  # several inputs may be of one run
        links, cut = _sources(session, level, most) if up else _readers(session, level, most)
        found.whole = found.whole and not cut
        level = []
        for link in sorted(links, key=lambda link: (link.source_id if up else link.run_id, link.port)):
            other = link.source_id if up else link.run_id
            if other not in found.distances:
                if step > depth or len(found.distances) > limit:
                    found.whole = False
                    continue
                found.distances[other] = -step if up else step
                level.append(other)
            found.links[link.run_id, link.port] = link


def _sources(session: Session, run_ids: Sequence[str], most: int) -> tuple[list[Link], bool]:
    """What some runs read, and whether there was more than `most`."""
    computed = ArtifactTableRow
    query = (
        select(RunInputRow, computed.run_id, computed.output)
        .outerjoin(computed, computed.key == RunInputRow.artifact_key)
        .order_by(RunInputRow.run_id, RunInputRow.port)
        .limit(most)
    )
    links, cut = [], False
    for some in pieces(run_ids):
        rows = session.execute(query.where(RunInputRow.run_id.in_(some))).all()
        cut = cut or len(rows) == most
        for row, made_by, output in rows:
            source_id = row.source_run_id or made_by
            if source_id is not None:
                links.append(Link(source_id, row.output or output or "", row.artifact_key, row.run_id, row.port))
    return links, cut


def _readers(session: Session, run_ids: Sequence[str], most: int) -> tuple[list[Link], bool]:
    """What reads some runs, or the artifacts that they gave, and whether there was more than `most`."""
    gave: dict[str, tuple[str, str]] = {}
    links: dict[tuple[str, str], Link] = {}
    cut = False
    for some in pieces(run_ids):
        outputs = select(RunOutputRow).where(RunOutputRow.run_id.in_(some)).order_by(RunOutputRow.run_id)
        for given in session.scalars(outputs):
            gave.setdefault(given.artifact_key, (given.run_id, given.output))
        rows = _inputs(session, RunInputRow.source_run_id, some, most)
        cut = cut or len(rows) == most
        for row in rows:
            link = Link(row.source_run_id or "", row.output or "", row.artifact_key, row.run_id, row.port)
            links[row.run_id, row.port] = link
    for some in pieces(gave):
        rows = _inputs(session, RunInputRow.artifact_key, some, most)
        cut = cut or len(rows) == most
        for row in rows:
            source, output = gave[row.artifact_key or ""]
            links.setdefault((row.run_id, row.port), Link(source, output, row.artifact_key, row.run_id, row.port))
    return list(links.values()), cut


def _inputs(
    session: Session, column: InstrumentedAttribute[str | None], values: Sequence[str], most: int
) -> Sequence[RunInputRow]:
    """The inputs with one of some values in a column; not more than `most`."""
    query = select(RunInputRow).where(column.in_(values)).order_by(column, RunInputRow.run_id)
    return session.scalars(query.limit(most)).all()


def _runs(session: Session, distances: Mapping[str, int]) -> tuple[LineageRun, ...]:
    """The runs of a lineage: from the farthest that it was made from to the farthest that was made from it."""
    query = select(RunRow.id, RunRow.name, RunRow.stage, RunRow.state, RunRow.experiment_id)
    found = [
        LineageRun(*row, distance=distances[row[0]])
        for some in pieces(distances)
        for row in session.execute(query.where(RunRow.id.in_(some)))
    ]
    return tuple(sorted(found, key=lambda run: (run.distance, run.id)))


def _artifacts(session: Session, keys: Sequence[str]) -> tuple[LineageArtifact, ...]:
    """The artifacts of some keys."""
    table = ArtifactTableRow
    query = select(table.key, table.kind, table.output, table.run_id, table.num_bytes)
    return tuple(
        LineageArtifact(*row)
        for some in pieces(keys)
        for row in session.execute(query.where(table.key.in_(some)).order_by(table.key))
    )

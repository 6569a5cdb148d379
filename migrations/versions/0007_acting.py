"""Acting: what runs ask of a machine, hosts that pause, re-runs, and deleting.

SQLite changes no constraint of a table in place, so two tables are made anew there: `artifacts`, which may outlive the run
that computed it, and `events`, whose ids must not be given again when the last event goes with its run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
INDEXES = (
    ("ix_runs_stage_state", "runs", ["stage", "state", "id"]),
    ("ix_runs_spec", "runs", ["spec_digest", "state", "id"]),
    ("ix_run_inputs_artifact", "run_inputs", ["artifact_key"]),
    ("ix_artifacts_run", "artifacts", ["run_id"]),
)
OF_ARTIFACTS = ("run_outputs", "evaluations")
"""Tables whose rows belong to artifacts."""
COMPUTED_BY = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}
"""How PostgreSQL names a foreign key that nobody named."""


def upgrade() -> None:
    """Adds them; runs that are there ask for what their stages do, hosts go on, attempts keep their GPU."""
    op.add_column("hosts", sa.Column("memory_gb", sa.Double(), nullable=True))
    op.add_column("hosts", sa.Column("mode", sa.String(), nullable=False, server_default="active"))
    op.add_column("runs", sa.Column("gpus", sa.Integer(), nullable=True))
    op.add_column("runs", sa.Column("memory_gb", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("rerun_of", sa.String(), nullable=True))
    op.add_column("runs", sa.Column("anew_after", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("attempts", sa.Column("gpus", sa.JSON(), nullable=False, server_default="[]"))
    as_list = "'[' || gpu || ']'" if _sqlite() else "json_build_array(gpu)"
    op.execute(f"UPDATE attempts SET gpus = {as_list} WHERE gpu IS NOT NULL")
    op.drop_column("attempts", "gpu")
    op.create_table(
        "removals",
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("what", "id"),
    )
    with _apart(), op.batch_alter_table("artifacts", naming_convention=COMPUTED_BY) as artifacts:
        artifacts.drop_constraint("artifacts_run_id_fkey", type_="foreignkey")
    _make_events_anew(autoincrement=True)
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    """Takes them away. An artifact whose run was deleted gets a bare run again, for then it must have one."""
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table)
    _make_events_anew(autoincrement=False)
    empty, no = ("'{}'", "0") if _sqlite() else ("'{}'::json", "false")
    op.execute(
        "INSERT INTO runs (id, name, stage, spec, spec_digest, state, priority, attempt, created_at, code, environment,"
        " cancel_requested, peak_rss_bytes)"
        f" SELECT run_id, 'deleted', min(stage), {empty}, '', 'succeeded', 0, 0, min(created_at), {empty}, {empty}, {no}, 0"
        " FROM artifacts WHERE run_id NOT IN (SELECT id FROM runs) GROUP BY run_id"
    )
    with _apart(), op.batch_alter_table("artifacts") as artifacts:
        artifacts.create_foreign_key("artifacts_run_id_fkey", "runs", ["run_id"], ["id"])
    op.drop_table("removals")
    op.add_column("attempts", sa.Column("gpu", sa.Integer(), nullable=True))
    first = "json_extract(gpus, '$[0]')" if _sqlite() else "(gpus->>0)::integer"
    op.execute(f"UPDATE attempts SET gpu = {first}")
    op.drop_column("attempts", "gpus")
    for column in ("anew_after", "rerun_of", "memory_gb", "gpus"):
        op.drop_column("runs", column)
    for column in ("mode", "memory_gb"):
        op.drop_column("hosts", column)


def _sqlite() -> bool:
    """Whether this is SQLite."""
    return op.get_bind().dialect.name == "sqlite"


@contextmanager
def _apart() -> Iterator[None]:
    """Keeps what belongs to artifacts aside while their table is made anew: SQLite would not let it go otherwise."""
    if not _sqlite():
        yield
        return
    for table in OF_ARTIFACTS:
        op.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
        op.execute(f"DELETE FROM {table}")
    yield
    for table in OF_ARTIFACTS:
        op.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
        op.drop_table(f"kept_{table}")


def _make_events_anew(*, autoincrement: bool) -> None:
    """Makes the table of events anew, with ids that only rise or as before. PostgreSQL's sequence never goes back."""
    if not _sqlite():
        return
    with op.batch_alter_table("events", recreate="always", table_kwargs={"sqlite_autoincrement": autoincrement}):
        pass

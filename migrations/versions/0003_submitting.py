"""Submitting: tags, notes and time limits of runs, and what was asked for under an Idempotency-Key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FILTERED = ("stage", "dataset", "owner")
"""Columns by which lists of runs are narrowed, newest first."""


def upgrade() -> None:
    """Adds them; runs that are there have none."""
    op.add_column("runs", sa.Column("notes", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("time_limit_s", sa.Double(), nullable=True))
    for column in FILTERED:
        op.create_index(f"ix_runs_{column}", "runs", [column, "id"])
    op.create_table(
        "run_tags",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "tag"),
    )
    op.create_index("ix_run_tags_tag", "run_tags", ["tag", "run_id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("made", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key"),
    )


def downgrade() -> None:
    """Takes them away; the runs stay."""
    op.drop_table("idempotency_keys")
    op.drop_index("ix_run_tags_tag", "run_tags")
    op.drop_table("run_tags")
    for column in FILTERED:
        op.drop_index(f"ix_runs_{column}", "runs")
    op.drop_column("runs", "time_limit_s")
    op.drop_column("runs", "notes")

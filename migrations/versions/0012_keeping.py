"""Keeping the disk under control: pins, leases of readers, uses, parts, marks, and the store's policy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Makes the tables, empty; parts of what is there are read from its manifests by the service."""
    _make_tables_of_artifacts()
    op.create_table(
        "collection_marks",
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("what", "id"),
    )
    op.create_table(
        "store_policies",
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=False),
        sa.Column("unused_days", sa.Double(), nullable=False),
        sa.Column("expiring", sa.JSON(), nullable=False),
        sa.Column("grace_s", sa.Double(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("store"),
    )


def _make_tables_of_artifacts() -> None:
    """Those whose rows go with an artifact's."""
    op.create_table(
        "pins",
        sa.Column("artifact_key", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"]),
        sa.PrimaryKeyConstraint("artifact_key", "owner"),
    )
    op.create_table(
        "read_leases",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("artifact_key", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_read_leases_artifact_key", "read_leases", ["artifact_key"])
    op.create_table(
        "artifact_uses",
        sa.Column("artifact_key", sa.String(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"]),
        sa.PrimaryKeyConstraint("artifact_key"),
    )
    op.create_table(
        "artifact_parts",
        sa.Column("artifact_key", sa.String(), nullable=False),
        sa.Column("part_key", sa.String(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"]),
        sa.PrimaryKeyConstraint("artifact_key", "part_key"),
    )
    op.create_index("ix_artifact_parts_part", "artifact_parts", ["part_key", "num_bytes"])


def downgrade() -> None:
    """Takes them away: pins, leases, marks and the policy are forgotten; what lies in the store stays."""
    for name in ("store_policies", "collection_marks", "artifact_parts", "artifact_uses", "read_leases", "pins"):
        op.drop_table(name)

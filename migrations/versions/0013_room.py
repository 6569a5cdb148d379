"""Room in the store: what attempts have asked for, and what each artifact adds to what the store holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COUNT = """
    INSERT INTO artifact_rooms (artifact_key, counted_bytes)
    SELECT artifact_key, SUM(CASE WHEN place = 1 THEN num_bytes ELSE 0 END)
    FROM (
        SELECT artifact_parts.artifact_key, artifact_parts.num_bytes,
            ROW_NUMBER() OVER (PARTITION BY part_key ORDER BY artifacts.created_at, artifacts.key) AS place
        FROM artifact_parts JOIN artifacts ON artifacts.key = artifact_parts.artifact_key
    ) AS placed
    GROUP BY artifact_key
"""
"""A part counts with the oldest artifact that holds it."""


def upgrade() -> None:
    """Adds them: attempts that are there have asked for nothing; parts that are copied are counted."""
    op.add_column("attempts", sa.Column("room_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "artifact_rooms",
        sa.Column("artifact_key", sa.String(), nullable=False),
        sa.Column("counted_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"]),
        sa.PrimaryKeyConstraint("artifact_key"),
    )
    op.execute(COUNT)


def downgrade() -> None:
    """Takes them away; attempts, and the parts that are copied, stay as they are."""
    op.drop_table("artifact_rooms")
    op.drop_column("attempts", "room_bytes")

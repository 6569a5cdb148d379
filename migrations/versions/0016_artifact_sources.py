"""What each artifact was made from, as its manifest says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it, empty: no migration reads a store. What is recorded already is read when a deletion first asks."""
    op.create_table(
        "artifact_sources",
        sa.Column("artifact_key", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"]),
        sa.PrimaryKeyConstraint("artifact_key", "source"),
    )
    op.create_index("ix_artifact_sources_source", "artifact_sources", ["source", "artifact_key"])


def downgrade() -> None:
    """Takes it away; manifests say the same."""
    op.drop_table("artifact_sources")

"""Access: tokens of the API, and who owns an experiment or a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
OWNED = ("experiments", "runs")


def upgrade() -> None:
    """Makes the table of tokens; what is there already belongs to nobody."""
    op.create_table(
        "access_tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    for table in OWNED:
        op.add_column(table, sa.Column("owner", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    """Takes tokens and owners away; everything else stays."""
    for table in OWNED:
        op.drop_column(table, "owner")
    op.drop_table("access_tokens")

"""Room in the store: what running attempts have asked for, so that two that fetch at once do not count on the same."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it: attempts that are there have asked for nothing."""
    op.add_column("attempts", sa.Column("room_bytes", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Takes it away; attempts stay as they are."""
    op.drop_column("attempts", "room_bytes")

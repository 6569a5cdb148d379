"""Runs that their owners run: attempts without a host, with a lease of their own length."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it; every attempt that is there has a host."""
    with op.batch_alter_table("attempts") as table:
        table.alter_column("host_id", existing_type=sa.String(), nullable=True)
        table.add_column(sa.Column("lease_s", sa.Double(), nullable=True))


def downgrade() -> None:
    """Takes the length of a lease away. Attempts that no host made stay as they are, so that the column may be empty."""
    with op.batch_alter_table("attempts") as table:
        table.drop_column("lease_s")

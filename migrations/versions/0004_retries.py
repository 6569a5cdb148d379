"""Retries: how many attempts a run had when it was last retried, so that lost ones are counted from there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it; no run that is there was retried."""
    op.add_column("runs", sa.Column("attempts_before_retry", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("runs", "attempts_before_retry")

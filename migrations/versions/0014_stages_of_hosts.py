"""Worker hosts say of which stages they take runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it; hosts that are there are of older code, which stops at this revision, and count as taking all."""
    op.add_column("hosts", sa.Column("stages", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("hosts", "stages")

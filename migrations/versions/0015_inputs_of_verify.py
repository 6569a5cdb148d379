"""What a run of the stage `verify` checks is its input `artifact`; it was `embeddings` while it took nothing else."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_RENAME = (
    "UPDATE run_inputs SET port = '{to}' WHERE port = '{of}' AND run_id IN (SELECT id FROM runs WHERE stage = 'verify')"
)


def upgrade() -> None:
    """Renames it, so that runs that wait can run, and those that have ended can be retried and run anew."""
    op.execute(_RENAME.format(of="embeddings", to="artifact"))


def downgrade() -> None:
    """Gives it the old name back."""
    op.execute(_RENAME.format(of="artifact", to="embeddings"))

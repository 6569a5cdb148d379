"""Features: what lists show of published embeddings, and what their last verification found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)

INDEXES = {
    "ix_features_newest": ["created_at", "key"],
    "ix_features_dataset": ["dataset", "created_at", "key"],
    "ix_features_encoder": ["encoder", "created_at", "key"],
    "ix_features_owner": ["owner", "created_at", "key"],
    "ix_features_dimension": ["dimension", "created_at", "key"],
}

_AT_ONCE = 500


def upgrade() -> None:
    """Adds the table, with a row for each artifact of embeddings; how many points these cover is not known."""
    features = op.create_table(
        "features",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=True),
        sa.Column("encoder", sa.String(), nullable=True),
        sa.Column("encoder_title", sa.String(), nullable=True),
        sa.Column("weights_digest", sa.String(), nullable=True),
        sa.Column("dimension", sa.Integer(), nullable=True),
        sa.Column("dtype", sa.String(), nullable=False),
        sa.Column("num_covered", sa.BigInteger(), nullable=True),
        sa.Column("splits", sa.JSON(), nullable=False),
        sa.Column("lifting", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("verified_at", MOMENT, nullable=True),
        sa.Column("verified_by", sa.String(), nullable=True),
        sa.Column("num_faults", sa.Integer(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["key"], ["artifacts.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key"),
    )
    for name, columns in INDEXES.items():
        op.create_index(name, "features", columns)
    artifacts = sa.table(
        "artifacts",
        sa.column("key", sa.String()),
        sa.column("kind", sa.String()),
        sa.column("run_id", sa.String()),
        sa.column("attributes", sa.JSON()),
        sa.column("created_at", MOMENT),
    )
    runs = sa.table("runs", sa.column("id", sa.String()), sa.column("owner", sa.String()))
    query = (
        sa.select(artifacts.c.key, artifacts.c.attributes, artifacts.c.created_at, runs.c.owner)
        .select_from(artifacts.outerjoin(runs, runs.c.id == artifacts.c.run_id))
        .where(artifacts.c.kind == "embeddings")
    )
    connection = op.get_bind()
    rows = [row_of(key, attributes, at, owner) for key, attributes, at, owner in connection.execute(query)]
    for first in range(0, len(rows), _AT_ONCE):
        connection.execute(features.insert(), rows[first : first + _AT_ONCE])


def row_of(key: str, attributes: Any, created_at: Any, owner: str | None) -> dict[str, Any]:
    """A row from what an artifact says of itself; what is of another type than it should be is left out."""
    known = attributes if isinstance(attributes, dict) else {}
    encoder, splits, dimension = known.get("encoder"), known.get("splits"), known.get("dimension")
    texts = {name: known.get(name) for name in ("dataset", "encoder_title", "weights_digest")}
    texts["encoder"] = encoder.get("name") if isinstance(encoder, dict) else encoder
    lifting = known.get("lifting")
    return {
        **{name: value if isinstance(value, str) else None for name, value in texts.items()},
        "key": key,
        "owner": owner or "",
        "dimension": dimension if isinstance(dimension, int) and 0 < dimension < 1 << 31 else None,
        "dtype": "float16",
        "num_covered": None,
        "splits": dict(Counter(map(str, splits.values()))) if isinstance(splits, dict) else {},
        "lifting": lifting if isinstance(lifting, dict) else None,
        "created_at": created_at,
    }


def downgrade() -> None:
    """Takes it away, with what verifications found."""
    op.drop_table("features")

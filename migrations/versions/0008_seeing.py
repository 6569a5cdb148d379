"""Seeing runs: what each metric has come to, and the indexes of every sort, of lineage and of experiments' lists."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_runs_ended": ("runs", ["ended_at", "id"]),
    "ix_runs_priority": ("runs", ["priority", "id"]),
    "ix_experiments_owner": ("experiments", ["owner", "id"]),
    "ix_experiments_recipe": ("experiments", ["recipe", "id"]),
}

OF_INPUTS = {"ix_run_inputs_source": "source_run_id", "ix_run_inputs_artifact": "artifact_key"}
"""Indexes that get the run's id as their second column."""

OF_METRICS = """
INSERT INTO metric_summaries (run_id, name, step, latest, lowest, highest)
SELECT whole.run_id, whole.name, whole.step, last.value, whole.lowest, whole.highest
FROM (
    SELECT run_id, name, max(step) AS step, min(value) AS lowest, max(value) AS highest
    FROM metrics GROUP BY run_id, name
) AS whole
JOIN metrics AS last ON last.run_id = whole.run_id AND last.name = whole.name AND last.step = whole.step
"""

SCORES = """
SELECT run_outputs.run_id AS run_id, evaluations.prediction AS prediction, evaluations.{measure} AS score
FROM run_outputs
JOIN evaluations ON evaluations.artifact_key = run_outputs.artifact_key
WHERE evaluations.{measure} IS NOT NULL AND (
    evaluations.subset = 'all' OR NOT EXISTS (
        SELECT 1 FROM evaluations AS other
        WHERE other.artifact_key = evaluations.artifact_key AND other.prediction = evaluations.prediction
        AND other.subset = 'all'
    )
)
"""

OF_SCORES = """
INSERT INTO metric_summaries (run_id, name, step, latest, lowest, highest)
SELECT scores.run_id, {name}, 0, max(scores.score), max(scores.score), max(scores.score)
FROM (""" + SCORES + """) AS scores
WHERE NOT EXISTS (SELECT 1 FROM metric_summaries AS known WHERE known.run_id = scores.run_id AND known.name = {name})
GROUP BY scores.run_id{grouped}
"""


def upgrade() -> None:
    """Adds them, with what the metrics and evaluations that are there come to."""
    op.create_table(
        "metric_summaries",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("latest", sa.Double(), nullable=True),
        sa.Column("lowest", sa.Double(), nullable=True),
        sa.Column("highest", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "name"),
    )
    op.execute(OF_METRICS)
    for measure in ("miou", "macc"):
        op.execute(OF_SCORES.format(measure=measure, name=f"'{measure}'", grouped=""))
        each = f"'{measure}.' || scores.prediction"
        op.execute(OF_SCORES.format(measure=measure, name=each, grouped=", scores.prediction"))
    op.create_index("ix_metric_summaries_latest", "metric_summaries", ["name", "latest", "run_id"])
    op.create_index("ix_metric_summaries_name", "metric_summaries", ["name", "run_id"])
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns)
    for name, column in OF_INPUTS.items():
        op.drop_index(name, "run_inputs")
        op.create_index(name, "run_inputs", [column, "run_id"])


def downgrade() -> None:
    """Takes them away; all that they were made from stays."""
    for name, column in OF_INPUTS.items():
        op.drop_index(name, "run_inputs")
        op.create_index(name, "run_inputs", [column])
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
    op.drop_table("metric_summaries")

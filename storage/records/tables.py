"""The tables, as SQLAlchemy models. `migrations` makes them; a test holds the two equal. No behaviour here.

Those of pins, quotas and collection stand in `keeping_tables`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.records import keeping_tables  # noqa: F401 - so that whoever knows these tables knows those too
from storage.records.table_base import Base as Base
from storage.records.table_base import BigId as BigId
from storage.records.table_base import Json as Json
from storage.records.table_base import UtcDateTime as UtcDateTime


class ExperimentRow(Base):
    """A group of runs submitted together."""

    __tablename__ = "experiments"
    __table_args__ = (
        Index("ix_experiments_owner", "owner", "id"),
        Index("ix_experiments_recipe", "recipe", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    recipe: Mapped[str | None]
    preset: Mapped[str | None]
    request: Mapped[Json]
    created_at: Mapped[datetime]
    owner: Mapped[str] = mapped_column(default="", server_default="")


class DatasetRow(Base):
    """A registered dataset: a name for a folder."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    path: Mapped[str]
    label_set: Mapped[str]
    splits: Mapped[list[Any]]
    options: Mapped[Json]
    created_at: Mapped[datetime]


class HostRow(Base):
    """A worker host: one process that claims runs."""

    __tablename__ = "hosts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    pid: Mapped[int]
    slots: Mapped[int]
    gpus: Mapped[list[Any]]
    registered_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]
    rss_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    peak_rss_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    memory_gb: Mapped[float | None]
    mode: Mapped[str] = mapped_column(default="active", server_default="active")
    stages: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")


class RunRow(Base):
    """One run of a stage. Its state is the queue."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_state", "state", "id"),
        Index("ix_runs_experiment", "experiment_id", "id"),
        Index("ix_runs_key", "key"),
        Index("ix_runs_stage", "stage", "id"),
        Index("ix_runs_stage_state", "stage", "state", "id"),
        Index("ix_runs_spec", "spec_digest", "state", "id"),
        Index("ix_runs_dataset", "dataset", "id"),
        Index("ix_runs_owner", "owner", "id"),
        Index("ix_runs_ended", "ended_at", "id"),
        Index("ix_runs_priority", "priority", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    experiment_id: Mapped[str | None] = mapped_column(ForeignKey("experiments.id"))
    name: Mapped[str]
    stage: Mapped[str]
    dataset: Mapped[str | None] = mapped_column(ForeignKey("datasets.name"))
    spec: Mapped[Json]
    spec_digest: Mapped[str]
    key: Mapped[str | None]
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(default=0)
    reason_code: Mapped[str | None]
    reason: Mapped[str | None] = mapped_column(Text)
    scene: Mapped[str | None]
    progress: Mapped[Json | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(default=0)
    token: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    host: Mapped[str | None]
    device: Mapped[str | None]
    code: Mapped[Json]
    environment: Mapped[Json]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    peak_rss_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    owner: Mapped[str] = mapped_column(default="", server_default="")
    notes: Mapped[str] = mapped_column(Text, default="", server_default="")
    time_limit_s: Mapped[float | None]
    attempts_before_retry: Mapped[int] = mapped_column(default=0, server_default="0")
    gpus: Mapped[int | None]
    memory_gb: Mapped[float | None]
    rerun_of: Mapped[str | None]
    anew_after: Mapped[int] = mapped_column(default=0, server_default="0")

    inputs: Mapped[list[RunInputRow]] = relationship(
        foreign_keys="RunInputRow.run_id", order_by="RunInputRow.port", lazy="selectin"
    )
    outputs: Mapped[list[RunOutputRow]] = relationship(order_by="RunOutputRow.output", lazy="selectin")
    tags: Mapped[list[RunTagRow]] = relationship(order_by="RunTagRow.tag", lazy="selectin")


class RunInputRow(Base):
    """Where one input of a run comes from; the artifact's key is filled in when it exists."""

    __tablename__ = "run_inputs"
    __table_args__ = (
        Index("ix_run_inputs_source", "source_run_id", "run_id"),
        Index("ix_run_inputs_artifact", "artifact_key", "run_id"),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    port: Mapped[str] = mapped_column(primary_key=True)
    source_run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id"))
    output: Mapped[str | None]
    artifact_key: Mapped[str | None]


class RunOutputRow(Base):
    """The artifact that one output of a finished run is."""

    __tablename__ = "run_outputs"
    __table_args__ = (Index("ix_run_outputs_artifact", "artifact_key"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    output: Mapped[str] = mapped_column(primary_key=True)
    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"))


class RunTagRow(Base):
    """A word that somebody put on a run."""

    __tablename__ = "run_tags"
    __table_args__ = (Index("ix_run_tags_tag", "tag", "run_id"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)


class IdempotencyRow(Base):
    """What was made for a request that carried an Idempotency-Key."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[str]
    made: Mapped[str]
    created_at: Mapped[datetime]


class AttemptRow(Base):
    """One attempt at a run, under one fencing token: a host's, or (no host, but `lease_s`) the run's owner's."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_state", "state", "lease_until"),)

    token: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    number: Mapped[int]
    state: Mapped[str]
    host_id: Mapped[str | None] = mapped_column(ForeignKey("hosts.id"))
    pid: Mapped[int | None]
    lease_until: Mapped[datetime]
    claimed_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(Text)
    gpus: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    lease_s: Mapped[float | None]
    room_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class EventRow(Base):
    """Something that happened to a run; ids are in commit order (see `Database.write`), and none is given twice."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_run", "run_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    at: Mapped[datetime]
    kind: Mapped[str]
    state: Mapped[str]
    attempt: Mapped[int]
    message: Mapped[str] = mapped_column(Text)


class MetricRow(Base):
    """One value of a run's metric; an attempt that repeats a step overwrites it. NULL: the value was not finite."""

    __tablename__ = "metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    value: Mapped[float | None]
    at: Mapped[datetime]


class MetricSummaryRow(Base):
    """What a metric of a run has come to: what lists are narrowed and sorted by, and what runs are compared by."""

    __tablename__ = "metric_summaries"
    __table_args__ = (
        Index("ix_metric_summaries_latest", "name", "latest", "run_id"),
        Index("ix_metric_summaries_name", "name", "run_id"),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigId)
    latest: Mapped[float | None]
    lowest: Mapped[float | None]
    highest: Mapped[float | None]


class AccessTokenRow(Base):
    """A token of the API. Its secret is not here: only a digest of it."""

    __tablename__ = "access_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    role: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ArtifactTableRow(Base):
    """A published artifact: visible from the moment this row is committed. It may outlive the run that computed it."""

    __tablename__ = "artifacts"
    __table_args__ = (Index("ix_artifacts_kind", "kind", "created_at", "key"), Index("ix_artifacts_run", "run_id"))

    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    stage: Mapped[str]
    output: Mapped[str]
    run_id: Mapped[str]
    manifest_digest: Mapped[str]
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    num_scenes: Mapped[int]
    num_points: Mapped[int] = mapped_column(BigInteger)
    attributes: Mapped[Json]
    created_at: Mapped[datetime]


class FeatureTableRow(Base):
    """What lists show of published embeddings, without their attributes: those name every scene. Goes with them."""

    __tablename__ = "features"
    __table_args__ = (
        Index("ix_features_newest", "created_at", "key"),
        Index("ix_features_dataset", "dataset", "created_at", "key"),
        Index("ix_features_encoder", "encoder", "created_at", "key"),
        Index("ix_features_owner", "owner", "created_at", "key"),
        Index("ix_features_dimension", "dimension", "created_at", "key"),
    )

    key: Mapped[str] = mapped_column(ForeignKey("artifacts.key", ondelete="CASCADE"), primary_key=True)
    owner: Mapped[str]
    dataset: Mapped[str | None]
    encoder: Mapped[str | None]
    encoder_title: Mapped[str | None]
    weights_digest: Mapped[str | None]
    dimension: Mapped[int | None]
    dtype: Mapped[str]
    num_covered: Mapped[int | None] = mapped_column(BigInteger)
    splits: Mapped[Json]
    lifting: Mapped[Json | None]
    created_at: Mapped[datetime]
    verified_at: Mapped[datetime | None]
    verified_by: Mapped[str | None]
    num_faults: Mapped[int | None]
    fault: Mapped[str | None] = mapped_column(Text)


class EvaluationTableRow(Base):
    """The score of one prediction on one set of points; belongs to an evaluation artifact."""

    __tablename__ = "evaluations"

    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"), primary_key=True)
    prediction: Mapped[str] = mapped_column(primary_key=True)
    subset: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    miou: Mapped[float | None]
    macc: Mapped[float | None]
    num_points: Mapped[int] = mapped_column(BigInteger)
    classes: Mapped[list[Any]]
    confusion: Mapped[list[Any] | None]
    note: Mapped[str | None] = mapped_column(Text)


class RemovalRow(Base):
    """Something that somebody deleted and of which something is left: what a dead process began, another ends."""

    __tablename__ = "removals"

    what: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class WebhookRow(Base):
    """An address that is told of the ends of runs. Its secret is not here: see `service.webhooks.signing`."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    states: Mapped[list[Any]]
    salt: Mapped[str]
    key_id: Mapped[str]
    owner: Mapped[str]
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class DeliveryRow(Base):
    """One message to one address: the outbox. No foreign key to its run, which it may outlive."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "state", "webhook_id", "due_at"),
        Index("ix_webhook_deliveries_state", "state", "id"),
        Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),
        Index("ix_webhook_deliveries_run", "run_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    run_id: Mapped[str]
    run_state: Mapped[str]
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str]
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    claim: Mapped[str | None]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

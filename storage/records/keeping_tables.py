"""The tables that keep the disk under control: pins, leases of readers, uses, parts, marks, and the store's policy.

As `tables`: models without behaviour, which `migrations` makes. Rows of an artifact go with its row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.records.table_base import Base


class PinRow(Base):
    """Somebody's wish that an artifact stays; one a person."""

    __tablename__ = "pins"

    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"), primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    until: Mapped[datetime | None]
    created_at: Mapped[datetime]


class ReadLeaseRow(Base):
    """A promise to a reader that an artifact stays until a moment."""

    __tablename__ = "read_leases"

    id: Mapped[str] = mapped_column(primary_key=True)
    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"), index=True)
    owner: Mapped[str]
    until: Mapped[datetime]
    created_at: Mapped[datetime]


class ArtifactUseRow(Base):
    """When an artifact was last read by somebody who is no run."""

    __tablename__ = "artifact_uses"

    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"), primary_key=True)
    at: Mapped[datetime]


class ArtifactPartRow(Base):
    """A part that an artifact holds, as its manifest says: what usage is counted from."""

    __tablename__ = "artifact_parts"
    __table_args__ = (Index("ix_artifact_parts_part", "part_key", "num_bytes"),)

    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"), primary_key=True)
    part_key: Mapped[str] = mapped_column(primary_key=True)
    num_bytes: Mapped[int] = mapped_column(BigInteger)


class ArtifactSourceRow(Base):
    """Something that an artifact was made from, as its manifest says; of one without a row that is not known yet."""

    __tablename__ = "artifact_sources"
    __table_args__ = (Index("ix_artifact_sources_source", "source", "artifact_key"),)

    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)


class ArtifactRoomRow(Base):
    """What an artifact whose parts are copied adds to the store: the bytes of the parts that no older one holds."""

    __tablename__ = "artifact_rooms"

    artifact_key: Mapped[str] = mapped_column(ForeignKey("artifacts.key"), primary_key=True)
    counted_bytes: Mapped[int] = mapped_column(BigInteger)


class CollectionMarkRow(Base):
    """Something in the store that the collector deletes when its grace period is over. It may have no other row."""

    __tablename__ = "collection_marks"

    what: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    why: Mapped[str] = mapped_column(Text)
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]
    due_at: Mapped[datetime]


class StorePolicyRow(Base):
    """What a store may hold and what of it may go. A store without a row has the defaults of `policies`."""

    __tablename__ = "store_policies"

    store: Mapped[str] = mapped_column(primary_key=True)
    quota_bytes: Mapped[int] = mapped_column(BigInteger)
    unused_days: Mapped[float]
    expiring: Mapped[list[Any]]
    grace_s: Mapped[float]
    set_by: Mapped[str]
    set_at: Mapped[datetime]

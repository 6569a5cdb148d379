"""Keeping the disk under control, as it is asked for and answered: policy, usage, pins, leases, collections."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Strict

from service import keeping_examples
from service.schemas.pages import Page, gives
from service.schemas.requests import takes
from storage.records.collecting import What
from storage.records.quotas import Fill
from storage.records.references import Code
from storage.specs.spec import ArtifactKind

Moment = Annotated[AwareDatetime, Strict(False)]
"""A point in time as JSON has it: text, with its zone."""


class PolicyRequest(BaseModel):
    """What is to change of a store's policy; what is not given stays."""

    model_config = takes(keeping_examples.POLICY_REQUEST)

    quota_bytes: int | None = Field(None, ge=0, le=2**53, description="0 sets no limit.")
    unused_days: float | None = Field(None, ge=0, le=36_500, description="0: nothing expires.")
    expiring: list[ArtifactKind] | None = Field(None, max_length=20, description="Kinds that expire; never evaluation.")
    grace_s: float | None = Field(None, ge=0, le=365 * 86_400, description="Seconds between marking and deleting.")


class Policy(BaseModel):
    """What a store may hold and what of it may go."""

    model_config = gives(keeping_examples.POLICY)

    quota_bytes: int = Field(description="Bytes at which new runs wait; 0: no limit.")
    unused_days: float = Field(description="Days without use after which an artifact may go; 0: never.")
    expiring: list[ArtifactKind] = Field(description="Kinds that this is said of.")
    grace_s: float = Field(description="Seconds between marking and deleting.")
    set_by: str
    set_at: datetime | None = Field(description="null where nobody has set anything.")


class UsageShare(BaseModel):
    """What the artifacts of one kind, dataset or owner take."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="Empty where they have none.")
    num_artifacts: int
    num_bytes: int = Field(description="A part that artifacts share is counted with the oldest of them.")


class LargeArtifact(BaseModel):
    """One of the largest artifacts."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    kind: ArtifactKind
    dataset: str
    owner: str
    num_bytes: int = Field(description="All its parts, shared ones too.")


class StoreUsage(BaseModel):
    """What takes the room in the store."""

    model_config = gives(keeping_examples.USAGE)

    num_artifacts: int
    num_bytes: int = Field(description="All parts that artifacts hold, each counted once.")
    shared_bytes: int = Field(description="What sharing parts saves.")
    by_kind: list[UsageShare]
    by_dataset: list[UsageShare]
    by_owner: list[UsageShare]
    largest: list[LargeArtifact]
    pinned_bytes: int
    marked_bytes: int = Field(description="What is deleted when its grace period is over, unless somebody uses it.")
    reclaimable_bytes: int = Field(description="What is marked, and what the next collector would mark.")
    num_staged: int = Field(description="Staging directories, of living and dead workers.")
    staged_bytes: int
    free_bytes: int = Field(description="What is free on the store's disk.")
    disk_bytes: int
    quota_bytes: int = Field(description="0: none.")
    fill: Fill
    warning: str = Field(description="Empty where there is no need to warn.")


class PinRequest(BaseModel):
    """A pin to set."""

    model_config = takes(keeping_examples.PIN_REQUEST)

    reason: str = Field(min_length=1, max_length=1000)
    until: Moment | None = Field(None, description="null: until it is taken away.")


class Pin(BaseModel):
    """One person's pin."""

    model_config = gives(keeping_examples.PIN)

    artifact_key: str
    owner: str = Field(description="Empty where nobody was asked.")
    reason: str
    until: datetime | None
    created_at: datetime


class PinPage(Page[Pin]):
    """Pins, newest first."""


class ReadLeaseRequest(BaseModel):
    """How long a reader wants an artifact to stay."""

    model_config = takes(keeping_examples.READ_LEASE_REQUEST)

    seconds: float = Field(600, ge=1, le=86_400, description="From now; renew it before they are over.")


class ReadLease(BaseModel):
    """A promise to a reader that an artifact stays."""

    model_config = gives(keeping_examples.READ_LEASE)

    id: str
    artifact_key: str
    owner: str = Field(description="Empty where nobody was asked.")
    until: datetime
    created_at: datetime


class ReadLeasePage(Page[ReadLease]):
    """Leases that hold, newest first."""


class Collectable(BaseModel):
    """Something in the store that nothing needs."""

    model_config = ConfigDict(from_attributes=True)

    what: What = Field(
        description="artifact; manifest: one that no row names; part: one that no manifest names; run_files: logs and "
        "checkpoints of a run that is gone."
    )
    id: str = Field(description="Its key, or the run's id.")
    code: Code
    why: str
    num_bytes: int = Field(description="What its deletion frees.")
    due_at: datetime = Field(description="When it is deleted, unless somebody uses it before.")


class Collection(BaseModel):
    """What the collector did; of a dry run, what it would do now."""

    model_config = gives(keeping_examples.COLLECTION)

    dry_run: bool
    marked: list[Collectable] = Field(description="What waits for the end of its grace period.")
    removed: list[Collectable]
    unmarked: int = Field(description="What was marked and is needed again.")
    num_staged: int = Field(description="Staging directories that dead workers left.")
    staged_bytes: int
    removed_bytes: int = Field(description="What is freed, staging included.")

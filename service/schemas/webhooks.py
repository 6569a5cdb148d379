"""Webhooks and their messages as they are asked for and answered."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

from pydantic import BaseModel, Field

from service import examples
from service.schemas.pages import Page, gives
from service.schemas.requests import takes
from storage.records.deliveries import DeliveryState

FinalState = Literal["succeeded", "cached", "failed", "cancelled"]


class WebhookRequest(BaseModel):
    """A webhook to add."""

    model_config = takes(examples.WEBHOOK_REQUEST)

    url: str = Field(min_length=1, max_length=2000, description="http or https; its host must be an allowed one.")
    states: list[FinalState] = Field(
        default_factory=lambda: list(get_args(FinalState)),
        min_length=1,
        max_length=4,
        description="Ends of runs that it is told of.",
    )


class Webhook(BaseModel):
    """A webhook without its secret."""

    model_config = gives(examples.WEBHOOK)

    id: str
    url: str
    states: list[FinalState]
    owner: str = Field(description="The admin who added it; empty where nobody was asked.")
    signable: bool = Field(description="False where this service has another key than the one it was added with.")
    created_at: datetime
    removed_at: datetime | None


class NewWebhook(Webhook):
    """A webhook that was just added, with its secret."""

    model_config = gives({**examples.WEBHOOK, "secret": examples.WEBHOOK_SECRET})

    secret: str = Field(description="Shown this once.")


class WebhookPage(Page[Webhook]):
    """Webhooks, newest first."""


class Delivery(BaseModel):
    """A message to a webhook, and what became of it."""

    model_config = gives(examples.DELIVERY)

    id: str = Field(description="The header webhook-id: the same however often it is sent.")
    webhook_id: str
    run_id: str
    run_state: FinalState
    state: DeliveryState
    tries: int = Field(description="How often it was sent.")
    due_at: datetime = Field(description="When it is sent next, where it waits.")
    status: int | None = Field(description="What the receiver answered last.")
    error: str | None = Field(description="Why the last try failed.")
    created_at: datetime
    ended_at: datetime | None


class DeliveryPage(Page[Delivery]):
    """Messages, newest first."""

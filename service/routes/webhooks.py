"""Webhooks: who is told of the ends of runs, and what became of each message. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Path as PathParameter

from service import examples, problems
from service.access import TheCaller, only_admins
from service.dependencies import Cursor, Limit, TheDatabase, TheSettings
from service.schemas import Delivery, DeliveryPage, NewWebhook, Webhook, WebhookPage, WebhookRequest
from service.webhooks import signing
from service.webhooks.addresses import allowed, webhook_target
from storage.records import deliveries, webhooks
from storage.records.deliveries import DeliveryFilter, DeliveryState

router = APIRouter(
    prefix="/webhooks", tags=["webhooks"], responses=problems.RESPONSES, dependencies=[Depends(only_admins)]
)

WebhookId = Annotated[str, PathParameter(description="A webhook's id.", examples=[examples.WEBHOOK["id"]])]


@router.post("", status_code=201, summary="Add a webhook")
def add_webhook(body: WebhookRequest, db: TheDatabase, settings: TheSettings, caller: TheCaller) -> NewWebhook:
    """Allows an address to be told of the ends of runs. The secret to check messages with is in this answer alone.

    422: the address is none of http or https, or its host is none that VLGLAB_WEBHOOK_HOSTS allows.
    """
    allowed(settings.webhook_hosts).check_host(webhook_target(body.url))
    key, salt = signing.key_of(settings.webhook_key_path), signing.new_salt()
    made = webhooks.add(db, body.url, body.states, caller.name, salt, key.id)
    return NewWebhook(**_shown(made, key).model_dump(), secret=key.secret(salt))


@router.get("", summary="List webhooks")
def list_webhooks(db: TheDatabase, settings: TheSettings, cursor: Cursor = None, limit: Limit = 100) -> WebhookPage:
    """Webhooks, newest first, removed ones included; no secret."""
    key = signing.known_key(settings.webhook_key_path)
    page = webhooks.list_webhooks(db, cursor, limit)
    return WebhookPage(items=[_shown(webhook, key) for webhook in page.items], next=page.next)


@router.get("/deliveries", summary="List what webhooks were told")
def list_deliveries(
    db: TheDatabase,
    webhook: Annotated[str | None, Query(description="Only to this webhook.")] = None,
    run: Annotated[str | None, Query(description="Only of this run.")] = None,
    state: Annotated[DeliveryState | None, Query(description="waiting, delivered or given_up.")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> DeliveryPage:
    """Messages, newest first: how often each was sent, what the receiver answered, when it is sent next."""
    page = deliveries.list_deliveries(db, DeliveryFilter(webhook, run, state), cursor, limit)
    return DeliveryPage(items=[Delivery.model_validate(one) for one in page.items], next=page.next)


@router.post("/{webhook_id}/remove", summary="Remove a webhook")
def remove_webhook(webhook_id: WebhookId, db: TheDatabase, settings: TheSettings) -> Webhook:
    """Tells it nothing more; messages that wait are given up."""
    return _shown(webhooks.remove(db, webhook_id), signing.known_key(settings.webhook_key_path))


def _shown(webhook: webhooks.Webhook, key: signing.SigningKey | None) -> Webhook:
    """A webhook as it is answered; whether this service's key can sign for it."""
    signable = key is not None and key.id == webhook.key_id
    return Webhook(
        id=webhook.id,
        url=webhook.url,
        states=list(webhook.states),
        owner=webhook.owner,
        signable=signable,
        created_at=webhook.created_at,
        removed_at=webhook.removed_at,
    )

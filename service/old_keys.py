"""Idempotency-Keys that are old are forgotten now and then, so that their table does not grow for ever."""

from __future__ import annotations

import asyncio
import logging

from service.ticking import look_again
from storage.records import idempotency
from storage.records.database import Database

log = logging.getLogger("vlglab.service")

EVERY_S = 3600.0
"""Seconds between two looks."""


async def run(db: Database, stopping: asyncio.Event) -> None:
    """Looks until `stopping` is set."""

    async def look() -> None:
        if number := await asyncio.to_thread(idempotency.forget_old, db):
            log.info("forgot %d Idempotency-Keys that were older than %d days", number, idempotency.KEPT.days)

    def tell(_: Exception, said: str) -> None:
        log.warning("old Idempotency-Keys are not forgotten: %s", said)

    await look_again(look, EVERY_S, stopping, tell)

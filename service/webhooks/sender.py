"""Sends what webhooks are to be told: claims it from the outbox, signs it, posts it, and writes down how that went.

Part of every control plane; several on one database share the work by their claims. Follows no redirect, uses no proxy,
reads no answer beyond its status.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING

from service.ticking import look_again
from service.webhooks import signing
from service.webhooks.addresses import allowed, webhook_target
from storage.errors import VlglabError
from storage.records import deliveries
from storage.records.database import Database
from storage.records.deliveries import Due
from storage.records.runs import printable
from storage.settings import Settings

if TYPE_CHECKING:
    import httpx  # loaded with the first message: a service that tells nobody anything starts without it

log = logging.getLogger("vlglab.webhooks")

EACH = 4
"""Messages that one webhook is sent at once: one that does not answer holds up no other."""
LONGEST_PAUSE_S = 6 * 3600.0
"""Longest pause before a message is sent again."""
CLAIM_OVER_S = 30.0
"""Seconds that a claim outlasts the time in which a receiver must answer."""
STOP_S = 2.0
"""Seconds that messages on their way get when the service stops; the rest is sent again by the next."""


def pause_after(tries: int, first_s: float, most: int) -> float | None:
    """Seconds until a message is sent again that failed for the `tries`-th time; None where it is given up.

    Examples:
        >>> [pause_after(tries, 5.0, 8) for tries in (1, 2, 3, 7, 8)]
        [5.0, 20.0, 80.0, 20480.0, None]
    """
    return None if tries >= most else min(first_s * 4.0 ** (tries - 1), LONGEST_PAUSE_S)


class Sender:
    """One control plane's share of the sending."""

    def __init__(self, db: Database, settings: Settings) -> None:
        """Args: the database with the outbox; the settings, for the key, the allowed hosts and the patience.

        Raises:
            InvalidInput: the allowed hosts cannot be read.
        """
        self._db = db
        self._settings = settings
        self._allowed = allowed(settings.webhook_hosts)
        self._flying: dict[asyncio.Task[None], str] = {}
        self._http: httpx.AsyncClient | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Sends until `stopping` is set. An error is logged and survived; the same one once until it changes."""
        await look_again(
            self.send_due,
            self._settings.tick_s,
            stopping,
            lambda error, _: log.error("webhooks cannot be told anything now: %s", error),
        )
        if self._flying:
            await asyncio.wait(self._flying, timeout=STOP_S)
        for task in self._flying:
            task.cancel()
        await asyncio.gather(*self._flying, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    async def send_due(self) -> int:
        """Begins to send what is due and fits; returns how many messages that are.

        Raises:
            DatabaseError: the database cannot be asked.
            InvalidInput: the signing key cannot be read.
        """
        key = signing.known_key(self._settings.webhook_key_path)
        if key is None:
            return 0
        room = {webhook: EACH - count for webhook, count in Counter(self._flying.values()).items()}
        lasts_s = self._settings.webhook_timeout_s + CLAIM_OVER_S
        found = await asyncio.to_thread(deliveries.claim_due, self._db, key.id, room, EACH, lasts_s)
        for due in found:
            task = asyncio.create_task(self._deliver(due, key))
            self._flying[task] = due.webhook_id
            task.add_done_callback(self._landed)
        return len(found)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._flying[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a webhook's message could not be reported on, and will be sent again: %s", error)

    async def _deliver(self, due: Due, key: signing.SigningKey) -> None:
        """Sends one message and writes down how that went."""
        ids = {"run_id": due.run_id, "delivery_id": due.id, "webhook_id": due.webhook_id}
        status, error = None, None
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_s):
                status = await self._post(due, key)
        except TimeoutError:
            error = f"no answer within {self._settings.webhook_timeout_s:g} s"
        except VlglabError as refused:
            error = refused.message
        except self._faults() as fault:
            error = f"{type(fault).__name__}: {fault}"
        if status is not None and 200 <= status < 300:
            await asyncio.to_thread(deliveries.delivered, self._db, due, status)
            log.info("told the webhook %s of the run %s", due.webhook_id, due.run_id, extra=ids)
            return
        if status is not None:
            error = f"it answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
        pause = pause_after(due.tries, self._settings.webhook_backoff_s, self._settings.webhook_tries)
        said = printable(error or "")[:500]
        await asyncio.to_thread(deliveries.failed, self._db, due, status, said, pause)
        what = "given up" if pause is None else f"sent again in {pause:.0f} s"
        log.warning("try %d to tell the webhook %s: %s; %s", due.tries, due.webhook_id, said, what, extra=ids)

    async def _post(self, due: Due, key: signing.SigningKey) -> int:
        """Posts one message and returns the answer's status.

        Raises:
            InvalidInput: the host is not allowed, or has an address that is not.
            OSError: its name is not known.
        """
        target = webhook_target(due.url)
        address = await asyncio.to_thread(self._allowed.look_up, target)
        moment = int(time.time())
        headers = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "User-Agent": f"vlglab/{_version()}",
            "webhook-id": due.id,
            "webhook-timestamp": str(moment),
            "webhook-signature": signing.signature(key.secret(due.salt), due.id, moment, due.body),
        }
        client = self._client()
        url = client.build_request("POST", due.url).url.copy_with(host=str(address))
        sending = client.stream(
            "POST", url, content=due.body.encode(), headers=headers, extensions={"sni_hostname": target.host}
        )
        async with sending as answer:
            return int(answer.status_code)

    def _client(self) -> httpx.AsyncClient:
        import httpx

        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=self._settings.webhook_timeout_s, follow_redirects=False, trust_env=False
            )
        return self._http

    def _faults(self) -> tuple[type[Exception], ...]:
        """What a message can fail with; a ValueError is of a name that no host can have."""
        import httpx

        return OSError, ValueError, httpx.HTTPError, httpx.InvalidURL


@lru_cache(maxsize=1)
def _version() -> str:
    try:
        return metadata.version("vlglab")
    except metadata.PackageNotFoundError:
        return "unknown"

"""The socket that `vlglab serve` listens on."""

from __future__ import annotations

import asyncio
import socket

from service.cli import server
from storage.settings import Settings


def test_an_answer_does_not_wait_for_an_acknowledgement(settings: Settings) -> None:
    """Nagle's algorithm is off on every connection that asyncio accepts on it."""

    async def connect() -> int:
        taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            taken.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(take, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await taken
            writer.close()
            await writer.wait_closed()
            return found

    listening = server._bind(settings.model_copy(update={"port": 0}))
    assert asyncio.run(connect()) != 0

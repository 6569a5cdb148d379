"""Connections to PostgreSQL that do not wait for ever for a server that hangs. Needs the driver, which is an extra.

A server whose processes are stopped says nothing, while its kernel takes connections and answers keepalives. A
statement that takes long says nothing either: so a limit of time would end work that is well. Whoever has waited for a
while asks the server for another connection, and gives up where that gets no answer.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import TupleRow

SILENCE_S = 10.0
"""Seconds without a word from the server after which it is asked whether it still answers."""


class WatchedConnection(psycopg.Connection[TupleRow]):
    """A connection whose waits end where the server no longer answers anybody."""

    _ask_again: partial[psycopg.Connection[TupleRow]] | None = None
    """Opens another connection like this one; its `connect_timeout` bounds how long it tries."""

    @classmethod
    def opened(cls, *arguments: Any, **options: Any) -> WatchedConnection:
        """Connects; arguments as of `psycopg.connect`."""
        made = cls.connect(*arguments, **options)
        made._ask_again = partial(psycopg.connect, *arguments, **options)
        return made

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """What the driver waits for.

        Raises:
            psycopg.OperationalError: the server has said nothing for SILENCE_S, and answers no new connection either.
        """
        return super().wait(self._watched(gen), *arguments, **options)

    def _watched(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The steps of a wait; the driver comes by some times a second, though nothing has come."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > SILENCE_S:
                    self._check_server()
                    heard = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _check_server(self) -> None:
        """Closes this connection and raises where a new one gets no answer."""
        if self._ask_again is None:
            return
        try:
            self._ask_again().close()
        except psycopg.errors.ConnectionTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"nothing has come from the server for {SILENCE_S:g} s, and it answers no new connection either"
            ) from None
        except psycopg.Error:
            return  # it answers, be it with a refusal

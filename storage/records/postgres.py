"""PostgreSQL as `database` uses it: its connections, and its writers' lock with its clock. Knows no table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session

from storage.errors import ExtraMissing

WRITER_LOCK = 0x766C676C  # "vlgl"
"""The PostgreSQL advisory lock that makes writers come one at a time."""

IDLE_S = 20.0
"""Seconds after which PostgreSQL ends a session that does nothing in an open transaction: a process that hangs, or a
machine that is gone, must not keep the writer's lock from all others."""

CONNECTION: Mapping[str, str | int] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's options of every connection to PostgreSQL, unless the URL gives them. A database whose machine vanishes
sends nothing, not even an end: so that its clients find out within ten seconds, and not in the kernel's minutes. One
whose processes hang while its machine answers is found by `postgres_waiting`."""

TRUSTED_S = 1.0
"""A pooled connection that was used less long ago is taken as it is; others are asked first whether they still live."""

_LOCKED_AT = "locked_at"
_CLOCK = text("SELECT clock_timestamp()")
_LOCK = text("WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock(:lock)) SELECT clock_timestamp() FROM held")


def engine(url: URL, from_json: Callable[[str | bytes], Any], *, reads: bool = False) -> Engine:
    """An engine for PostgreSQL, with a pool of its own; its driver is an extra.

    Args:
        url: the database.
        from_json: reads a JSON column.
        reads: each transaction sees one state of the database and writes nothing. The driver begins it so; told by a
            statement, or anew for each connection that is taken, it would cost a third of a short reading.

    Raises:
        ExtraMissing: the driver is not installed.
    """
    options = f"-c idle_in_transaction_session_timeout={int(IDLE_S * 1000)}"
    arguments = {name: value for name, value in {**CONNECTION, "options": options}.items() if name not in url.query}
    try:
        from storage.records.postgres_waiting import WatchedConnection

        made = create_engine(
            url,
            pool_size=10,
            max_overflow=20,
            connect_args=arguments,
            json_deserializer=from_json,
            isolation_level="REPEATABLE READ" if reads else "READ COMMITTED",
        )
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"a PostgreSQL database needs the driver {error.name}: pip install 'vlglab[postgres]'"
        ) from error

    def connect(_dialect: Any, _record: Any, positional: list[Any], named: dict[str, Any]) -> Any:
        return WatchedConnection.opened(*positional, **named)

    event.listen(made, "do_connect", connect)
    if reads:
        event.listen(made, "connect", _only_reads)
    _ask_those_that_rested(made)
    return made


def _only_reads(connection: Any, _record: Any) -> None:
    """Has the driver begin each transaction of a new connection READ ONLY."""
    connection.read_only = True


def take_writers_lock(session: Session) -> None:
    """Waits until this transaction is the only one that writes, and notes the database's time then."""
    moment = session.connection().scalar(_LOCK, {"lock": WRITER_LOCK})
    assert isinstance(moment, datetime)
    session.info[_LOCKED_AT] = (moment.astimezone(UTC), time.monotonic())


def now(session: Session) -> datetime:
    """The database's time, UTC; under the writers' lock that of taking it and what has passed since."""
    if _LOCKED_AT in session.info:
        moment, at = session.info[_LOCKED_AT]
        assert isinstance(moment, datetime)
        return moment + timedelta(seconds=time.monotonic() - at)
    value = session.connection().scalar(_CLOCK)
    assert isinstance(value, datetime)
    return value.astimezone(UTC)


def _ask_those_that_rested(pooled: Engine) -> None:
    """Lets a connection that has not been used for a moment answer before it is taken; the pool replaces the dead."""

    @event.listens_for(pooled, "checkin")
    def left(_connection: Any, record: Any) -> None:
        record.info["left"] = time.monotonic()

    @event.listens_for(pooled, "checkout")
    def taken(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("left", time.monotonic()) < TRUSTED_S:
            return
        try:
            pooled.dialect.do_ping(connection)
        except pooled.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

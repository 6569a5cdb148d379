"""Moments as people write them on a command line. Opens no connection."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from storage.errors import InvalidInput

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Since = Annotated[str | None, typer.Option(metavar="WHEN", help="Only those made since: 2h, 3d, 2026-01-31 (09:30).")]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="Only those made before.")]


def moment(text: str | None, now: datetime | None = None) -> datetime | None:
    """The moment that a text means: so long ago, or a date with or without a time, in this zone unless it names one.

    Raises:
        InvalidInput: it is written otherwise.

    Examples:
        >>> moment("90m", datetime(2026, 1, 31, 12, tzinfo=UTC)).isoformat()
        '2026-01-31T10:30:00+00:00'
        >>> moment("2026-01-31T12:00:00Z").isoformat()
        '2026-01-31T12:00:00+00:00'
    """
    if text is None:
        return None
    try:
        if ago := re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip()):
            return (now or datetime.now(UTC)) - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"got the time {text!r}, expected how long ago (30m, 2h, 3d, 1w) or a date (2026-01-31, 2026-01-31T09:30)"
        ) from error

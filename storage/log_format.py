"""How processes log: as text for people or as JSON lines for programs, with what a line is about, and without secrets.

Every process calls `configure` once, at its start. What a line is about (run, attempt, request) comes from three
places: what the process as a whole works on (`about_process`), what this thread or task does now (`about`), and what
the call itself says (`extra=`).
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Literal

LogFormat = Literal["text", "json"]

FIELDS = (
    "run_id", "attempt", "request_id", "delivery_id", "webhook_id", "host_id", "method", "path", "status", "ms",
    "owner", "token_id",
)  # fmt: skip
"""What a JSON line may carry beside time, level, logger, process, message and error."""

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_process: dict[str, object] = {}
_now: ContextVar[dict[str, object] | None] = ContextVar("vlglab_log_about", default=None)

_SECRETS = (
    (re.compile(r"\bvlglab_[A-Za-z0-9_-]{20,}"), "vlglab_***"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]{20,}"), "whsec_***"),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]+"), r"\1***"),
    (re.compile(r"([a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/]+@"), r"\1:***@"),
)
"""What secrets look like, wherever they come from: tokens of the API, webhooks' secrets, passwords in URLs."""


def configure(form: LogFormat, stream: IO[str] | None = None, level: int = logging.INFO) -> None:
    """Sends this process's log lines to a stream (stderr), as text or as one JSON object a line.

    In JSON, warnings of Python and an exception that ends the process are lines too.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells whole addresses, and webhooks' may be secrets
    if form == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught


def about_process(**fields: object) -> None:
    """Says what this process as a whole works on; every later line of it carries that."""
    _process.update(fields)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Says what the block is about: the lines of this thread or task within carry that."""
    mark = _now.set({**(_now.get() or {}), **fields})
    try:
        yield
    finally:
        _now.reset(mark)


def masked(text: str) -> str:
    """The text with what looks like a secret taken out.

    Examples:
        >>> masked("got Bearer abc.def from postgresql://ada:hush@db/lab")
        'got Bearer *** from postgresql://ada:***@db/lab'
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback where there is one; without secrets."""
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """Lines for programs: one JSON object each, a traceback within it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON in ASCII, on one line; without secrets."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": masked(record.getMessage()),
        }
        for name, value in {**_process, **(_now.get() or {}), **_said(record)}.items():
            line[name] = masked(value) if isinstance(value, str) else value
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def _said(record: logging.LogRecord) -> dict[str, object]:
    """What the call itself says its line is about."""
    return {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}


def _log_uncaught(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """An exception that ends the process, as a line; Ctrl-C is none."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("vlglab").critical("the process ends with an error", exc_info=(kind, error, error.__traceback__))

"""On MLflow's PYTHONPATH while it is measured: its SQLite connections are as durable as vlglab's, no more, no less."""

from __future__ import annotations

import sqlite3
from sqlite3 import dbapi2
from typing import Any

_connect = dbapi2.connect


def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
    """A connection with write-ahead logging that waits for the disk at checkpoints only."""
    made = _connect(*args, **kwargs)
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL"):
        made.execute(f"PRAGMA {pragma}").fetchall()
    return made


sqlite3.connect = dbapi2.connect = connect

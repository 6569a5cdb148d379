"""Where the logs of runs lie: in the store, so that they can be read from any host."""

from __future__ import annotations

from pathlib import Path


def log_path(store_root: Path, run_id: str, attempt: int) -> Path:
    """The log file of one attempt of a run, UTF-8 text."""
    return store_root / "logs" / run_id / f"{attempt:03d}.log"

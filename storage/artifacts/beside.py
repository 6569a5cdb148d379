"""Files that are there whole or not at all: written beside their place, then moved onto it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], bool]) -> None:
    """Has a file written beside its place and moves it there, so that it is there whole whoever else writes it.

    Args:
        path: its place.
        write: writes the path that it is given; False where there is nothing to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if write(part):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)

"""The disk that a store lies on, and the room that it has."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """How full a disk is."""

    free_bytes: int
    total_bytes: int


def disk_of(store_root: Path) -> Disk:
    """The disk that a store lies on, or will: it is made by its first write.

    Raises:
        OSError: it cannot be asked.
    """
    there = next(one for one in (store_root, *store_root.parents) if one.exists())
    found = shutil.disk_usage(there)
    return Disk(found.free, found.total)

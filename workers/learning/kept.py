"""Arrays of parts kept in memory between epochs, up to a budget; of what does not fit, rows are read when wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from storage.artifacts.store import Array, PartReader, Rows
from storage.artifacts.zarr_reader import rows_again

BUDGET_BYTES = 1 << 30
"""Enough for 40 rooms of 30,000 points at D = 384; a dataset of hundreds of rooms is read from the store."""


@dataclass(slots=True)
class Kept:
    """Reads arrays once while the budget lasts, for any number of threads. What it gives is shared: do not write."""

    budget_bytes: int = BUDGET_BYTES
    _arrays: dict[tuple[str, str], Array] = field(default_factory=dict)
    _read: set[tuple[str, str]] = field(default_factory=set)
    """Arrays that were read whole, with their checksums."""
    _lock: Lock = field(default_factory=Lock)

    def array(self, part: PartReader, name: str) -> Array:
        """One array of a part, from memory where it was kept."""
        known = self._arrays.get((part.key, name))
        if known is not None:
            return known
        values = part.array(name)
        with self._lock:
            self._read.add((part.key, name))
            if (part.key, name) not in self._arrays and values.nbytes <= self.budget_bytes:
                values.setflags(write=False)
                self.budget_bytes -= values.nbytes
                self._arrays[part.key, name] = values
        return values

    def rows(self, part: PartReader, name: str, rows: Rows) -> Array:
        """Some rows of an array; of one that is not kept, the whole is read the first time, and later those alone."""
        if (part.key, name) in self._arrays or (part.key, name) not in self._read:
            return self.array(part, name)[rows]
        return rows_again(part, name, rows)

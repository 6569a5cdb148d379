"""What follows from a raw file's content, remembered as its digest is: until the file changes.

Knows files; knows no dataset.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from workers.scenes.digests import _SETTLED_NS, DigestCache


class DerivedDigests(DigestCache):
    """Digests of a dataset's files, and short texts that cost a look into one: a digest of a part of it, a kind."""

    def derived(self, name: str, what: str, compute: Callable[[], str]) -> str:
        """`compute()`, remembered under (name, what) while the file `name` keeps its time and size.

        Raises:
            OSError: the file is missing; and whatever `compute` raises, which is not remembered.
        """
        state, key = (self._root / name).stat(), f"{name}#{what}"
        known = self._known.get(key)
        if known is not None and known[:2] == [state.st_mtime_ns, state.st_size]:
            return str(known[2])
        value = compute()
        if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
            self._known[key] = [state.st_mtime_ns, state.st_size, value]
            self._changed = True
        return value

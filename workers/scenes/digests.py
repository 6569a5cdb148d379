"""Content digests of raw files, remembered between runs by path, modification time and size.

Knows files; knows no dataset. The memory is only a cache: without it, or with a broken one, everything is read again.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from storage.keys import digest, digest_bytes, new_token

_VERSION = 1
_SETTLED_NS = 2_000_000_000
"""A file changed within this time may change again within its clock tick: its digest is not remembered."""


class DigestCache:
    """Digests of the files of one dataset."""

    def __init__(self, root: Path, cache_dir: Path) -> None:
        """Opens the memory for the dataset in `root`, kept under `cache_dir`."""
        self._root = root
        self._path = cache_dir / f"digests-{digest(str(root.resolve()))}.json"
        self._known = _read(self._path)
        self._changed = False

    def of(self, name: str) -> str:
        """The digest of the file `name`, relative to the dataset's folder.

        Raises:
            OSError: it cannot be read.
        """
        path = self._root / name
        state = path.stat()
        known = self._known.get(name)
        if known is not None and known[:2] == [state.st_mtime_ns, state.st_size]:
            return str(known[2])
        value = digest_bytes(path.read_bytes())
        if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
            self._known[name] = [state.st_mtime_ns, state.st_size, value]
            self._changed = True
        return value

    def size(self, name: str) -> int:
        """Bytes of the file `name`.

        Raises:
            OSError: it cannot be read.
        """
        return (self._root / name).stat().st_size

    def save(self) -> None:
        """Writes what was learnt, atomically. A cache that cannot be written is no fault."""
        if not self._changed:
            return
        partial = self._path.with_suffix(f".{new_token()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({"version": _VERSION, "files": self._known}))
            partial.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            return
        self._changed = False


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        content = json.loads(path.read_text())
        files = content["files"] if content["version"] == _VERSION else {}
        return {str(name): [int(v[0]), int(v[1]), str(v[2])] for name, v in files.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}

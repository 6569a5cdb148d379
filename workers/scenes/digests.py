"""Content digests of raw files, and what else follows from their content, remembered between runs.

What is remembered of a file holds while it keeps its modification time and size. Knows files; knows no dataset. The
memory is only a cache: without it, or with a broken one, everything is read again.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import blake3

from storage.keys import KEY_LENGTH, digest, new_token

_VERSION = 1
_PIECE = 2**20
_SETTLED_NS = 2_000_000_000
"""A file changed within this time may change again within its clock tick: its digest is not remembered."""


class DigestCache:
    """Digests of the files of one dataset, and short texts that cost a look into one: a digest of a part, a kind."""

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
        return self._remembered(name, name, lambda: _digest_of(self._root / name))

    def derived(self, name: str, what: str, compute: Callable[[], str]) -> str:
        """`compute()`, remembered under (name, what) while the file `name` keeps its time and size.

        Raises:
            OSError: the file is missing; and whatever `compute` raises, which is not remembered.
        """
        return self._remembered(f"{name}#{what}", name, compute)

    def _remembered(self, key: str, name: str, compute: Callable[[], str]) -> str:
        """`compute()`, remembered under `key` while the file `name` keeps its time and size."""
        state = (self._root / name).stat()
        known = self._known.get(key)
        if known is not None and known[:2] == [state.st_mtime_ns, state.st_size]:
            return str(known[2])
        value = compute()
        if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
            self._known[key] = [state.st_mtime_ns, state.st_size, value]
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


def _digest_of(path: Path) -> str:
    """`storage.keys.digest_bytes` of a file's content, read piece by piece: it may be larger than memory."""
    hasher = blake3.blake3()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.hexdigest()[:KEY_LENGTH]


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        content = json.loads(path.read_text())
        files = content["files"] if content["version"] == _VERSION else {}
        return {str(name): [int(v[0]), int(v[1]), str(v[2])] for name, v in files.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}

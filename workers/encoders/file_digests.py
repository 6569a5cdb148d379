"""Digests of files that an operator lays beside vlglab: weights, tables, tokenizers. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import blake3

from storage import keys
from storage.errors import StoreCorrupt


def digest_of_files(files: Mapping[str, Path]) -> str:
    """A digest of some files, each under a name that stays: equal names and contents give equal digests.

    The files are mapped, not read into memory: weights may be larger than it.

    Args:
        files: name -> file.

    Raises:
        StoreCorrupt: a file that cannot be read.
    """
    contents: dict[str, str] = {}
    for name, path in files.items():
        try:
            contents[name] = blake3.blake3().update_mmap(path).hexdigest()
        except OSError as error:
            raise StoreCorrupt(f"the file {path} cannot be read ({error}); copy or fetch it again") from error
    return keys.digest({"files": contents})

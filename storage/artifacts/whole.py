"""An array of the store's own layout read whole, each chunk straight into its place, its checksum on the way.

A map would have every page entered and then copied; `mapped` is for those who come back for some rows.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.array_metadata import CHECKSUM_BYTES, Layout, read_layout
from storage.artifacts.chunk_files import Chunk, ChunkDamaged, checksum, chunks_of
from storage.artifacts.store import Array
from storage.artifacts.threads import in_threads

_PIECE = 2**18
"""Bytes that are read before they are hashed: they are still in a core's own cache then."""


def read_whole(path: Path) -> Array:
    """The array that lies at `path`, every chunk's checksum verified; chunks of large arrays by several threads.

    Raises:
        InvalidInput: another layout than the store's; says what is different.
        ChunkDamaged: a file is missing or of another size, or a checksum is wrong; names chunk, rows and file.
        OSError: a file cannot be read.
    """
    layout = read_layout(path)
    chunks = [chunk for number in range(layout.num_files) for chunk in chunks_of(path, layout, number)]
    out = np.empty(layout.shape, layout.dtype)
    with ExitStack() as opened:
        files = {
            file: opened.enter_context(file.open("rb", buffering=0)).fileno()
            for file in dict.fromkeys(chunk.file for chunk in chunks)
        }

        def take(chunk: Chunk) -> None:
            rows = out[chunk.first_row : chunk.first_row + chunk.num_rows]
            if not _read(files[chunk.file], chunk, layout, rows.reshape(-1).view(np.uint8)):
                raise ChunkDamaged(f"the checksum of {chunk.named(path)} is wrong")

        in_threads(take, chunks, out.nbytes)
    return out


def _read(file: int, chunk: Chunk, layout: Layout, into: NDArray[np.uint8]) -> bool:
    """Reads the values of a chunk that belong to the array; whether all agree with the checksum behind them."""
    found = 0
    for first in range(0, into.nbytes, _PIECE):
        piece = into[first : first + _PIECE]
        if os.preadv(file, [piece.data], chunk.offset + first) < piece.nbytes:
            return False
        found = checksum(piece, found)
    rest = os.pread(file, layout.chunk_bytes - into.nbytes + CHECKSUM_BYTES, chunk.offset + into.nbytes)
    padding, expected = rest[:-CHECKSUM_BYTES], rest[-CHECKSUM_BYTES:]
    return checksum(np.frombuffer(padding, np.uint8), found) == int.from_bytes(expected, "little")

"""Which input voxel meets which output voxel under each offset of a kernel, and how that work is cut into pieces.

Knows row numbers only: no coordinates, features or kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

CHUNK = 4096
"""Pairs that are multiplied at once: enough for a fast product, few enough for their rows to stay in the cache."""
_TILE = 8192
"""Output rows a tile at most."""
_MIN_TILE = 64


@dataclass(frozen=True, slots=True)
class Tile:
    """A range of output rows, and the pairs that end there."""

    start: int
    stop: int
    chunks: tuple[tuple[int, Tensor, Tensor], ...]
    """(offset, sources, targets from `start` on), at most CHUNK pairs each, all but the centre's."""


@dataclass(frozen=True)
class KernelMap:
    """The pairs of a kernel. Under one offset a row meets at most one other."""

    sources: tuple[Tensor, ...]
    """One (P_k,) int64 an offset: rows of the input."""
    targets: tuple[Tensor, ...]
    """One (P_k,) int64 an offset: rows of the output, ascending."""
    num_sources: int
    num_targets: int
    centre: int | None
    """The offset that maps every voxel to itself, where there is one."""

    @property
    def num_pairs(self) -> int:
        """How many pairs of voxels meet, over all offsets."""
        return sum(int(rows.numel()) for rows in self.sources)

    def transposed(self) -> KernelMap:
        """The map of the transposed convolution, made once."""
        return self._transposed

    @cached_property
    def _transposed(self) -> KernelMap:
        return KernelMap(self.targets, self.sources, self.num_targets, self.num_sources, self.centre)

    def chunks(self, k: int) -> list[tuple[Tensor, Tensor]]:
        """(sources, targets) of one offset, at most CHUNK pairs each."""
        return list(zip(torch.split(self.sources[k], CHUNK), torch.split(self.targets[k], CHUNK), strict=True))

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Tiles that cover the output's rows: an even number, so that two threads share the work."""
        num_tiles = max(1, min(2 * -(-self.num_targets // (2 * _TILE)), self.num_targets // _MIN_TILE))
        bounds = [self.num_targets * i // num_tiles for i in range(num_tiles + 1)]
        edges = torch.tensor(bounds, device=self.targets[0].device)
        cuts = [torch.searchsorted(targets, edges).tolist() for targets in self.targets]
        return tuple(
            Tile(start, stop, tuple(self._chunks_between(start, [(cut[i], cut[i + 1]) for cut in cuts])))
            for i, (start, stop) in enumerate(pairwise(bounds))
        )

    def _chunks_between(self, start: int, ranges: list[tuple[int, int]]) -> list[tuple[int, Tensor, Tensor]]:
        chunks = []
        for k, (first, last) in enumerate(ranges):
            if k != self.centre:
                for at in range(first, last, CHUNK):
                    upto = min(at + CHUNK, last)
                    chunks.append((k, self.sources[k][at:upto], self.targets[k][at:upto] - start))
        return chunks

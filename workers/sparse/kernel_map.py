"""Which input voxel meets which output voxel under each offset of a kernel, and how that work is cut into tiles.

Knows row numbers only: no coordinates, features or kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

_TILE = 16384
"""Output rows a tile at most: its pairs are gathered at once, so this bounds the memory of a convolution."""
_FINE, _COARSE = 16, 512


@dataclass(frozen=True, slots=True)
class Tile:
    """A range of output rows and the pairs that end there, offset after offset, each offset's pairs padded."""

    start: int
    stop: int
    segments: tuple[tuple[int, int, int], ...]
    """(offset, first pair, last pair + 1, padding included); offsets without a pair are left out."""
    sources: Tensor
    """(P,) int64 rows of the input; a padding's is 0."""
    targets: Tensor
    """(P,) int64 rows of the output; a padding's is 0."""
    padding: Tensor
    """(Q,) int64 the pairs that are padding."""
    by_target: Tensor
    """(P - Q,) int64 the true pairs by ascending output row, and by offset within one."""
    bags: Tensor
    """(stop - start,) int64 where each output row's pairs begin in `by_target`."""


@dataclass(frozen=True)
class KernelMap:
    """The pairs of a kernel. Under one offset a row meets at most one other."""

    sources: tuple[Tensor, ...]
    """One (P_k,) int64 an offset: rows of the input."""
    targets: tuple[Tensor, ...]
    """One (P_k,) int64 an offset: rows of the output, ascending."""
    num_sources: int
    num_targets: int

    @property
    def num_pairs(self) -> int:
        """How many pairs of voxels meet, over all offsets."""
        return sum(int(rows.numel()) for rows in self.sources)

    def transposed(self) -> KernelMap:
        """The map of the transposed convolution, made once."""
        return self._transposed

    @cached_property
    def _transposed(self) -> KernelMap:
        return KernelMap(self.targets, self.sources, self.num_targets, self.num_sources)

    @cached_property
    def table(self) -> Tensor:
        """(W, K) int64 the source that each target meets under each offset; num_sources where there is none.

        W is `padded` num_targets; rows beyond num_targets meet nothing.
        """
        shape = (padded(self.num_targets), len(self.sources))
        table = torch.full(shape, self.num_sources, dtype=torch.int64, device=self.sources[0].device)
        for k, (sources, targets) in enumerate(zip(self.sources, self.targets, strict=True)):
            table[targets, k] = sources
        return table

    @cached_property
    def meetings(self) -> tuple[Tensor, Tensor]:
        """(num_pairs,) int64 ``source * K + offset`` by ascending target, and (num_targets,) where each one's begin."""
        volume = len(self.sources)
        table = self.table[: self.num_targets]
        there = table < self.num_sources
        counts = there.sum(dim=1)
        places = table * volume + torch.arange(volume, device=table.device)
        return places[there], counts.cumsum(0) - counts

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Tiles that cover the output's rows in order, about equal in size."""
        num_tiles = max(1, -(-self.num_targets // _TILE))
        bounds = [self.num_targets * i // num_tiles for i in range(num_tiles + 1)]
        edges = torch.tensor(bounds, device=self.targets[0].device)
        cuts = [torch.searchsorted(targets, edges).tolist() for targets in self.targets]
        return tuple(
            self._tile(start, stop, [(cut[i], cut[i + 1]) for cut in cuts])
            for i, (start, stop) in enumerate(pairwise(bounds))
        )

    def _tile(self, start: int, stop: int, ranges: list[tuple[int, int]]) -> Tile:
        """The tile of output rows start..stop; `ranges` are its pairs, first and last + 1, under each offset."""
        device = self.targets[0].device
        table = torch.full((stop - start, len(ranges)), -1, dtype=torch.int64, device=device)
        sources, targets, padding, segments, at = [], [], [], [], 0
        for k, (first, last) in enumerate(ranges):
            if first == last:
                continue
            rows, num = self.targets[k][first:last], last - first
            table[rows - start, k] = torch.arange(at, at + num, device=device)
            length = padded(num, 128)
            empty = rows.new_zeros(length - num)
            sources += [self.sources[k][first:last], empty]
            targets += [rows, empty]
            padding.append(torch.arange(at + num, at + length, device=device))
            segments.append((k, at, at + length))
            at += length
        there = table >= 0
        counts = there.sum(dim=1)
        none = table.new_zeros(0)
        return Tile(
            start,
            stop,
            tuple(segments),
            torch.cat(sources) if sources else none,
            torch.cat(targets) if targets else none,
            torch.cat(padding) if padding else none,
            table[there],
            counts.cumsum(0) - counts,
        )


def padded(num: int, finest: int = _FINE) -> int:
    """The next multiple of about an eighth of num: products of few shapes, as a new shape costs more than its padding.

    Args:
        num: rows.
        finest: the least multiple, a power of two.
    """
    step = finest
    while step < _COARSE and num > 8 * step:
        step *= 2
    return -(-num // step) * step

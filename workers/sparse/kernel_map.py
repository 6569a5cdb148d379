"""Which input voxel meets which output voxel under each offset of a kernel, and how that work is cut into tiles.

Knows row numbers only: no coordinates, features or kernels.

Legend of shapes: K offsets, W output rows, P pairs of a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

TILE = 4096
"""Output rows a tile at most: what an offset gathers for it, and what it makes of that, stay in a core's cache."""
_LARGE_TILE = 1 << 17
"""The same on a GPU, where every operation costs a launch and memory is wide."""
_FINE, _COARSE = 16, 512
_MOST_BITS = 62
"""Offsets that a row's pattern in an int64 holds."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The pairs of a tile under one offset, of which the first `num_true` are true and the others padding."""

    offset: int
    num_true: int
    sources: Tensor
    """(length,) int32 rows of the input; a padding's is 0."""
    targets: Tensor
    """(length,) int32 rows of the output; a padding's is 0."""
    same: slice | None = None
    """The rows, where each meets itself: as under the middle offset of a centred kernel."""

    def sources_of(self, rows: Tensor) -> Tensor:
        """(length,C) the rows at the sources; those in one piece are not copied."""
        return rows.index_select(0, self.sources) if self.same is None else rows[self.same]

    def targets_of(self, rows: Tensor) -> Tensor:
        """(length,C) the rows at the targets."""
        return rows.index_select(0, self.targets) if self.same is None else rows[self.same]

    @property
    def length(self) -> int:
        """How many pairs, padding included."""
        return int(self.sources.numel())


@dataclass(frozen=True, slots=True)
class Tile:
    """A range of output rows and the pairs that end there, offset after offset, each offset's pairs padded."""

    start: int
    stop: int
    segments: tuple[Segment, ...]
    """Of ascending offsets, without those that have no pair; a tile's pairs are numbered through them."""
    lengths: list[int]
    """Of the segments."""
    by_target: Tensor
    """int32 numbers of the true pairs by ascending output row, and by offset within one."""
    bags: Tensor
    """(stop - start,) int32 where each output row's pairs begin in `by_target`."""


@dataclass(frozen=True)
class KernelMap:
    """The pairs of a kernel. Under one offset a row meets at most one other."""

    table: Tensor
    """(K,W) int32 the input row that each output row meets under each offset; -1 where there is none."""
    num_sources: int
    mirrored: bool = False
    """Whether the rows of the output are those of the input, each meets itself under the middle offset, and another
    under offset k where that one meets it under offset K - 1 - k: what a centred kernel does."""

    @property
    def num_targets(self) -> int:
        """W, the number of output rows."""
        return int(self.table.shape[1])

    @cached_property
    def num_pairs(self) -> int:
        """How many pairs of voxels meet, over all offsets."""
        return sum(self.counts)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many pairs meet under each offset."""
        return tuple((self.table >= 0).sum(dim=1).tolist())

    def transposed(self) -> KernelMap:
        """The map of the transposed convolution, made once."""
        return self._transposed

    @cached_property
    def _transposed(self) -> KernelMap:
        if self.mirrored:
            return KernelMap(self.table.flip(0), self.num_targets, mirrored=True)
        offsets, targets = (self.table >= 0).nonzero(as_tuple=True)
        turned = self.table.new_full((self.table.shape[0], self.num_sources), -1)
        turned[offsets, self.table[offsets, targets].long()] = targets.to(turned.dtype)
        return KernelMap(turned, self.num_targets)

    @cached_property
    def neighbourhoods(self) -> Tensor:
        """(`padded` W, K) int32: the table by output row, num_sources in place of -1; rows beyond W meet nothing."""
        by_row = self.table.new_full((padded(self.num_targets), self.table.shape[0]), self.num_sources)
        by_row[: self.num_targets] = self.or_none(self.table.t())
        return by_row

    def or_none(self, rows: Tensor) -> Tensor:
        """A piece of the table with num_sources, the number of a row of zeros that is appended, in place of -1."""
        return torch.where(rows < 0, self.num_sources, rows)

    @cached_property
    def meetings(self) -> tuple[Tensor, Tensor]:
        """(num_pairs,) int64 ``source * K + offset`` by ascending target, and (W,) where each one's begin."""
        by_row = self.table.t().long()
        volume = by_row.shape[1]
        there = by_row >= 0
        counts = there.sum(dim=1)
        places = by_row * volume + torch.arange(volume, device=by_row.device)
        return places[there], counts.cumsum(0) - counts

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """(P,) int32 sources and targets, offset after offset, and (K+1,) int32 where each offset's begin, and P."""
        offsets, targets = (self.table >= 0).nonzero(as_tuple=True)
        firsts = torch.searchsorted(offsets, torch.arange(len(self.table) + 1, device=offsets.device), out_int32=True)
        return self.table[offsets, targets], targets.to(torch.int32), firsts

    @cached_property
    def by_pattern(self) -> tuple[Tensor, Tensor]:
        """(K,W) int32 the table with rows side by side that meet others under the same offsets, and (W,) their numbers.

        A GPU multiplies some rows at once, and leaves an offset out only where none of them meets another under it.
        """
        volume, num = self.table.shape
        if volume > _MOST_BITS:
            return self.table, torch.arange(num, dtype=torch.int32, device=self.table.device)
        bits = (1 << torch.arange(volume, device=self.table.device))[:, None]
        order = ((self.table >= 0) * bits).sum(0).argsort(stable=True)
        return self.table.index_select(1, order), order.to(torch.int32)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Tiles that cover the output's rows in order, about equal in size, without padding."""
        return self._tiles(lambda num: num)

    @cached_property
    def padded_tiles(self) -> tuple[Tile, ...]:
        """The same with padding, for products whose every new shape is dear."""
        return self._tiles(lambda num: padded(num, 128))

    def _tiles(self, length_of: Callable[[int], int]) -> tuple[Tile, ...]:
        volume, num = self.table.shape
        num_tiles = max(1, -(-num // tile_rows(self.table)))
        size = -(-num // num_tiles)
        cells = self.table.new_full((volume, num_tiles * size), -1)
        cells[:, :num] = self.table
        cells = cells.view(volume, num_tiles, size).transpose(0, 1).contiguous()
        counts = (cells >= 0).sum(dim=2).tolist()
        middle = volume // 2 if self.mirrored else None
        return tuple(
            _tile(cells[i, :, : min(size, num - i * size)], i * size, counts[i], length_of, middle)
            for i in range(num_tiles)
            if i * size < num
        )


def _tile(cells: Tensor, start: int, counts: list[int], length_of: Callable[[int], int], middle: int | None) -> Tile:
    """The tile of (K, rows) of the table, which begin at the output row `start`.

    Args:
        cells: (K,rows) of the table.
        start: its first output row.
        counts: each offset's pairs.
        length_of: pairs -> pairs with padding.
        middle: the offset under which every row meets itself, where there is one.
    """
    lengths = [length_of(count) if count else 0 for count in counts]
    there = cells >= 0
    firsts = cells.new_tensor([0, *accumulate(lengths)])[:-1, None]
    pairs = there.cumsum(1, dtype=torch.int32) + firsts - 1
    rows = torch.arange(start, start + cells.shape[1], dtype=cells.dtype, device=cells.device)
    sources, targets = cells.masked_select(there), rows.expand_as(cells).masked_select(there)
    if sum(lengths) > sources.numel():
        place = pairs.masked_select(there).long()
        sources = cells.new_zeros(sum(lengths)).index_copy_(0, place, sources)
        targets = cells.new_zeros(sum(lengths)).index_copy_(0, place, targets)
    cut = zip(counts, torch.split(sources, lengths), torch.split(targets, lengths), strict=True)
    own = slice(start, start + cells.shape[1])
    unpadded = middle is not None and lengths[middle] == cells.shape[1]
    counted = there.sum(dim=0, dtype=torch.int32)
    return Tile(
        start,
        start + cells.shape[1],
        tuple(
            Segment(k, count, one, other, own if unpadded and k == middle else None)
            for k, (count, one, other) in enumerate(cut)
            if count
        ),
        [length for length in lengths if length],
        pairs.t().masked_select(there.t()),
        counted.cumsum(0, dtype=torch.int32) - counted,
    )


def tile_rows(like: Tensor) -> int:
    """Output rows that are worked on at once, at most, where that tensor lies."""
    return TILE if like.device.type == "cpu" else _LARGE_TILE


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

"""A set of voxels as sorted 64-bit keys, and the kernel maps between such sets.

A key packs [batch, x, y, z] into bit fields, z lowest, each biased to be non-negative; so keys sort as coordinates do,
a neighbour's key is the key plus a constant, and the voxel of a coarser grid is the key with low bits cleared.
Knows integers only: no features and no kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.sparse.kernel_map import KernelMap

_AXIS_BITS = 17
_BIAS = 1 << (_AXIS_BITS - 1)
_MARGIN = 256
"""Coordinates keep this far from the fields' ends, so that no neighbour's key spills into the next field."""
_MAX_BATCH = 1 << 12
_SHIFTS = (2 * _AXIS_BITS, _AXIS_BITS, 0)
_SENTINEL = torch.iinfo(torch.int64).max


class SortedGrid:
    """Voxels of one tensor stride in the order of their keys, with the coarser grid and the kernel maps made so far."""

    def __init__(self, keys: Tensor, tensor_stride: int, order: Tensor | None = None) -> None:
        """Holds keys (V,) int64, ascending; `order` (V,) are the caller's rows, None where they are the grid's own."""
        self.keys = keys
        self.order = order
        self._tensor_stride = tensor_stride
        self._maps: dict[int, KernelMap] = {}
        self._coarser: SortedGrid | None = None
        self._down: KernelMap | None = None

    @property
    def tensor_stride(self) -> int:
        """Every coordinate is a multiple of it."""
        return self._tensor_stride

    @property
    def num_voxels(self) -> int:
        """V, the number of voxels."""
        return int(self.keys.numel())

    def coordinates(self) -> Tensor:
        """(V,4) int64 [batch, x, y, z]."""
        fields = [(self.keys >> shift & (1 << _AXIS_BITS) - 1) - _BIAS for shift in _SHIFTS]
        return torch.stack([self.keys >> 3 * _AXIS_BITS, *fields], dim=1)

    def neighbour_map(self, kernel_size: int) -> KernelMap:
        """The map of a centred convolution of an odd size, made once."""
        if kernel_size not in self._maps:
            self._maps[kernel_size] = _neighbour_map(self.keys, kernel_size, self._tensor_stride)
        return self._maps[kernel_size]

    def coarser(self) -> SortedGrid:
        """The grid of twice the stride, made once."""
        if self._coarser is None:
            self._coarser, self._down = _coarsen(self.keys, self._tensor_stride)
        return self._coarser

    def down_map(self) -> KernelMap:
        """The map of the 2x2x2 convolution of stride 2 onto the coarser grid, made once."""
        self.coarser()
        assert self._down is not None
        return self._down


def grid_of(coordinates: Tensor) -> SortedGrid:
    """The grid of stride 1 of (V,4) integer coordinates [batch, x, y, z] in any order.

    Raises:
        ValueError: wrong shape or type, no voxel, a duplicate, or a coordinate out of range.
    """
    keys = pack(coordinates)
    if keys.numel() > 1 and bool((keys[1:] <= keys[:-1]).any()):
        keys, order = torch.sort(keys)
        if bool((keys[1:] == keys[:-1]).any()):
            raise ValueError("got duplicate voxel coordinates, expected each once; voxelize the points first")
        return SortedGrid(keys, 1, order)
    return SortedGrid(keys, 1)


def pack(coordinates: Tensor) -> Tensor:
    """Keys (V,) int64 of (V,4) integer coordinates.

    Raises:
        ValueError: wrong shape or type, no voxel, or a coordinate out of range.
    """
    if coordinates.dim() != 2 or coordinates.shape[1] != 4 or coordinates.is_floating_point():
        raise ValueError(
            f"got coordinates of shape {tuple(coordinates.shape)} and {coordinates.dtype}, "
            "expected (V,4) integers [batch, x, y, z]"
        )
    if coordinates.shape[0] == 0:
        raise ValueError("got no voxels, expected at least one; leave empty scenes out")
    columns = coordinates.to(torch.int64)
    low, high = columns.amin(0).tolist(), columns.amax(0).tolist()
    limit = _BIAS - _MARGIN
    if low[0] < 0 or high[0] >= _MAX_BATCH or min(low[1:]) < -limit or max(high[1:]) >= limit:
        raise ValueError(
            f"got coordinates from {low} to {high}, expected batch in [0, {_MAX_BATCH}) and axes in "
            f"[-{limit}, {limit}); move the scene nearer to its origin or use larger voxels"
        )
    keys = columns[:, 0] << 3 * _AXIS_BITS
    for axis, shift in enumerate(_SHIFTS, start=1):
        keys = keys + (columns[:, axis] + _BIAS << shift)
    return keys


def _neighbour_map(keys: Tensor, size: int, stride: int) -> KernelMap:
    """One binary search a column of offsets along z; the next offset in a column is met here or in the next row."""
    reach, num = size // 2, int(keys.numel())
    if keys.device.type != "cpu":
        return KernelMap(_searched_at_once(keys, size, stride), num, mirrored=True)
    table = torch.empty((size**3, num), dtype=torch.int32, device=keys.device)
    none = table.new_full((), -1)
    padded = torch.cat([keys, keys.new_full((1,), _SENTINEL)])
    for dx in range(-reach, reach + 1):
        for dy in range(-reach, reach + 1):
            wanted = keys + stride * ((dx << _SHIFTS[0]) + (dy << _SHIFTS[1]) - reach)
            place = torch.searchsorted(keys, wanted, out_int32=True)
            for dz in range(-reach, reach + 1):
                hit = padded.index_select(0, place) == wanted
                k = (dx + reach) + size * (dy + reach) + size * size * (dz + reach)
                torch.where(hit, place, none, out=table[k])
                place, wanted = place + hit, wanted + stride
    return KernelMap(table, num, mirrored=True)


def _searched_at_once(keys: Tensor, size: int, stride: int) -> Tensor:
    """(K,V) int32 the same table by a search of every neighbour's key: on a GPU calls cost more than searches."""
    steps = stride * torch.arange(-(size // 2), size // 2 + 1, device=keys.device)
    x, y, z = (steps << shift for shift in _SHIFTS)
    wanted = keys + (z[:, None, None] + y[None, :, None] + x[None, None, :]).reshape(-1, 1)
    place = torch.searchsorted(keys, wanted, out_int32=True).clamp_(max=int(keys.numel()) - 1)
    return torch.where(keys[place] == wanted, place, -1)


def _coarsen(keys: Tensor, stride: int) -> tuple[SortedGrid, KernelMap]:
    """The grid of twice the stride, and the 2x2x2 map onto it: every voxel meets its parent under one offset."""
    low = sum(stride << shift for shift in _SHIFTS)
    parents, parent = torch.unique(keys & ~low, return_inverse=True)
    offset = sum((keys // (stride << shift) & 1) << axis for axis, shift in enumerate(_SHIFTS))
    assert isinstance(offset, Tensor)
    num = int(keys.numel())
    table = torch.full((8, int(parents.numel())), -1, dtype=torch.int32, device=keys.device)
    table[offset, parent] = torch.arange(num, dtype=torch.int32, device=keys.device)
    return SortedGrid(parents, 2 * stride), KernelMap(table, num)

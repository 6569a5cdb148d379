"""Sparse convolution by way of torch's dense one: fill a box, convolve it, read the active voxels.

Imports nothing of ours.

Coordinates are (V,4) int64 [batch, x, y, z], multiples of their tensor stride; kernels (K,M,N), x the fastest of K.
Differentiable in features and kernel. Legend: B batch items, V voxels, M channels in, N channels out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def convolution(coordinates: Tensor, features: Tensor, kernel: Tensor, size: int, tensor_stride: int = 1) -> Tensor:
    """(V,N) of a centred convolution of an odd size with stride 1, at the same coordinates."""
    cells = _cells(coordinates, tensor_stride)
    dense = functional.conv3d(_fill(cells, features), _weight(kernel, size), padding=size // 2)
    return _read(dense, cells)


def coarse_coordinates(coordinates: Tensor, tensor_stride: int = 1) -> Tensor:
    """(V',4) distinct parents ``floor(c / 2s) * 2s``, in lexicographic order."""
    step = 2 * tensor_stride
    spatial = torch.div(coordinates[:, 1:], step, rounding_mode="floor") * step
    return torch.unique(torch.cat([coordinates[:, :1], spatial], dim=1), dim=0)


def strided_convolution(coordinates: Tensor, features: Tensor, kernel: Tensor, tensor_stride: int = 1) -> Tensor:
    """(V',N) of the 2x2x2 convolution of stride 2, at `coarse_coordinates`."""
    cells = _cells(coordinates, tensor_stride)
    dense = functional.conv3d(_fill(cells, features), _weight(kernel, 2), stride=2)
    parents = coarse_coordinates(cells)
    parents[:, 1:] //= 2
    return _read(dense, parents)


def transposed_convolution(fine_coordinates: Tensor, features: Tensor, kernel: Tensor, fine_stride: int = 1) -> Tensor:
    """(V,N) at the fine coordinates, of features (V',M) at their `coarse_coordinates`: 2x2x2, stride 2."""
    cells = _cells(fine_coordinates, fine_stride)
    parents = coarse_coordinates(cells)
    parents[:, 1:] //= 2
    shape = _shape(cells)
    coarse = _fill(parents, features, [size // 2 for size in shape])
    weight = _weight(kernel, 2).transpose(0, 1)
    return _read(functional.conv_transpose3d(coarse, weight, stride=2), cells)


def _cells(coordinates: Tensor, tensor_stride: int) -> Tensor:
    """Coordinates in units of the stride, moved by an even number of cells to start at 0 or 1."""
    cells = coordinates.clone()
    assert bool((cells[:, 1:] % tensor_stride == 0).all())
    cells[:, 1:] //= tensor_stride
    cells[:, 1:] -= cells[:, 1:].amin(0) // 2 * 2
    return cells


def _shape(cells: Tensor) -> list[int]:
    return [int(top) // 2 * 2 + 2 for top in cells[:, 1:].amax(0)]


def _fill(cells: Tensor, features: Tensor, shape: list[int] | None = None) -> Tensor:
    """(B,M,X,Y,Z), zero where there is no voxel."""
    dense = features.new_zeros(int(cells[:, 0].max()) + 1, *(shape or _shape(cells)), features.shape[1])
    return dense.index_put(tuple(cells.t()), features).permute(0, 4, 1, 2, 3)


def _read(dense: Tensor, cells: Tensor) -> Tensor:
    return dense.permute(0, 2, 3, 4, 1)[tuple(cells.t())]


def _weight(kernel: Tensor, size: int) -> Tensor:
    """(N,M,x,y,z)."""
    return kernel.reshape(size, size, size, *kernel.shape[1:]).permute(4, 3, 2, 1, 0)

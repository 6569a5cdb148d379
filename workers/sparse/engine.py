"""What a sparse tensor is, and what an engine that convolves sparse tensors does.

Semantics are those of MinkowskiEngine 0.5: features live on integer voxel coordinates [batch, x, y, z]; a grid of
tensor stride s holds multiples of s. Kernel offsets are ordered as the library orders them, the first spatial
axis fastest: `tests/workers/nets/test_minkunet_parity.py` holds networks, values and gradients against the library.

Knows no network, no point cloud and no file.

Legend of shapes: V voxels, C channels, K kernel volume, M channels in, N channels out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Grid(Protocol):
    """A set of voxel coordinates at one tensor stride; its engine keeps the kernel maps with it."""

    @property
    def tensor_stride(self) -> int:
        """Every coordinate is a multiple of it."""

    @property
    def num_voxels(self) -> int:
        """V, the number of voxels."""


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """Features on the voxels of a grid. Tensors on one grid object share their kernel maps."""

    features: Tensor
    """(V,C) floating; row i belongs to the grid's voxel i, whatever order the engine keeps voxels in."""
    grid: Grid

    def with_features(self, features: Tensor) -> SparseTensor:
        """The same voxels with other features, (V,any)."""
        return SparseTensor(features, self.grid)


class Engine(Protocol):
    """Convolves sparse tensors.

    Kernels are (K,M,N); with a kernel size of 1, (M,N). The offset of kernel slice k is, x fastest,
    ``(k % size, k // size % size, k // size**2)``, from which size // 2 is taken where the size is odd: odd kernels are
    centred, even ones cover {0, .., size - 1}, all times the tensor stride of the finer grid.
    """

    def tensor(self, coordinates: Tensor, features: Tensor) -> SparseTensor:
        """A sparse tensor of stride 1.

        Args:
            coordinates: (V,4) integer [batch, x, y, z], without duplicates, in any order.
            features: (V,C) floating, on the same device.

        Raises:
            ValueError: wrong shapes, no voxel, a duplicate, or coordinates out of the engine's range.
        """

    def rows(self, x: SparseTensor) -> Tensor:
        """Features (V,C) in the order of the coordinates that were given to `tensor`.

        Raises:
            ValueError: x lies on a coarser grid.
        """

    def convolution(self, x: SparseTensor, kernel: Tensor, kernel_size: int, stride: int = 1) -> SparseTensor:
        """Sum over offsets of ``x[p + offset] @ kernel[offset]`` at every output voxel p.

        Stride 1 (odd sizes): the output has the input's voxels. Stride 2 (size 2): the output has the voxels
        ``floor(c / 2s) * 2s`` of the input's coordinates c at tensor stride s; the coarser grid is made once a grid.

        Raises:
            ValueError: a kernel of another shape, or a size and stride that the engine does not do.
        """

    def transposed_convolution(
        self, x: SparseTensor, kernel: Tensor, kernel_size: int, stride: int, to: Grid
    ) -> SparseTensor:
        """The exact transpose of the strided convolution from `to` onto x's grid, (K,M,N) with M the channels of x.

        Raises:
            ValueError: a kernel of another shape, or `to` is not the grid that x's grid was made from.
        """


def check_kernel(kernel: Tensor, kernel_size: int, channels: int) -> None:
    """Refuses a kernel whose shape does not fit its size and the channels that it is to meet.

    Raises:
        ValueError: a kernel that is not (size**3, channels, out), or with size 1 not (channels, out).
    """
    expected = (channels,) if kernel_size == 1 else (kernel_size**3, channels)
    if kernel.dim() != len(expected) + 1 or tuple(kernel.shape[:-1]) != expected:
        shape = ", ".join(map(str, (*expected, "out")))
        raise ValueError(
            f"got a kernel of shape {tuple(kernel.shape)} for size {kernel_size} and {channels} channels, "
            f"expected ({shape})"
        )

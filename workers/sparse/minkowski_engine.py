"""The second engine: MinkowskiEngine 0.5.4 itself, where it is installed (`make minkowski`); CPU only.

It is what the default engine is held against, and runs what was trained with it. Knows the library's coordinate
manager, its map keys and its two convolution functions; no network.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from storage.errors import ExtraMissing
from workers.sparse.engine import Grid, SparseTensor, check_kernel
from workers.sparse.grid import pack

_GONE = ("Sequence", "Mapping", "MutableMapping", "Iterable", "Callable")
"""Names that the library imports from `collections`, where Python 3.10 no longer has them."""


class MinkowskiGrid:
    """A coordinate map in the library's manager; its rows are in the manager's order."""

    def __init__(self, manager: Any, key: Any, tensor_stride: int) -> None:
        """Holds the library's `CoordinateManager` and `CoordinateMapKey`."""
        self.manager, self.key = manager, key
        self._tensor_stride = tensor_stride
        self._coarser: MinkowskiGrid | None = None

    @property
    def tensor_stride(self) -> int:
        """Every coordinate is a multiple of it."""
        return self._tensor_stride

    @property
    def num_voxels(self) -> int:
        """V, the number of voxels."""
        return int(self.manager.size(self.key))

    def coordinates(self) -> Tensor:
        """(V,4) int64 [batch, x, y, z]."""
        return cast(Tensor, self.manager.get_coordinates(self.key)).to(torch.int64)

    def coarser(self) -> MinkowskiGrid:
        """The grid of twice the stride, made once."""
        if self._coarser is None:
            self._coarser = MinkowskiGrid(self.manager, self.manager.stride(self.key, 2), 2 * self._tensor_stride)
        return self._coarser


class MinkowskiLibraryEngine:
    """An `Engine` over the library's coordinate manager. One manager a tensor, so one engine serves all networks.

    The library multiplies in float32 and float64 only: under `torch.autocast`, and with features of any other type,
    it is given float32, and so are its sums.
    """

    def __init__(self) -> None:
        """Loads the library.

        Raises:
            ExtraMissing: it is not installed, or does not load.
        """
        self._library = load_library()
        self._mode = importlib.import_module("MinkowskiEngineBackend._C").ConvolutionMode.DEFAULT

    def tensor(self, coordinates: Tensor, features: Tensor) -> SparseTensor:
        """See `Engine.tensor`; rows stay in the order given.

        Raises:
            ValueError: what `Engine.tensor` refuses, or tensors that are not on the CPU.
        """
        pack(coordinates)
        if coordinates.device.type != "cpu" or features.device.type != "cpu":
            raise ValueError(
                f"got voxels on {coordinates.device} and features on {features.device}, expected both on the CPU, "
                "which is all that this build of MinkowskiEngine does; take the engine 'torch' on a GPU"
            )
        num = coordinates.shape[0]
        if features.dim() != 2 or features.shape[0] != num or not features.is_floating_point():
            raise ValueError(
                f"got features of shape {tuple(features.shape)} and {features.dtype}, "
                f"expected floats of shape ({num}, channels), a row a coordinate"
            )
        manager = self._library.CoordinateManager(
            D=3,
            num_threads=min(torch.get_num_threads(), os.cpu_count() or 1),
            coordinate_map_type=self._library.CoordinateMapType.CPU,
        )
        key, (distinct, _) = manager.insert_and_map(coordinates.to(torch.int32).contiguous(), 1)
        if len(distinct) != num:
            raise ValueError("got duplicate voxel coordinates, expected each once; voxelize the points first")
        return SparseTensor(features, MinkowskiGrid(manager, key, 1))

    def rows(self, x: SparseTensor) -> Tensor:
        """See `Engine.rows`."""
        grid = _own(x.grid)
        if grid.tensor_stride != 1:
            raise ValueError(
                f"got a tensor of stride {grid.tensor_stride}, expected 1; "
                "transpose-convolve it back to the voxels given"
            )
        return x.features

    def convolution(self, x: SparseTensor, kernel: Tensor, kernel_size: int, stride: int = 1) -> SparseTensor:
        """See `Engine.convolution`."""
        check_kernel(kernel, kernel_size, x.features.shape[1])
        grid = _own(x.grid)
        if kernel_size == stride == 1:
            return x.with_features(x.features @ kernel)
        if stride == 1 and kernel_size % 2 == 1:
            out = grid
        elif stride == kernel_size == 2:
            out = grid.coarser()
        else:
            raise ValueError(
                f"got kernel size {kernel_size} with stride {stride}, expected an odd size with 1, or 2 with 2"
            )
        function = self._library.MinkowskiConvolutionFunction
        return SparseTensor(self._apply(function, x.features, kernel, (kernel_size, stride), grid, out), out)

    def transposed_convolution(
        self, x: SparseTensor, kernel: Tensor, kernel_size: int, stride: int, to: Grid
    ) -> SparseTensor:
        """See `Engine.transposed_convolution`."""
        check_kernel(kernel, kernel_size, x.features.shape[1])
        if kernel_size != 2 or stride != 2:
            raise ValueError(f"got kernel size {kernel_size} with stride {stride}, expected 2 with 2")
        out = _own(to)
        if out.coarser() is not x.grid:
            raise ValueError(
                f"got a grid of stride {to.tensor_stride} to go to, which is not the one that this tensor's grid of "
                f"stride {x.grid.tensor_stride} was made from; pass the grid of the skip connection"
            )
        function = self._library.MinkowskiConvolutionTransposeFunction
        return SparseTensor(self._apply(function, x.features, kernel, (2, 2), _own(x.grid), out), out)

    def _apply(
        self,
        function: Any,
        features: Tensor,
        kernel: Tensor,
        size_and_stride: tuple[int, int],
        grid: MinkowskiGrid,
        out: MinkowskiGrid,
    ) -> Tensor:
        """The library's function on features (V,M) of `grid`, which gives features (W,N) of `out`."""
        exact = features.dtype if features.dtype == torch.float64 else torch.float32
        size, stride = size_and_stride
        with torch.autocast("cpu", enabled=False):
            region = self._library.KernelGenerator(kernel_size=size, stride=stride, dimension=3)
            operands = (features.to(exact), kernel.to(exact).contiguous(), region, self._mode)
            return cast(Tensor, function.apply(*operands, grid.key, out.key, grid.manager))


@cache
def load_library() -> ModuleType:
    """The module MinkowskiEngine, loaded so that nothing else notices: no warning, no variable and no name is left.

    Raises:
        ExtraMissing: it is not installed, or does not load.
    """
    try:
        with _restored_names(), _capped_threads(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("MinkowskiEngine")
    except ImportError as error:
        raise ExtraMissing(
            f"the engine 'minkowski' needs MinkowskiEngine 0.5.4, which did not load ({error}); build and install it "
            "by `make minkowski`, or take the engine 'torch', which gives the same results"
        ) from error


@contextmanager
def _restored_names() -> Iterator[None]:
    missing = [name for name in _GONE if not hasattr(collections, name)]
    for name in missing:
        setattr(collections, name, getattr(collections.abc, name))
    try:
        yield
    finally:
        for name in missing:
            delattr(collections, name)


@contextmanager
def _capped_threads() -> Iterator[None]:
    """While the library loads, OMP_NUM_THREADS is torch's number of threads: its OpenBLAS reads it only then."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(min(torch.get_num_threads(), os.cpu_count() or 1))
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _own(grid: Grid) -> MinkowskiGrid:
    if not isinstance(grid, MinkowskiGrid):
        raise ValueError(f"got a grid of type {type(grid).__name__}, expected one that this engine made")
    return grid

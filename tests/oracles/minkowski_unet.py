"""MinkUNet put together from MinkowskiEngine's own layers and residual block, given the loaded library.

Imports nothing of ours. Names, shapes and state dicts are what a network trained with MinkowskiEngine has: the stem
conv0p1s1, conv{1..4}p{1,2,4,8}s2 down, convtr{4..7}p{16,8,4,2}s2 up, block1 .. block8, final.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

WIDTHS = {
    "MinkUNet14A": (32, 64, 128, 256, 128, 128, 96, 96),
    "MinkUNet18A": (32, 64, 128, 256, 128, 128, 96, 96),
    "MinkUNet34A": (32, 64, 128, 256, 256, 128, 64, 64),
}
BLOCKS = {
    "MinkUNet14A": (1, 1, 1, 1, 1, 1, 1, 1),
    "MinkUNet18A": (2, 2, 2, 2, 2, 2, 2, 2),
    "MinkUNet34A": (2, 3, 4, 6, 2, 2, 2, 2),
}


class SoftplusForReLU(TorchFunctionMode):
    """Where it is entered, every ReLU is a softplus, in whatever network.

    ReLU's derivative jumps at 0. Of the millions of values in a network a few lie so near to it that two orders of
    adding up put them on its two sides, and one such value moves a coarse level's gradients by percents: any two
    float32 gradients differ so, those of one library with itself in float64 too. A smooth network has no such values.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.relu_, torch.relu_, torch.relu, functional.relu):
            return functional.softplus(args[0])
        return func(*args, **(kwargs or {}))


class MinkowskiUNet(nn.Module):
    """(V,4) coordinates and (V,in) features to (V,out), rows in the order given."""

    def __init__(self, library: ModuleType, in_channels: int, out_channels: int, arch: str) -> None:
        super().__init__()
        self._library: Any = library
        widths, blocks = WIDTHS[arch], BLOCKS[arch]
        self.conv0p1s1 = self._convolution(in_channels, 32, 5)
        self.bn0 = library.MinkowskiBatchNorm(32)
        self.relu = library.MinkowskiReLU(inplace=True)
        self._down, self._up = [], []
        width, skips = 32, [32]
        for i in range(4):
            names = f"conv{i + 1}p{2**i}s2", f"bn{i + 1}", f"block{i + 1}"
            self._register(names, self._convolution(width, width, 2, 2), width, width, widths[i], blocks[i])
            self._down.append(names)
            width = widths[i]
            skips.append(width)
        skips.pop()
        for i in range(4, 8):
            names = f"convtr{i}p{2 ** (8 - i)}s2", f"bntr{i}", f"block{i + 1}"
            up = library.MinkowskiConvolutionTranspose(width, widths[i], kernel_size=2, stride=2, dimension=3)
            self._register(names, up, widths[i], widths[i] + skips.pop(), widths[i], blocks[i])
            self._up.append(names)
            width = widths[i]
        self.final = self._convolution(width, out_channels, 1, bias=True)

    def forward(self, coordinates: Tensor, features: Tensor) -> Tensor:
        library = self._library
        manager = library.CoordinateManager(D=3, num_threads=torch.get_num_threads())
        x = library.SparseTensor(features, coordinates.int(), coordinate_manager=manager)
        x = self.relu(self.bn0(self.conv0p1s1(x)))
        skips = [x]
        for names in self._down:
            x = self._level(names, x)
            skips.append(x)
        skips.pop()
        for names in self._up:
            x = self._level(names, x, skips.pop())
        embeddings: Tensor = self.final(x).F
        return embeddings

    def _level(self, names: tuple[str, str, str], x: Any, skip: Any = None) -> Any:
        convolution, norm, block = (self.get_submodule(name) for name in names)
        x = self.relu(norm(convolution(x)))
        return block(x if skip is None else self._library.cat(x, skip))

    def _register(
        self, names: tuple[str, str, str], convolution: nn.Module, norm: int, width: int, out: int, count: int
    ) -> None:
        self.add_module(names[0], convolution)
        self.add_module(names[1], self._library.MinkowskiBatchNorm(norm))
        self.add_module(names[2], nn.Sequential(*[self._block(out if i else width, out) for i in range(count)]))

    def _block(self, width: int, out: int) -> nn.Module:
        downsample = None
        if width != out:
            downsample = nn.Sequential(self._convolution(width, out, 1), self._library.MinkowskiBatchNorm(out))
        blocks = importlib.import_module(f"{self._library.__name__}.modules.resnet_block")
        block: nn.Module = blocks.BasicBlock(width, out, downsample=downsample, dimension=3)
        return block

    def _convolution(self, width: int, out: int, size: int, stride: int = 1, bias: bool = False) -> nn.Module:
        layer: nn.Module = self._library.MinkowskiConvolution(
            width, out, kernel_size=size, stride=stride, bias=bias, dimension=3
        )
        return layer

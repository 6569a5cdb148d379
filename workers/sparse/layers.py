"""Modules over sparse tensors, with the parameter names and shapes of MinkowskiEngine's.

Knows engines; no network.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from workers.sparse.engine import Engine, Grid, SparseTensor

_AT_ONCE = 1 << 18
"""Values that a norm in evaluation takes at once: 1 MB in float32, which caches hold."""


class Convolution(nn.Module):
    """A convolution, strided or not, or with `transposed`, a transposed one.

    `kernel` is (K,M,N), or (M,N) for size 1; `bias` is (1,N) where there is one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        transposed: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.transposed = kernel_size, stride, transposed
        volume = kernel_size**3
        shape = (in_channels, out_channels) if volume == 1 else (volume, in_channels, out_channels)
        self.kernel = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's normal over fan-out for ReLU, as MinkowskiEngine's ResNet; transposed and biases uniform."""
        in_channels, out_channels = self.kernel.shape[-2:]
        volume = self.kernel_size**3
        with torch.no_grad():
            bound = 1 / math.sqrt((out_channels if self.transposed else in_channels) * volume)
            if self.transposed:
                self.kernel.uniform_(-bound, bound)
            else:
                self.kernel.normal_(0, math.sqrt(2 / (out_channels * volume)))
            if self.bias is not None:
                self.bias.uniform_(-bound, bound)

    def forward(self, engine: Engine, x: SparseTensor, to: Grid | None = None) -> SparseTensor:
        """Convolves x; a transposed convolution needs the grid to go `to`."""
        if self.transposed:
            if to is None:
                raise ValueError("got no grid to go to, expected the finer one; pass the skip connection's")
            y = engine.transposed_convolution(x, self.kernel, self.kernel_size, self.stride, to)
        else:
            y = engine.convolution(x, self.kernel, self.kernel_size, self.stride)
        return y if self.bias is None else y.with_features(y.features + self.bias)


class Norm(nn.Module):
    """Batch norm over all voxels of the batch, with the ReLU and the shortcut that follow it."""

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, momentum=momentum)

    def forward(self, x: SparseTensor, *, relu: bool = True, shortcut: Tensor | None = None) -> SparseTensor:
        """``relu(norm(x) + shortcut)``; shortcut (V,C). In evaluation without gradients it writes over x's features."""
        if not self.training and not torch.is_grad_enabled():
            self._in_place(x.features, relu, shortcut)
            return x
        features: Tensor = self.bn(x.features)
        if shortcut is not None:
            features = features.add_(shortcut)
        return x.with_features(features.relu_() if relu else features)

    def _in_place(self, features: Tensor, relu: bool, shortcut: Tensor | None) -> None:
        """The same in the place of x's features, some rows after the other: all steps while a row is in the cache."""
        mean, variance = cast(Tensor, self.bn.running_mean), cast(Tensor, self.bn.running_var)
        scale = self.bn.weight * torch.rsqrt(variance + self.bn.eps)
        shift = self.bn.bias - mean * scale
        rows = max(1, _AT_ONCE // features.shape[1] if features.device.type == "cpu" else len(features))
        for start in range(0, len(features), rows):
            part = features[start : start + rows]
            torch.addcmul(shift, part, scale, out=part)
            if shortcut is not None:
                part.add_(shortcut[start : start + rows])
            if relu:
                part.relu_()

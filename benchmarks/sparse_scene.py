"""A voxelized room of any size, and the clock, for the benchmarks of sparse convolution."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

VOXEL_M = 0.05


def box(low_m: Tensor, high_m: Tensor) -> Tensor:
    """(V,3) int64 voxels on the surface of a box."""
    low, high = (low_m / VOXEL_M).round().long(), (high_m / VOXEL_M).round().long()
    axes = [torch.arange(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]
    cells = torch.cartesian_prod(*axes)
    return cells[((cells == low) | (cells == high)).any(1)]


def room(num_voxels: int, seed: int = 0) -> Tensor:
    """(V,4) int64 voxels of a furnished room, V near num_voxels: furniture is added, or the room enlarged, to fit."""
    generator = torch.Generator().manual_seed(seed)
    side = (num_voxels * VOXEL_M**2 / 5.2) ** 0.5
    size = torch.tensor([1.15 * side, 0.9 * side, 2.7])
    parts, total = [box(torch.zeros(3), size)], 0
    while True:
        extent = torch.rand(3, generator=generator) * torch.tensor([1.2, 1.0, 1.0]) + 0.25
        low = torch.rand(3, generator=generator) * (size - extent) * torch.tensor([1.0, 1.0, 0.0])
        parts.append(box(low, low + extent))
        cells = torch.unique(torch.cat(parts), dim=0)
        cells = cells[torch.rand(len(cells), generator=generator) < 0.92]
        shaken = torch.rand(len(cells), 1, generator=generator) < 0.15
        cells = torch.unique(cells + shaken * torch.randint(-1, 2, cells.shape, generator=generator), dim=0)
        total = len(cells)
        if total >= 0.97 * num_voxels:
            return torch.cat([torch.zeros(total, 1, dtype=torch.int64), cells], dim=1)


def best(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """(median, least) seconds of a call, after one to warm up; on a GPU until its work is done."""
    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    run()
    finish()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        finish()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)

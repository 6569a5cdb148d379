"""`make bench-sparse`: MinkUNet18A beside MinkowskiEngine's own, then on the default engine at several sizes.

    python -m benchmarks.sparse [--beside 85000] [--voxels 20000 85000] [--dimensions 384 768] [--threads 2]
        [--repeats 5] [--device cpu]

First one scene of about `--beside` voxels (0 leaves this out) at D = 768 in float32: with equal weights, how far
outputs and gradients are apart, then the medians of a training step and of inference, and how many times faster the
default engine is. MinkowskiEngine is measured on the CPU; without it (`make minkowski`) ours is measured alone.

Then a table of the default engine. The bound is the time that the step's multiplications alone would take at this
machine's measured rate. Clouds are the surfaces of a room of boxes at 5 cm, thinned and shaken as a scan would be.
Steps start from bare coordinates. Each line is measured in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import beside_minkowski
from benchmarks.sparse_scene import best, room
from workers.nets.minkunet import MinkUNet
from workers.sparse.grid import SortedGrid, grid_of

COLUMNS = "  voxels    D  precision    maps ms  forward s  step s  eval s  GFLOP/step  bound s  peak GB"


def build_maps(coordinates: Tensor) -> list[SortedGrid]:
    """Every grid and kernel map of MinkUNet, from bare coordinates."""
    grids = [grid_of(coordinates)]
    grids[0].neighbour_map(5)
    for level in range(5):
        grids[level].neighbour_map(3)
        if level < 4:
            grids[level].down_map()
            grids.append(grids[level].coarser())
    return grids


def flops_of_a_step(net: MinkUNet, grids: list[SortedGrid]) -> float:
    """Multiplications and additions that forward and backward need: three products a kernel, two for the stem."""
    total = 0.0
    for name, kernel in net.named_parameters():
        if not name.endswith("kernel"):
            continue
        block = int(name[5]) if name.startswith("block") else 0
        level = block if block <= 4 else 8 - block
        if name == "conv0p1s1.kernel":
            pairs = grids[0].neighbour_map(5).num_pairs
        elif name.startswith("convtr"):
            pairs = grids[7 - int(name[6])].num_voxels
        elif name.startswith("conv"):
            pairs = grids[int(name[4]) - 1].num_voxels
        else:
            pairs = grids[level].neighbour_map(3).num_pairs if kernel.dim() == 3 else grids[level].num_voxels
        products = 2 if name == "conv0p1s1.kernel" else 3
        total += 2.0 * products * pairs * kernel.shape[-2] * kernel.shape[-1]
    return total


def product_rate(dtype: torch.dtype, device: str) -> float:
    """FLOP/s of (rows,96) times (96,96) matrices, all threads; on a GPU rows enough that no launch bounds it."""
    rows = 4096 if device == "cpu" else 262_144
    a, b = torch.randn(rows, 96).to(device, dtype), torch.randn(96, 96).to(device, dtype)
    _, least = best(lambda: [a @ b for _ in range(100)], 5)
    return 100 * 2 * rows * 96 * 96 / least


def measure(num_voxels: int, dimension: int, precision: str, repeats: int, device: str) -> str:
    """One line of the table."""
    coordinates = room(num_voxels)
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(len(coordinates), 3, generator=generator) * 2 - 1
    target = functional.normalize(torch.randn(len(coordinates), dimension, generator=generator), dim=1)
    coordinates, features, target = coordinates.to(device), features.to(device), target.to(device)
    torch.manual_seed(0)
    net = MinkUNet(3, dimension).to(device)

    def forward() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            embeddings: Tensor = net(coordinates, features)
        return embeddings

    def step() -> None:
        net.zero_grad()
        torch.autograd.backward((forward() * target).sum(1).mean().neg())

    maps, _ = best(lambda: build_maps(coordinates), repeats)
    forwards, _ = best(forward, repeats)
    steps, _ = best(step, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    net.eval()
    with torch.inference_mode():
        evals, _ = best(forward, repeats)
    flops = flops_of_a_step(net, build_maps(coordinates))
    bound = flops / product_rate(torch.bfloat16 if precision == "bfloat16" else torch.float32, device)
    return (
        f"{len(coordinates):8d} {dimension:4d}  {precision:9s} {maps * 1e3:10.1f} {forwards:10.3f} {steps:7.3f} "
        f"{evals:7.3f} {flops / 1e9:11.1f} {bound:8.3f} {peak:8.2f}"
    )


def main() -> None:
    """Prints both parts: medians, seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=int, default=85_000, help="voxels of the scene beside MinkowskiEngine")
    parser.add_argument("--voxels", type=int, nargs="*", default=[20_000, 85_000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[384, 768])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--line", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.line:
        print(measure(given.voxels[0], given.dimensions[0], given.precisions[0], given.repeats, given.device))
        return
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, {given.threads} threads"
        + (f", {torch.cuda.get_device_name()}" if given.device == "cuda" else "")
    )
    print(f"products: {product_rate(torch.float32, given.device) / 1e9:.0f} GFLOP/s in float32", end=", ")
    print(f"{product_rate(torch.bfloat16, given.device) / 1e9:.0f} in bfloat16; medians of {given.repeats}")
    if given.beside:
        beside_minkowski.show(given.beside, given.threads, given.repeats, given.device)
    if given.voxels:
        print(COLUMNS, flush=True)
    for voxels in given.voxels:
        for dimension in given.dimensions:
            for precision in given.precisions:
                line = [sys.executable, "-m", "benchmarks.sparse", "--line", "--threads", str(given.threads)]
                line += ["--repeats", str(given.repeats), "--voxels", str(voxels), "--device", given.device]
                line += ["--dimensions", str(dimension), "--precisions", precision]
                subprocess.run(line, check=True, env=os.environ | {"OMP_NUM_THREADS": str(given.threads)})


if __name__ == "__main__":
    main()

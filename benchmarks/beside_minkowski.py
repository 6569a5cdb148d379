"""MinkUNet18A on the default engine beside the network of MinkowskiEngine's own layers: outputs first, then times.

A part of `python -m benchmarks.sparse`. Both get the same weights, the same bare coordinates and the same number of
threads, and build their maps inside every timed step; each is timed in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.sparse_scene import best, room
from tests.oracles.minkowski_unet import MinkowskiUNet, SoftplusForReLU
from workers.nets.minkunet import MinkUNet
from workers.sparse.minkowski_engine import load_library

ARCH, DIMENSION = "MinkUNet18A", 768
BARS = {"training step": 3.0, "inference": 2.5}
"""How many times faster than MinkowskiEngine the default engine is to be on the CPU."""
OUTPUT_BAR, GRADIENT_BAR = 1e-4, 1e-3


def scene(num_voxels: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates (V,4) int32, features (V,3) and unit targets (V,D)."""
    coordinates = room(num_voxels).int()
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(len(coordinates), 3, generator=generator) * 2 - 1
    target = functional.normalize(torch.randn(len(coordinates), DIMENSION, generator=generator), dim=1)
    return coordinates.to(device), features.to(device), target.to(device)


def network(engine: str) -> nn.Module:
    """The default network, or that of MinkowskiEngine's layers, with the same weights."""
    torch.manual_seed(0)
    ours = MinkUNet(3, DIMENSION, ARCH)
    if engine == "torch":
        return ours
    # Its layers make an instance of their autograd function each, which torch no longer likes to see.
    warnings.filterwarnings("ignore", ".*should not be instantiated", DeprecationWarning)
    theirs = MinkowskiUNet(load_library(), 3, DIMENSION, ARCH)
    theirs.load_state_dict(ours.state_dict())
    return theirs


def step(net: nn.Module, coordinates: Tensor, features: Tensor, target: Tensor) -> None:
    """A forward and a backward pass of the cosine loss's numerator."""
    net.zero_grad()
    torch.autograd.backward((net(coordinates, features) * target).sum(1).mean().neg())


def timed(engine: str, num_voxels: int, repeats: int, device: str) -> dict[str, float]:
    """Medians and least seconds of a training step and of inference, and peak memory in GB."""
    given, net = scene(num_voxels, device), network(engine).to(device)
    steps = best(lambda: step(net, *given), repeats)
    net.eval()
    with torch.inference_mode():
        inference = best(lambda: net(*given[:2]), repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    names = ("training step", "training step least", "inference", "inference least")
    return dict(zip(names, (*steps, *inference), strict=True)) | {"peak": peak}


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest absolute difference over the largest absolute value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def compared(num_voxels: int) -> dict[str, float]:
    """How far outputs are apart, in inference and in training, and gradients at most (see `SoftplusForReLU`)."""
    coordinates, features, target = scene(num_voxels)
    nets = network("torch"), network("minkowski")
    found = {}
    with torch.inference_mode():
        found["inference"] = apart(*(net.eval()(coordinates, features) for net in nets))
    with torch.no_grad():
        found["training"] = apart(*(net.train()(coordinates, features) for net in nets))
    with SoftplusForReLU():
        for net in nets:
            step(net, coordinates, features, target)
    ours, theirs = (dict(net.named_parameters()) for net in nets)
    gradients = {name: (ours[name].grad, theirs[name].grad) for name in theirs}
    found["gradients"] = max(apart(a, b) for a, b in gradients.values() if a is not None and b is not None)
    return found


def show(num_voxels: int, threads: int, repeats: int, device: str) -> None:
    """Prints the comparison, and each bar with what was reached."""
    present = importlib.util.find_spec("MinkowskiEngine") is not None
    print(f"\n{ARCH}, a scene of {len(room(num_voxels))} voxels, D = {DIMENSION}, float32", flush=True)
    if not present:
        print("MinkowskiEngine is not installed (`make minkowski`): ours alone")
    found = _child("compare", num_voxels, threads, repeats, "cpu") if present else {}
    for name, bar in (("inference", OUTPUT_BAR), ("training", OUTPUT_BAR), ("gradients", GRADIENT_BAR)):
        if name in found:
            what = "gradients (softplus for ReLU), at most" if name == "gradients" else f"outputs in {name}"
            print(f"{_verdict(found[name] <= bar)}  {what}: {found[name]:.1e} apart, of {bar:.0e} allowed")
    print("engine       device  training step s   least  inference s   least  peak GB")
    rows = {}
    for engine, place in (("torch", device), ("minkowski", "cpu")):
        if engine == "torch" or present:
            row = rows[engine] = _child(engine, num_voxels, threads, repeats, place)
            print(
                f"{engine:12s} {place:6s} {row['training step']:16.3f} {row['training step least']:7.3f} "
                f"{row['inference']:12.3f} {row['inference least']:7.3f} {row['peak']:8.2f}",
                flush=True,
            )
    if present:
        for name, bar in BARS.items():
            ratio = rows["minkowski"][name] / rows["torch"][name]
            if device == "cpu":
                print(f"{_verdict(ratio >= bar)}  {name}: {ratio:.2f} times faster, at least {bar} wanted")
            else:
                print(f"         {name}: {ratio:.2f} times faster on {device} than MinkowskiEngine on the CPU")
    print()


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED "


def _child(what: str, num_voxels: int, threads: int, repeats: int, device: str) -> dict[str, float]:
    """What a process of its own measured; every library in it reads its number of threads from the environment."""
    line = [sys.executable, "-m", "benchmarks.beside_minkowski", what, str(num_voxels), str(repeats), device]
    many = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(line, check=True, env=os.environ | many, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measures one thing, and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["compare", "torch", "minkowski"])
    parser.add_argument("voxels", type=int)
    parser.add_argument("repeats", type=int)
    parser.add_argument("device", choices=["cpu", "cuda"])
    given = parser.parse_args()
    if given.what == "compare":
        print(json.dumps(compared(given.voxels)))
    else:
        print(json.dumps(timed(given.what, given.voxels, given.repeats, given.device)))


if __name__ == "__main__":
    main()

"""MinkUNet against MinkowskiEngine 0.5.4: our network on its engine, and a network of its own layers, equal weights.

In float32 outputs agree to 1e-4 and gradients, of every parameter, to 1e-3; in float64 all agree to 1e-9: the largest
absolute difference over the largest absolute value of that tensor. For float32 gradients the networks are made smooth,
for the reason that `SoftplusForReLU` gives.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.oracles.minkowski_unet import MinkowskiUNet, SoftplusForReLU
from workers.nets.minkunet import Arch, MinkUNet
from workers.sparse.choose import choose_engine
from workers.sparse.minkowski_engine import load_library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("MinkowskiEngine") is None,
        reason="MinkowskiEngine is not installed (`make minkowski`)",
    ),
    # Its layers make an instance of their autograd function each, which torch no longer likes to see.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

OUTPUTS, GRADIENTS, EXACT = 1e-4, 1e-3, 1e-9
ARCHS: tuple[Arch, ...] = ("MinkUNet14A", "MinkUNet18A", "MinkUNet34A")
Clouds = dict[str, Callable[[], Tensor]]


def surfaces(seed: int, extent: tuple[int, int, int] = (32, 27, 16), thinned: float = 0.9) -> Tensor:
    """(V,4) two rooms' floors, walls and slanted planes, thinned, in random order, negative coordinates among them."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for item in range(2):
        x, y, z = (torch.arange(n) for n in extent)
        floor = torch.cartesian_prod(x, y, torch.tensor([0]))
        walls = [torch.cartesian_prod(torch.tensor([0]), y, z), torch.cartesian_prod(x, torch.tensor([extent[1]]), z)]
        slope = torch.cartesian_prod(x, y)
        plane = torch.cat([slope, ((slope[:, :1] * (2 + item) + slope[:, 1:]) // 7) % extent[2]], dim=1)
        cells = torch.unique(torch.cat([floor, *walls, plane]), dim=0) - torch.tensor([17, 9, 3])
        cells = cells[torch.rand(len(cells), generator=generator) < thinned]
        items.append(torch.cat([torch.full((len(cells), 1), item), cells], dim=1))
    voxels = torch.cat(items)
    return voxels[torch.randperm(len(voxels), generator=generator)]


def line() -> Tensor:
    """(67,4) a diagonal through the origin."""
    steps = torch.arange(-33, 34)[:, None]
    return torch.cat([torch.zeros_like(steps), steps, -steps, steps // 3], dim=1)


ODD: Clouds = {
    "one voxel": lambda: torch.tensor([[0, -5, 3, 11]]),
    "one voxel an item": lambda: torch.tensor([[1, 0, 0, 0], [0, 7, -1, 2], [2, 0, 0, 0]]),
    "a line": line,
    "voxels without neighbours": lambda: torch.cartesian_prod(torch.arange(2), *[torch.arange(-24, 25, 8)] * 3),
    "a solid cube": lambda: torch.cartesian_prod(torch.arange(1), *[torch.arange(-4, 5)] * 3),
}


def drawn_network(arch: Arch, out_channels: int, in_channels: int = 3) -> MinkUNet:
    """A network whose norms too are drawn, running statistics included."""
    torch.manual_seed(7)
    net = MinkUNet(in_channels, out_channels, arch)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.uniform_(low, high)
    return net


def others(net: MinkUNet, arch: Arch, out_channels: int) -> dict[str, nn.Module]:
    """The same weights in our network on the library's engine, and in the library's own layers."""
    in_channels = net.conv0p1s1.kernel.shape[1]
    nets: dict[str, nn.Module] = {
        "our network on its engine": MinkUNet(in_channels, out_channels, arch, choose_engine("minkowski")),
        "a network of its layers": MinkowskiUNet(load_library(), in_channels, out_channels, arch),
    }
    for other in nets.values():
        other.load_state_dict(net.state_dict(), strict=True)
        other.train(net.training)
    return nets


def results(net: nn.Module, voxels: Tensor, features: Tensor, gradients: bool) -> dict[str, Tensor]:
    """Embeddings, as training moves them the running statistics, and every gradient (that of the features too)."""
    leaf = features.clone().requires_grad_(gradients)
    with torch.set_grad_enabled(gradients):
        embeddings = net(voxels, leaf)
    found = {"output": embeddings.detach()}
    found |= {f"running {name}": b for name, b in net.named_buffers() if b.is_floating_point()}
    if gradients:
        direction = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(3)).to(embeddings.dtype)
        names, parameters = zip(*net.named_parameters(), strict=True)
        drawn = torch.autograd.grad(embeddings, [leaf, *parameters], direction)
        found |= {f"gradient of {name}": g for name, g in zip(("features", *names), drawn, strict=True)}
    return found


def compare(
    net: MinkUNet, arch: Arch, voxels: Tensor, dtype: torch.dtype, output_bar: float, gradient_bar: float | None
) -> None:
    """Asserts that both other networks give what ours does; without a bar, gradients are left out."""
    features = (torch.rand(len(voxels), 3, generator=torch.Generator().manual_seed(5)) * 2 - 1).to(dtype)
    theirs = others(net, arch, net.final.kernel.shape[1])
    ours = results(copy.deepcopy(net).to(dtype), voxels, features, gradient_bar is not None)
    for name, other in theirs.items():
        for what, expected in results(other.to(dtype), voxels, features, gradient_bar is not None).items():
            bar = gradient_bar if gradient_bar is not None and what.startswith("gradient") else output_bar
            largest = expected.abs().max()
            assert largest > 0, what
            apart = (ours[what] - expected).abs().max() / largest
            assert apart <= bar, f"{what}, {name}, {dtype}: {apart:.2e} apart, of {bar} allowed"


def check(net: MinkUNet, arch: Arch, voxels: Tensor) -> None:
    """In float32 outputs as they are, and gradients of the smooth network; in float64 both as they are."""
    compare(net, arch, voxels, torch.float32, OUTPUTS, None)
    with SoftplusForReLU():
        compare(net, arch, voxels, torch.float32, OUTPUTS, GRADIENTS)
    compare(net, arch, voxels, torch.float64, EXACT, EXACT)


@pytest.mark.parametrize(
    ("arch", "training"),
    [("MinkUNet14A", True), ("MinkUNet18A", True), ("MinkUNet34A", True), ("MinkUNet18A", False)],
)
def test_outputs_and_gradients_agree(arch: Arch, training: bool) -> None:
    voxels = surfaces(seed=1)
    assert 4000 < len(voxels) < 6000
    check(drawn_network(arch, 64).train(training), arch, voxels)


@pytest.mark.parametrize("shape", list(ODD))
def test_odd_shapes_agree(shape: str) -> None:
    check(drawn_network("MinkUNet18A", 16).eval(), "MinkUNet18A", ODD[shape]())


def test_names_and_shapes_are_the_librarys_in_its_order() -> None:
    for arch in ARCHS:
        ours, theirs = MinkUNet(3, 20, arch), MinkowskiUNet(load_library(), 3, 20, arch)
        assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
            (k, v.shape) for k, v in theirs.state_dict().items()
        ]


def test_the_comparison_would_notice_another_order_of_offsets() -> None:
    net = drawn_network("MinkUNet14A", 16).eval()
    with torch.no_grad():
        kernel = net.get_parameter("block1.0.conv1.kernel")
        turned = MinkUNet(3, 16, "MinkUNet14A", choose_engine("minkowski"))
        turned.load_state_dict(net.state_dict())
        size = round(kernel.shape[0] ** (1 / 3))
        swapped = kernel.unflatten(0, (size,) * 3).transpose(0, 2).flatten(0, 2)
        turned.get_parameter("block1.0.conv1.kernel").copy_(swapped)
        turned.eval()
        voxels = surfaces(seed=2, extent=(16, 14, 8))
        features = torch.rand(len(voxels), 3, generator=torch.Generator().manual_seed(5))
        ours, theirs = net(voxels, features), turned(voxels, features)
    assert (ours - theirs).abs().max() / ours.abs().max() > 100 * OUTPUTS

"""The default engine on a GPU beside itself on the CPU, which the dense oracles hold. Skipped where no GPU is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.conformance.sparse_engine import draw, random_cloud
from workers.nets.minkunet import MinkUNet
from workers.sparse import implicit_gemm
from workers.sparse.torch_engine import TorchEngine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")

GPU = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def _cpu_in_double() -> Iterator[None]:
    """The reference is computed in float64; products on the GPU keep the digits of float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def centred(size: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def run(cloud: Tensor, features: Tensor, kernel: Tensor) -> Tensor:
        engine = TorchEngine()
        return engine.rows(engine.convolution(engine.tensor(cloud, features), kernel, size))

    return run


def there_and_back(cloud: Tensor, features: Tensor, kernel: Tensor) -> Tensor:
    engine = TorchEngine()
    x = engine.tensor(cloud, features)
    down = engine.convolution(x, kernel, 2, stride=2)
    return engine.rows(engine.transposed_convolution(down, kernel.transpose(1, 2), 2, 2, x.grid))


CASES = [
    (centred(3), 27, 48, 80), (centred(3), 27, 130, 17), (centred(5), 125, 3, 32), (centred(5), 125, 20, 33),
    (there_and_back, 8, 32, 64),
]  # fmt: skip


def on(device: torch.device, dtype: torch.dtype, run: Callable[..., Tensor], *given: Tensor) -> list[Tensor]:
    """The result and the gradients, as float64 on the CPU."""
    cloud, *leaves = given
    leaves = [leaf.detach().to(device, dtype).requires_grad_() for leaf in leaves]
    y = run(cloud.to(device), *leaves)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(device, y.dtype)
    return [tensor.detach().double().cpu() for tensor in (y, *torch.autograd.grad(y, leaves, direction))]


def deviation(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("num", [1, 70, 30_000])
@pytest.mark.parametrize(("run", "volume", "c_in", "c_out"), CASES)
def test_convolutions_agree_with_the_cpu(
    run: Callable[..., Tensor], volume: int, c_in: int, c_out: int, num: int
) -> None:
    cloud = random_cloud(num, 16, seed=num)
    given = cloud, draw(1, len(cloud), c_in), draw(2, volume, c_in, c_out)
    exact = on(torch.device("cpu"), torch.float64, run, *given)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        for got, expected in zip(on(GPU, dtype, run, *given), exact, strict=True):
            assert got.shape == expected.shape
            assert deviation(got, expected) < tolerance
    with torch.autocast("cuda", torch.bfloat16):
        rounded = on(GPU, torch.float32, run, *given)
    for got, expected in zip(rounded, exact, strict=True):
        assert deviation(got, expected) < 2e-2


def test_the_kernels_take_float32_and_what_autocast_makes_of_it() -> None:
    features = torch.zeros(4, 32, device=GPU)
    assert implicit_gemm.fits(features, torch.float32)
    assert implicit_gemm.fits(features, torch.bfloat16)
    assert not implicit_gemm.fits(features.double(), torch.float64)


def test_the_way_without_the_kernels_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = random_cloud(20_000, 14, seed=5)
    given = cloud, draw(1, len(cloud), 48), draw(2, 27, 48, 64)
    exact = on(torch.device("cpu"), torch.float64, centred(3), *given)
    monkeypatch.setattr(implicit_gemm, "fits", lambda *_: False)
    for got, expected in zip(on(GPU, torch.float32, centred(3), *given), exact, strict=True):
        assert deviation(got, expected) < 1e-5


def network_on(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    net = MinkUNet(3, 64).to(dtype)
    for module in net.modules():  # weights that pass gradients of like size through all layers
        if isinstance(module, nn.BatchNorm1d):
            nn.init.ones_(module.weight)
    cloud = random_cloud(40_000, 24, seed=8)
    net = net.to(device)
    y = net(cloud.to(device), draw(4, len(cloud), 3).detach().to(device, dtype))
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(6)).to(y)).sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    net.eval()
    with torch.inference_mode():
        evaluated = net(cloud.to(device), draw(4, len(cloud), 3).detach().to(device, dtype))
    return [tensor.detach().double().cpu() for tensor in (y, evaluated, *gradients) if tensor is not None]


def test_the_network_agrees_with_the_cpu() -> None:
    exact = network_on(torch.device("cpu"), torch.float64)
    got = network_on(GPU, torch.float32)
    assert len(got) == len(exact)
    assert deviation(got[0], exact[0]) < 1e-4
    assert deviation(got[1], exact[1]) < 1e-4
    ours, theirs = (torch.cat([tensor.flatten() for tensor in run[2:]]) for run in (got, exact))
    assert deviation(ours, theirs) < 1e-2  # a ReLU that rounding turns over changes its gradient whole


def test_results_repeat() -> None:
    for one, other in zip(network_on(GPU, torch.float32), network_on(GPU, torch.float32), strict=True):
        assert torch.equal(one, other)

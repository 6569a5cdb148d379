from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.conformance.sparse_engine import SparseEngineConformance, draw, random_cloud
from workers.sparse.choose import choose_engine
from workers.sparse.engine import SparseTensor
from workers.sparse.torch_engine import TorchEngine


class TestTorchEngine(SparseEngineConformance):
    def engine(self) -> TorchEngine:
        return TorchEngine()


def test_the_spec_names_this_engine() -> None:
    assert isinstance(choose_engine("torch"), TorchEngine)
    with pytest.raises(ValueError, match="expected 'torch'"):
        choose_engine("spconv")  # type: ignore[arg-type]


def crowded(num: int = 6000, channels: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    cloud = random_cloud(num, 9, seed=11)
    features, kernel = draw(1, len(cloud), channels, dtype=torch.float32), draw(2, 27, channels, channels)
    return cloud, features, kernel.detach().float().requires_grad_()


def run(cloud: Tensor, features: Tensor, kernel: Tensor) -> list[Tensor]:
    engine = TorchEngine()
    y = engine.rows(engine.convolution(engine.tensor(cloud, features), kernel, 3))
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    return [y, *torch.autograd.grad(y, [features, kernel], direction)]


def test_autocast_multiplies_in_bfloat16_and_stays_within_its_rounding() -> None:
    exact = run(*crowded())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(*crowded())
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        deviation = (one - other).pow(2).mean().sqrt() / one.pow(2).mean().sqrt()
        assert 1e-5 < deviation < 1e-2


def test_any_number_of_threads_agrees() -> None:
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            runs.append(run(*crowded()))
    finally:
        torch.set_num_threads(before)
    for one, two, three, again in zip(*runs, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(three, one, rtol=1e-4, atol=1e-4)
        assert torch.equal(again, two)


def test_inference_mode_gives_the_same() -> None:
    cloud, features, kernel = crowded()
    engine = TorchEngine()
    expected = run(cloud, features, kernel)[0]
    with torch.inference_mode():
        got = engine.rows(engine.convolution(engine.tensor(cloud, features), kernel, 3))
    assert torch.equal(got, expected)


def test_a_grid_of_another_engine_is_refused() -> None:
    class Elsewhere:
        tensor_stride, num_voxels = 1, 5

    with pytest.raises(ValueError, match="Elsewhere"):
        TorchEngine().rows(SparseTensor(torch.zeros(5, 3), Elsewhere()))

"""The compiled loops against the sum over pairs in float64, and against torch's operations in their place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.workers.sparse.test_kernel_map import drawn_map
from tests.workers.sparse.test_unrolled import MAPS, down, summed
from workers.sparse import blas, fused
from workers.sparse.fused import fused_convolution
from workers.sparse.gather_gemm import gather_gemm_scatter
from workers.sparse.kernel_map import KernelMap

pytestmark = pytest.mark.skipif(not blas.bind(), reason="this build of torch has no product for compiled code to call")


@pytest.fixture(autouse=True, params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def drawn(kernel_map: KernelMap, channels_in: int = 9, channels_out: int = 14) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(channels_in)
    features = torch.randn(kernel_map.num_sources, channels_in, generator=generator)
    kernel = torch.randn(len(kernel_map.table), channels_in, channels_out, generator=generator)
    return features.requires_grad_(), kernel.requires_grad_()


def values_and_gradients(y: Tensor, features: Tensor, kernel: Tensor) -> list[Tensor]:
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [features, kernel], direction)]


@pytest.mark.parametrize("kernel_map", MAPS, ids=["one row", "equal", "tiles", "down", "up", "sparse up"])
def test_values_and_gradients_are_those_of_the_sum_over_pairs(kernel_map: KernelMap) -> None:
    features, kernel = drawn(kernel_map)
    exact = features.detach().double().requires_grad_(), kernel.detach().double().requires_grad_()
    got = values_and_gradients(fused_convolution(features, kernel, kernel_map), features, kernel)
    expected = values_and_gradients(summed(*exact, kernel_map), *exact)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-5)


def test_an_offset_without_a_pair_has_a_gradient_of_zero() -> None:
    kernel_map = KernelMap(torch.tensor([[-1, -1], [0, -1]], dtype=torch.int32), 3)
    features, kernel = drawn(kernel_map)
    y, features_gradient, kernel_gradient = values_and_gradients(
        fused_convolution(features, kernel, kernel_map), features, kernel
    )
    assert torch.equal(y[1], torch.zeros(14))
    assert torch.equal(features_gradient[1:], torch.zeros(2, 9))
    assert torch.equal(kernel_gradient[0], torch.zeros(9, 14))
    torch.testing.assert_close(y[0], features[0] @ kernel[1])


def test_a_layout_in_strides_is_as_good() -> None:
    kernel_map = drawn_map(70)
    features, kernel = drawn(kernel_map)
    strided = [t.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for t in (features, kernel)]
    assert not strided[0].is_contiguous()
    got = values_and_gradients(fused_convolution(*strided, kernel_map), *strided)
    for one, other in zip(
        got, values_and_gradients(fused_convolution(features, kernel, kernel_map), features, kernel), strict=True
    ):
        assert torch.equal(one, other)


def test_a_number_that_is_none_reaches_whom_it_meets_and_nobody_else() -> None:
    kernel_map = down(90, 20)
    features, kernel = (t.detach() for t in drawn(kernel_map))
    features[7] = torch.nan
    meets = (kernel_map.table == 7).any(dim=0)
    assert torch.equal(fused_convolution(features, kernel, kernel_map).isnan().any(dim=1), meets)


def test_results_repeat() -> None:
    kernel_map = drawn_map(4500)
    features, kernel = drawn(kernel_map, 40, 33)
    first, second = (
        values_and_gradients(fused_convolution(features, kernel, kernel_map), features, kernel) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_inference_mode_gives_the_same() -> None:
    kernel_map = drawn_map(300)
    features, kernel = drawn(kernel_map)
    with torch.inference_mode():
        assert torch.equal(
            fused_convolution(features, kernel, kernel_map), fused_convolution(features, kernel, kernel_map)
        )
        inferred = fused_convolution(features, kernel, kernel_map).clone()
    assert torch.equal(inferred, fused_convolution(features, kernel, kernel_map).detach())


def test_gradients_that_nobody_wants_are_not_made() -> None:
    kernel_map = drawn_map(70)
    features, kernel = (t.detach() for t in drawn(kernel_map))
    fused_convolution(features, kernel.requires_grad_(), kernel_map).sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is None and kernel.grad is not None


def test_without_the_product_torchs_operations_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_map = drawn_map(4500)
    features, kernel = drawn(kernel_map, 40, 33)
    compiled = values_and_gradients(gather_gemm_scatter(features, kernel, kernel_map), features, kernel)
    monkeypatch.setattr(blas, "bind", lambda: False)

    def refused(*_: object) -> None:
        raise AssertionError("compiled loops ran")

    monkeypatch.setattr(fused, "_share_out", refused)
    others = values_and_gradients(gather_gemm_scatter(features, kernel, kernel_map), features, kernel)
    for one, other in zip(compiled, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_only_float32_is_taken(dtype: torch.dtype) -> None:
    assert fused.fits(torch.zeros(1, 1), torch.float32)
    assert not fused.fits(torch.zeros(1, 1), dtype)
    assert not fused.fits(torch.zeros(1, 1, dtype=dtype), dtype)

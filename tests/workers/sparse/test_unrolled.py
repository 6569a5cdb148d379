"""The product of whole neighbourhoods against the sum over pairs, written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.workers.sparse.test_kernel_map import drawn_map
from workers.sparse.kernel_map import KernelMap, padded
from workers.sparse.unrolled import narrow_convolution, product, unrolled_convolution


def down(num: int, parents: int) -> KernelMap:
    """Every source meets one parent under one of eight offsets, as in a strided convolution."""
    generator = torch.Generator().manual_seed(num)
    parent = torch.randint(parents, (num,), generator=generator)
    offset = torch.randint(8, (num,), generator=generator)
    key, first = {}, []
    for row, pair in enumerate(zip(parent.tolist(), offset.tolist(), strict=True)):
        if key.setdefault(pair, row) == row:
            first.append(row)
    table = torch.full((8, parents), -1, dtype=torch.int32)
    for row in first:
        table[offset[row], parent[row]] = row
    return KernelMap(table, num)


def summed(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """The definition, offset by offset."""
    out = features.new_zeros(kernel_map.num_targets, kernel.shape[2])
    for k, sources in enumerate(kernel_map.table.long()):
        targets = (sources >= 0).nonzero().squeeze(1)
        out = out.index_add(0, targets, features[sources[targets]] @ kernel[k])
    return out


MAPS = [
    drawn_map(1),
    drawn_map(70),
    drawn_map(4500),
    down(90, 20),
    down(90, 20).transposed(),
    down(300, 300).transposed(),
]


@pytest.mark.parametrize("convolution", [unrolled_convolution, narrow_convolution])
@pytest.mark.parametrize("kernel_map", MAPS, ids=["one row", "equal", "tiles", "down", "up", "sparse up"])
def test_values_and_gradients_are_those_of_the_sum_over_pairs(
    kernel_map: KernelMap, convolution: Callable[..., Tensor]
) -> None:
    torch.manual_seed(1)
    features = torch.randn(kernel_map.num_sources, 5, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(len(kernel_map.table), 5, 7, dtype=torch.float64, requires_grad=True)
    expected = summed(features, kernel, kernel_map)
    got = convolution(features, kernel, kernel_map, torch.float64)
    direction = torch.randn_like(expected)
    torch.testing.assert_close(got, expected)
    for one, other in zip(
        torch.autograd.grad(got, [features, kernel], direction),
        torch.autograd.grad(expected, [features, kernel], direction),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_gradient_that_nobody_wants_is_not_made() -> None:
    kernel_map = drawn_map(70)
    features, kernel = torch.randn(70, 5), torch.randn(5, 5, 7, requires_grad=True)
    unrolled_convolution(features, kernel, kernel_map, torch.float32).sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is None
    assert kernel.grad is not None


def test_products_of_rows_are_not_changed_by_their_padding() -> None:
    torch.manual_seed(2)
    features, kernel = torch.randn(37, 6, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    got = product(features, kernel)
    torch.testing.assert_close(got, features @ kernel)
    got.sum().backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad, kernel.sum(1).expand(37, 6))


def test_lengths_come_again_and_are_no_more_than_a_quarter_longer() -> None:
    lengths = {num: padded(num) for num in range(1, 5000)}
    assert len(set(lengths.values())) < 70
    assert all(num <= length <= max(num + 15, 1.25 * num) for num, length in lengths.items())

"""Muon against singular value decompositions and against torch's own for matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from storage.specs.parts import Optimiser, PolySchedule
from workers.learning.muon import Muon, orthogonaliser
from workers.learning.optimisers import Optimisers
from workers.sparse.layers import Convolution


def drawn(rows: int, columns: int, low: float = 0.05) -> torch.Tensor:
    """A matrix whose singular values lie between `low` and 1."""
    generator = torch.Generator().manual_seed(rows)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    return u @ torch.diag(torch.linspace(low, 1, min(rows, columns))) @ v


@pytest.mark.parametrize("shape", [(300, 40), (500, 3), (64, 64)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = drawn(*shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.t() @ matrix @ orthogonaliser(matrix) @ v.t()
    assert inside.diagonal().min() > 0.5
    assert inside.diagonal().max() < 1.3
    assert (inside - torch.diag(inside.diagonal())).abs().max() < 1e-3


def test_steps_follow_those_of_torchs_muon_on_the_flattened_kernel() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(27, 8, 16))
    matrix = nn.Parameter(kernel.detach().flatten(0, 1).clone())
    start = matrix.detach().clone()
    ours = Muon([kernel])
    theirs = torch.optim.Muon([matrix], lr=0.02, momentum=0.9, weight_decay=0)
    scale = 1.0
    for seed in range(4):
        gradient = scale * drawn(216, 16, 0.3).roll(seed, 0)
        kernel.grad, matrix.grad = gradient.view(27, 8, 16), gradient.clone()
        ours.step(0.02)
        theirs.step()
        scale *= 10
    one, other = kernel.detach().flatten(0, 1) - start, matrix.detach() - start
    assert torch.linalg.norm(one) == pytest.approx(float(torch.linalg.norm(other)), rel=0.02)
    assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def test_only_kernels_go_by_muon_and_only_where_a_rate_is_given() -> None:
    spec = Optimiser(learning_rate=0.1, schedule=PolySchedule(), epochs=1, batch_size=1)

    def moved(optimiser: Optimiser, rate: float) -> list[torch.Tensor]:
        module = nn.ParameterList([torch.ones(2, 3, 3), torch.ones(3)])
        optimisers = Optimisers(module, optimiser)
        for parameter in module:
            parameter.grad = torch.full_like(parameter, 7.0)
        optimisers.step(rate)
        return [parameter.detach() - 1 for parameter in module]

    kernel, bias = moved(spec, 0.05)
    assert torch.allclose(kernel, torch.tensor(-0.05)) and torch.allclose(bias, torch.tensor(-0.05))
    kernel, bias = moved(spec.model_copy(update={"kernel_learning_rate": 0.4}), 0.05)
    assert torch.allclose(bias, torch.tensor(-0.05))
    u = torch.full((6, 3), -1 / 18**0.5)  # the one direction of a constant gradient, at half the kernel's rate
    share = (kernel.flatten(0, 1) / u / (0.2 * 2**0.5)).flatten()
    torch.testing.assert_close(share, share[:1].expand(18), rtol=1e-3, atol=0)
    assert 0.6 < share[0] < 1.3


def test_a_kernel_without_a_gradient_stays() -> None:
    kernel = nn.Parameter(torch.ones(3, 2, 2))
    Muon([kernel]).step(1.0)
    assert torch.equal(kernel.detach(), torch.ones(3, 2, 2))


def test_kernels_of_size_one_go_by_muon_and_biases_do_not() -> None:
    head = Convolution(5, 8, 1, bias=True)
    spec = Optimiser(learning_rate=0.1, kernel_learning_rate=1.0, schedule=PolySchedule(), epochs=1, batch_size=1)
    before = head.kernel.detach().clone()
    optimisers = Optimisers(head, spec)
    for parameter in head.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    assert head.bias is not None and head.bias.grad is not None
    bias, sign = head.bias.detach().clone(), head.bias.grad.sign()
    optimisers.step(0.1)
    values = torch.linalg.svdvals(head.kernel.detach() - before) / (8 / 5) ** 0.5
    assert values.max() < 1.3 and values.min() > 0.4
    torch.testing.assert_close(head.bias.detach(), bias - 0.1 * sign)

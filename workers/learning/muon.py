"""Muon for convolution kernels: momentum, and every direction of the update made equally long.

Source: Jordan and others, "Muon: an optimizer for hidden layers in neural networks", 2024. `torch.optim.Muon` takes
matrices only and iterates on the whole gradient; kernels are tall, (K*M,N) with K*M far above N, so this iterates on
their (N,N) Gram matrix and multiplies the gradient by the result once. Knows tensors; no network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MOMENTUM = 0.9
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration: drives singular values towards 1, within 0.7 and 1.2."""
_ITERATIONS = 5


class Muon:
    """Moves kernels (K,M,N) or (M,N) by a nesterov momentum of their gradients, orthogonalised."""

    def __init__(self, kernels: list[nn.Parameter]) -> None:
        """Holds the kernels by reference."""
        self._kernels = kernels
        self.momenta = [torch.zeros_like(kernel) for kernel in kernels]
        """One a kernel: all that there is to keep of it."""

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves every kernel that has a gradient.

        The rate is multiplied by the root of the sides' ratio: as in the source for tall kernels, here for wide
        ones too.
        """
        for kernel, momentum in zip(self._kernels, self.momenta, strict=True):
            if kernel.grad is None:
                continue
            momentum.mul_(MOMENTUM).add_(kernel.grad)
            update = orthogonalised(kernel.grad.add(momentum, alpha=MOMENTUM).flatten(0, -2))
            short, long = sorted(update.shape)
            kernel.add_(update.view_as(kernel), alpha=-learning_rate * math.sqrt(long / short))


def orthogonalised(matrix_rn: Tensor) -> Tensor:
    """(R,N) with the singular vectors of a float32 (R,N) and singular values near 1; those near 0 stay small.

    ``X p(H) p(H') ..`` with H the Gram matrix of X and H' that of ``X p(H)``: all of them polynomials in H.
    """
    if matrix_rn.shape[0] < matrix_rn.shape[1]:
        return orthogonalised(matrix_rn.t()).t()
    a, b, c = _POLYNOMIAL
    scale = 1 / (matrix_rn.norm() + 1e-12)
    gram_nn = (matrix_rn.t() @ matrix_rn) * scale**2
    total_nn = torch.eye(gram_nn.shape[0], device=gram_nn.device) * scale
    for _ in range(_ITERATIONS):
        step_nn = torch.addmm(b * gram_nn, gram_nn, gram_nn, alpha=c)
        step_nn.diagonal().add_(a)
        total_nn = total_nn @ step_nn
        gram_nn = step_nn @ gram_nn @ step_nn
    orthogonal_rn: Tensor = matrix_rn @ total_nn
    return orthogonal_rn

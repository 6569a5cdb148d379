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
        """Moves every kernel that has a gradient, which is written over.

        The rate is multiplied by the root of the sides' ratio: as in the source for tall kernels, here for wide
        ones too.
        """
        for kernel, momentum in zip(self._kernels, self.momenta, strict=True):
            if kernel.grad is None:
                continue
            torch.add(kernel.grad, momentum, alpha=MOMENTUM, out=momentum)
            ahead_rn = kernel.grad.add_(momentum, alpha=MOMENTUM).flatten(0, -2)
            weights_rn = kernel.view(ahead_rn.shape)
            short, long = sorted(ahead_rn.shape)
            if ahead_rn.shape[0] < ahead_rn.shape[1]:
                ahead_rn, weights_rn = ahead_rn.t(), weights_rn.t()
            rate = learning_rate * math.sqrt(long / short)
            weights_rn.addmm_(ahead_rn, orthogonaliser(ahead_rn), alpha=-rate)


def orthogonaliser(matrix_rn: Tensor) -> Tensor:
    """(N,N) that a tall float32 (R,N) is multiplied by: its singular vectors stay, its singular values come near 1.

    Those near 0 stay small. ``p(H) p(H') ..`` with H the Gram matrix of X and H' that of ``X p(H)``: all of them
    polynomials in H.
    """
    a, b, c = _POLYNOMIAL
    gram_nn = matrix_rn.t() @ matrix_rn
    squared_norm = gram_nn.trace().clamp_(min=1e-24)
    gram_nn /= squared_norm
    total_nn = torch.eye(gram_nn.shape[0], device=gram_nn.device) * squared_norm.rsqrt()
    for iteration in range(_ITERATIONS):
        step_nn = torch.addmm(b * gram_nn, gram_nn, gram_nn, alpha=c)
        step_nn.diagonal().add_(a)
        total_nn = total_nn @ step_nn
        if iteration < _ITERATIONS - 1:
            gram_nn = step_nn @ gram_nn @ step_nn
    return total_nn

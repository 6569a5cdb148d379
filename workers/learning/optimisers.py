"""What moves the weights: Adam, or Muon for the convolutions' kernels beside Adam for all else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from storage.specs.parts import Optimiser
from workers.learning.muon import Muon


class Optimisers:
    """The optimisers of one training."""

    def __init__(self, model: nn.Module, spec: Optimiser) -> None:
        """Holds the model's parameters by reference; it must lie on its device already."""
        parameters = list(model.parameters())
        kernels = [p for p in parameters if _is_kernel(p)] if spec.kernel_learning_rate is not None else []
        taken = {id(kernel) for kernel in kernels}
        self._spec = spec
        self._muon = Muon(kernels)
        self._adam = torch.optim.Adam(
            [p for p in parameters if id(p) not in taken],
            lr=spec.learning_rate,
            weight_decay=spec.weight_decay,
            fused=True,
        )

    def step(self, learning_rate: float) -> None:
        """Moves the weights by their gradients.

        Args:
            learning_rate: Adam's now; Muon's follows the same schedule.
        """
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        if self._spec.kernel_learning_rate is not None:
            self._muon.step(self._spec.kernel_learning_rate * learning_rate / self._spec.learning_rate)

    def state(self) -> dict[str, Tensor]:
        """What `load` takes to go on: `adam.<place>.<quantity>` and `muon.<place>`, by place among what each moves."""
        kept = {f"muon.{place}": momentum for place, momentum in enumerate(self._muon.momenta)}
        for place, quantities in self._adam.state_dict()["state"].items():
            kept |= {f"adam.{place}.{name}": value for name, value in quantities.items()}
        return kept

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a state."""
        adam = self._adam.state_dict()
        adam["state"] = {}
        for name, value in state.items():
            optimiser, place, *quantity = name.split(".")
            if optimiser == "adam":
                adam["state"].setdefault(int(place), {})[quantity[0]] = value
            else:
                self._muon.momenta[int(place)].copy_(value)
        self._adam.load_state_dict(adam)


def _is_kernel(parameter: nn.Parameter) -> bool:
    """Whether it multiplies channels: (K,M,N), or (M,N) of size 1; a bias is (1,N)."""
    return parameter.dim() >= 2 and parameter.shape[0] > 1

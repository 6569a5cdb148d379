"""The ESS adapter. Source: section 3.2, equation 1."""

from __future__ import annotations

from torch import Tensor, nn

from storage.specs.parts import Adapter as AdapterSpec


class Adapter(nn.Module):
    """A^3D = alpha * MLP(P^2D) + (1 - alpha) * P^2D, the MLP being two linear layers.

    Args:
        dimension: D, the length of an embedding.
        spec: width of the hidden layer and alpha.
    """

    def __init__(self, dimension: int, spec: AdapterSpec) -> None:
        super().__init__()
        hidden = spec.hidden or max(1, dimension // 4)
        self.mlp = nn.Sequential(nn.Linear(dimension, hidden, bias=False), nn.Linear(hidden, dimension))
        self.alpha = spec.alpha

    def forward(self, embeddings: Tensor) -> Tensor:
        """(M,D) 2D-projected embeddings to (M,D) adapted ones."""
        adapted: Tensor = self.alpha * self.mlp(embeddings) + (1 - self.alpha) * embeddings
        return adapted

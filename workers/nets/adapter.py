"""The ESS adapter, and the one place that knows its kinds. Source: section 3.2, equation 1; Table 5."""

from __future__ import annotations

from torch import Tensor, nn

from storage.specs.parts import Adapter as AdapterSpec
from workers.nets.transformer_adapter import TransformerAdapter


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


def make_adapter(dimension: int, spec: AdapterSpec) -> nn.Module:
    """An untrained adapter of the kind that the spec names: (M,D) embeddings to (M,D) adapted ones.

    Args:
        dimension: D, the length of an embedding.
        spec: its kind, width of the hidden layer and alpha.

    Raises:
        SpecInvalid: a width that the kind cannot have.
    """
    if spec.kind == "transformer":
        return TransformerAdapter(dimension, spec)
    return Adapter(dimension, spec)

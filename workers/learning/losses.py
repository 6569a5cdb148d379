"""The losses of the method. Source: sections 3.2 and 3.3."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cosine_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """L_s = 1 - cos(F^3D, A^3D), the mean over rows; (V,D) each. Source: equation 2."""
    return 1 - functional.cosine_similarity(predicted, target, dim=1).mean()


def text_cross_entropy(embeddings: Tensor, text: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of embeddings · text against labels, without temperature. Source: section 3.2.

    Args:
        embeddings: (V,D).
        text: (K,D), unit norm.
        labels: (V,) in 0..K-1; every row must have one.
    """
    return functional.cross_entropy(embeddings @ text.T, labels.to(torch.int64))

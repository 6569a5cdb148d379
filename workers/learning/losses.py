"""The losses of the method. Source: sections 3.2 and 3.3."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def balance_weights(classes: Tensor, exponent: float) -> Tensor:
    """What each row of a batch counts, so that frequent classes do not drown the others: n_c ** -exponent.

    Args:
        classes: (V,) integers from 0, each row's class; n_c is how many rows of these have class c.
        exponent: 0 counts all rows alike (the paper's losses), 1 all classes alike.

    Returns:
        (V,) f32 that add up to 1.
    """
    weights = torch.bincount(classes).clamp_min(1).float().pow(-exponent)[classes]
    return weights / weights.sum()


def cosine_loss(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_s = 1 - cos(F^3D, A^3D), the mean over rows; (V,D) each. Source: equation 2.

    With `weights`, (V,) that add up to 1, the weighted mean.
    """
    cosine = functional.cosine_similarity(predicted, target, dim=1)
    return 1 - (cosine.mean() if weights is None else (weights * cosine).sum())


def text_cross_entropy(embeddings: Tensor, text: Tensor, labels: Tensor, class_balance: float = 0) -> Tensor:
    """Cross-entropy of embeddings · text against labels, without temperature. Source: section 3.2.

    Args:
        embeddings: (V,D).
        text: (K,D), unit norm.
        labels: (V,) in 0..K-1; every row must have one.
        class_balance: the exponent of `balance_weights`.
    """
    labels = labels.to(torch.int64)
    if not class_balance:
        return functional.cross_entropy(embeddings @ text.T, labels)
    each = functional.cross_entropy(embeddings @ text.T, labels, reduction="none")
    return (balance_weights(labels, class_balance) * each).sum()

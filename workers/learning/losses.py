"""The losses of the method. Source: sections 3.2 and 3.3; Fig. 1a for the baseline's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from storage.errors import TrainingFailed


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


def l1_loss(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean of |predicted - target| over rows and values, as they are, not normalised; (V,D) each.

    With `weights`, (V,) that add up to 1, the weighted mean over rows. Source: the option `l1` of the authors' code.
    """
    difference = (predicted - target).abs()
    return difference.mean() if weights is None else (weights * difference.mean(dim=1)).sum()


def scene_classification_loss(logits: Tensor, batch: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of each scene's mean logits against the classes it has; the mean over scenes and classes.

    The loss of the CAM baseline (Fig. 1a): global average pooling, then the multi-label soft margin.

    Args:
        logits: (V,K) a voxel's logit of each class.
        batch: (V,) integers in 0..B-1, which scene a voxel belongs to.
        present: (B,K) bool, the scene-level labels.

    Raises:
        TrainingFailed: a scene without one voxel.
    """
    pooled = pool_scenes(logits, batch, len(present))
    return functional.binary_cross_entropy_with_logits(pooled, present.to(pooled.dtype))


def pool_scenes(values: Tensor, batch: Tensor, num_scenes: int) -> Tensor:
    """(B,K) each scene's mean over its voxels: global average pooling.

    Args:
        values: (V,K) floating.
        batch: (V,) integers in 0..B-1, which scene a voxel belongs to.
        num_scenes: B.

    Raises:
        TrainingFailed: a scene without one voxel.
    """
    batch = batch.to(torch.int64)
    counts = torch.bincount(batch, minlength=num_scenes)
    if len(counts) != num_scenes or not bool(counts.all()):
        empty = [scene for scene, count in enumerate(counts.tolist()) if not count]
        raise TrainingFailed(
            f"got voxels of {len(counts) - len(empty)} scenes, expected some of each of {num_scenes}"
            + (f"; none of scene {', '.join(map(str, empty))} of the batch" if empty else "")
        )
    sums = values.new_zeros(num_scenes, values.shape[1]).index_add(0, batch, values)
    return sums / counts.unsqueeze(1)

"""The losses against the formulas of the paper, written out number by number."""

from __future__ import annotations

import math

import pytest
import torch

from storage.errors import TrainingFailed
from workers.learning.losses import (
    balance_weights,
    cosine_loss,
    l1_loss,
    pool_scenes,
    scene_classification_loss,
    text_cross_entropy,
)


def test_cosine_loss_is_equation_2() -> None:
    generator = torch.Generator().manual_seed(1)
    f, a = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    expected = 0.0
    for x, y in zip(f.tolist(), a.tolist(), strict=True):
        dot = sum(p * q for p, q in zip(x, y, strict=True))
        expected += (1 - dot / math.sqrt(sum(p * p for p in x)) / math.sqrt(sum(q * q for q in y))) / 5
    assert float(cosine_loss(f, a)) == pytest.approx(expected, rel=1e-5)


def test_cosine_loss_knows_direction_alone() -> None:
    f = torch.tensor([[1.0, 2.0]])
    assert float(cosine_loss(f, 7 * f)) == pytest.approx(0, abs=1e-6)
    assert float(cosine_loss(f, -f)) == pytest.approx(2, abs=1e-6)


def test_text_cross_entropy_is_the_softmax_of_products_without_temperature() -> None:
    embeddings, text = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.eye(2)
    expected = -(math.log(math.exp(2) / (math.exp(2) + 1)) + math.log(1 / (1 + math.e))) / 2
    assert float(text_cross_entropy(embeddings, text, torch.tensor([0, 0]))) == pytest.approx(expected, rel=1e-6)


def test_balance_counts_points_classes_or_between() -> None:
    classes = torch.tensor([0, 0, 0, 0, 2])
    assert balance_weights(classes, 0).tolist() == pytest.approx([0.2] * 5)
    assert balance_weights(classes, 1).tolist() == pytest.approx([0.125] * 4 + [0.5])
    assert balance_weights(classes, 0.5).tolist() == pytest.approx([1 / 6] * 4 + [1 / 3])


def test_balanced_losses_are_means_of_the_means_of_classes() -> None:
    generator = torch.Generator().manual_seed(3)
    f, a, text = (torch.randn(6, 4, generator=generator) for _ in range(3))
    labels = torch.tensor([1, 1, 1, 1, 0, 2])
    groups = [[0, 1, 2, 3], [4], [5]]
    each = [float(cosine_loss(f[g], a[g])) for g in groups]
    assert float(cosine_loss(f, a, balance_weights(labels, 1))) == pytest.approx(sum(each) / 3, rel=1e-5)
    each = [float(text_cross_entropy(f[g], text, labels[g])) for g in groups]
    assert float(text_cross_entropy(f, text, labels, class_balance=1)) == pytest.approx(sum(each) / 3, rel=1e-5)


def test_l1_is_the_mean_of_absolute_differences_as_they_are() -> None:
    predicted, target = torch.tensor([[1.0, -2.0], [0.5, 4.0]]), torch.tensor([[3.0, -2.5], [0.5, 1.0]])
    assert float(l1_loss(predicted, target)) == pytest.approx((2 + 0.5 + 0 + 3) / 4)
    assert float(l1_loss(predicted, target, torch.tensor([0.75, 0.25]))) == pytest.approx(0.75 * 1.25 + 0.25 * 1.5)
    assert float(l1_loss(2 * target, target)) == pytest.approx((3 + 2.5 + 0.5 + 1) / 4)


def test_scene_classification_is_binary_cross_entropy_of_scenes_mean_logits() -> None:
    logits = torch.tensor([[1.0, -2.0], [3.0, 0.0], [-1.0, 0.5]], requires_grad=True)
    present = torch.tensor([[True, False], [False, True]])

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    # Scene 0 pools to (2, -1), scene 1 to (-1, 0.5).
    terms = [math.log(sigmoid(2)), math.log(1 - sigmoid(-1)), math.log(1 - sigmoid(-1)), math.log(sigmoid(0.5))]
    loss = scene_classification_loss(logits, torch.tensor([0, 0, 1]), present)
    assert float(loss.detach()) == pytest.approx(-sum(terms) / 4, rel=1e-6)
    (slopes,) = torch.autograd.grad(loss, logits)
    first = [(sigmoid(2) - 1) / 2 / 4, sigmoid(-1) / 2 / 4]
    assert slopes.flatten().tolist() == pytest.approx([*first, *first, sigmoid(-1) / 4, (sigmoid(0.5) - 1) / 4])


def test_a_scene_without_voxels_has_no_classification_loss() -> None:
    with pytest.raises(TrainingFailed, match="none of scene 0"):
        scene_classification_loss(torch.zeros(2, 3), torch.tensor([1, 1]), torch.ones(2, 3, dtype=torch.bool))


def test_pooling_is_each_scene_s_mean_and_refuses_a_scene_without_a_voxel() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 0.0], [-1.0, -6.0]])
    assert pool_scenes(values, torch.tensor([0, 0, 1]), 2).tolist() == [[2, 1], [-1, -6]]
    with pytest.raises(TrainingFailed):
        pool_scenes(values, torch.tensor([0, 0, 2]), 3)

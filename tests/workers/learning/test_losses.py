"""The losses against the formulas of the paper, written out number by number."""

from __future__ import annotations

import math

import pytest
import torch

from workers.learning.losses import balance_weights, cosine_loss, text_cross_entropy


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

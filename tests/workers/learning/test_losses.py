"""The losses against the formulas of the paper, written out number by number."""

from __future__ import annotations

import math

import pytest
import torch

from workers.learning.losses import cosine_loss, text_cross_entropy


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

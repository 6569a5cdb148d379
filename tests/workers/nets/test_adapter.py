"""The adapter against equation 1, written out."""

from __future__ import annotations

import torch

from storage.specs.parts import Adapter as AdapterSpec
from workers.nets.adapter import Adapter


def test_equation_1() -> None:
    adapter = Adapter(8, AdapterSpec(alpha=0.95))
    p = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    state = adapter.state_dict()
    first, second, bias = state["mlp.0.weight"], state["mlp.1.weight"], state["mlp.1.bias"]
    assert first.shape == (2, 8)
    for row, got in zip(p, adapter(p), strict=True):
        mlp = second @ (first @ row) + bias
        torch.testing.assert_close(got, 0.95 * mlp + 0.05 * row)


def test_the_paper_s_sizes_and_a_share_of_nothing() -> None:
    assert Adapter(768, AdapterSpec()).mlp[0].out_features == 192
    p = torch.randn(3, 8)
    torch.testing.assert_close(Adapter(8, AdapterSpec(alpha=0.0))(p), p)

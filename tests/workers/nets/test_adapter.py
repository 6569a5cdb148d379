"""The adapters against equation 1 and the definition of an encoder block, written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from storage.errors import SpecInvalid
from storage.specs.parts import Adapter as AdapterSpec
from workers.nets.adapter import Adapter, make_adapter
from workers.nets.transformer_adapter import TransformerAdapter


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


def test_a_spec_s_kind_is_the_adapter_s() -> None:
    assert type(make_adapter(64, AdapterSpec())) is Adapter
    assert type(make_adapter(64, AdapterSpec(kind="transformer"))) is TransformerAdapter


def drawn(dimension: int, spec: AdapterSpec, seed: int = 0) -> TransformerAdapter:
    """In float64, every parameter drawn, so that none of them is neutral."""
    generator = torch.Generator().manual_seed(seed)
    adapter = TransformerAdapter(dimension, spec).double()
    for value in adapter.parameters():
        nn.init.normal_(value, std=0.6, generator=generator)
    return adapter


def layer_norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    mean = sum(x.tolist()) / len(x)
    variance = sum((value - mean) ** 2 for value in x.tolist()) / len(x)
    return (x - mean) / math.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return torch.tensor([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.tolist()], dtype=torch.float64)


def transformer_of_one_point(p: Tensor, w: dict[str, Tensor], alpha: float) -> Tensor:
    """Token by token, from the definition."""
    hidden = linear(p, w, "embed")
    width = len(hidden) // 4
    tokens = [hidden[i * width : (i + 1) * width] for i in range(4)]
    mapped = [linear(layer_norm(t, w, "block.norm1"), w, "block.queries_keys_values") for t in tokens]
    after = []
    for i, token in enumerate(tokens):
        scores = [float(mapped[i][:width] @ other[width : 2 * width]) / math.sqrt(width) for other in mapped]
        total = sum(math.exp(score) for score in scores)
        seen = sum((math.exp(s) / total * m[2 * width :] for s, m in zip(scores, mapped, strict=True)), 0 * token)
        token = token + linear(seen, w, "block.attended")
        fed = gelu(linear(layer_norm(token, w, "block.norm2"), w, "block.feed1"))
        after.append(token + linear(fed, w, "block.feed2"))
    return alpha * linear(torch.cat(after), w, "back") + (1 - alpha) * p


@pytest.mark.parametrize("alpha", [0.95, 0.3, 0.0])
def test_the_transformer_is_its_definition_in_equation_1(alpha: float) -> None:
    adapter = drawn(48, AdapterSpec(kind="transformer", alpha=alpha))
    p = torch.randn(5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = adapter.state_dict()
    expected = torch.stack([transformer_of_one_point(row, weights, alpha) for row in p])
    torch.testing.assert_close(adapter(p), expected, rtol=1e-10, atol=1e-10)


def test_no_point_of_the_transformer_sees_another() -> None:
    adapter = drawn(32, AdapterSpec(kind="transformer"))
    p = torch.randn(6, 32, dtype=torch.float64)
    together = adapter(p)
    for i in range(6):
        torch.testing.assert_close(adapter(p[i : i + 1])[0], together[i], rtol=1e-10, atol=1e-10)
    assert adapter(p[:0]).shape == (0, 32)
    assert torch.equal(adapter.train()(p), adapter.eval()(p))


def test_an_untrained_transformer_is_two_linear_layers() -> None:
    torch.manual_seed(0)
    adapter = TransformerAdapter(64, AdapterSpec(kind="transformer"))
    p = torch.randn(4, 64)
    w = adapter.state_dict()
    inner = (p @ w["embed.weight"].T + w["embed.bias"]) @ w["back.weight"].T + w["back.bias"]
    torch.testing.assert_close(adapter(p), 0.95 * inner + 0.05 * p)


@pytest.mark.parametrize("dimension", [384, 512, 768])
def test_the_two_kinds_are_of_one_size(dimension: int) -> None:
    sizes = [
        sum(value.numel() for value in make_adapter(dimension, AdapterSpec(kind=kind)).parameters())
        for kind in ("mlp", "transformer")
    ]
    assert sizes[0] == 2 * dimension * (dimension // 4) + dimension
    assert 1 < sizes[1] / sizes[0] < 1.15


def test_the_transformer_learns_what_no_linear_map_can() -> None:
    """Labels by the sign of a product of two values, of which no linear map knows anything."""
    generator = torch.Generator().manual_seed(2)
    p = torch.randn(512, 32, generator=generator)
    labels = (p[:, 0] * p[:, 1] > 0).long()
    text = torch.eye(2, 32)
    right = {}
    for kind in ("mlp", "transformer"):
        torch.manual_seed(0)
        adapter = make_adapter(32, AdapterSpec(kind=kind, hidden=32))  # type: ignore[arg-type]
        optimiser = torch.optim.Adam(adapter.parameters(), 0.01)
        for _ in range(150):
            optimiser.zero_grad()
            nn.functional.cross_entropy(adapter(p) @ text.T, labels).backward()
            optimiser.step()
        right[kind] = float(((adapter(p) @ text.T).argmax(1) == labels).float().mean())
        assert all(value.grad is not None and bool(value.grad.any()) for value in adapter.parameters())
    assert right["mlp"] < 0.75
    assert right["transformer"] > 0.9


@pytest.mark.parametrize(("dimension", "hidden"), [(384, 50), (384, 4), (40, None), (12, None)])
def test_a_width_that_cannot_be_cut_into_tokens_is_refused(dimension: int, hidden: int | None) -> None:
    with pytest.raises(SpecInvalid, match=r"multiple of 4 from 8 on; set `adapter\.hidden`"):
        make_adapter(dimension, AdapterSpec(kind="transformer", hidden=hidden))


def test_a_transformer_comes_back_from_its_state() -> None:
    spec = AdapterSpec(kind="transformer")
    trained, fresh = drawn(32, spec).float(), make_adapter(32, spec)
    fresh.load_state_dict(trained.state_dict())
    p = torch.randn(3, 32)
    assert torch.equal(fresh(p), trained(p))

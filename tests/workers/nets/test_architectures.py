"""The three MinkUNets: names, shapes, sizes, and that every parameter is used."""

from __future__ import annotations

import math

import pytest
import torch

from tests.oracles import minkowski_names
from workers.nets.minkunet import Arch, MinkUNet

ARCHES: tuple[Arch, ...] = ("MinkUNet14A", "MinkUNet18A", "MinkUNet34A")


@pytest.mark.parametrize("arch", ARCHES)
def test_names_and_shapes_are_minkowski_engines_in_order(arch: Arch) -> None:
    net = MinkUNet(3, 384, arch=arch)
    expected = minkowski_names.parameters(arch, 3, 384)
    assert [(name, tuple(value.shape)) for name, value in net.named_parameters()] == list(expected.items())
    whole = minkowski_names.tensors(arch, 3, 384)
    assert [(name, tuple(value.shape)) for name, value in net.state_dict().items()] == list(whole.items())


@pytest.mark.parametrize(
    ("arch", "blocks"),
    [
        ("MinkUNet14A", [(32, 32), (32, 64), (64, 128), (128, 256), (256, 128), (192, 128), (128, 96), (128, 96)]),
        ("MinkUNet18A", [(32, 32), (32, 64), (64, 128), (128, 256), (256, 128), (192, 128), (128, 96), (128, 96)]),
        ("MinkUNet34A", [(32, 32), (32, 64), (64, 128), (128, 256), (384, 256), (192, 128), (96, 64), (96, 64)]),
    ],
)
def test_the_number_of_parameters(arch: Arch, blocks: list[tuple[int, int]]) -> None:
    """Counted from the widths; `blocks` are each level's first block's channels in and out."""
    counts = {"MinkUNet14A": [1] * 8, "MinkUNet18A": [2] * 8, "MinkUNet34A": [2, 3, 4, 6, 2, 2, 2, 2]}[arch]
    total = 125 * 3 * 32 + 64
    for (wide_in, wide), count in zip(blocks, counts, strict=True):
        total += 27 * (wide_in * wide + wide * wide) + 4 * wide + (count - 1) * (54 * wide * wide + 4 * wide)
        total += (wide_in * wide + 2 * wide) if wide_in != wide else 0
    for wide in (32, 32, 64, 128):
        total += 8 * wide * wide + 2 * wide
    ups = [256, *(wide for _, wide in blocks[4:])]
    total += sum(8 * ups[i] * ups[i + 1] + 2 * ups[i + 1] for i in range(4))
    total += ups[-1] * 768 + 768
    assert sum(value.numel() for value in MinkUNet(3, 768, arch=arch).parameters()) == total
    assert total == sum(math.prod(shape) for shape in minkowski_names.parameters(arch, 3, 768).values())


@pytest.mark.parametrize("arch", ARCHES)
def test_every_parameter_has_a_gradient(arch: Arch) -> None:
    generator = torch.Generator().manual_seed(0)
    spatial = torch.randint(0, 40, (300, 3), generator=generator)
    coordinates = torch.unique(torch.cat([torch.randint(0, 2, (300, 1), generator=generator), spatial], 1), dim=0)
    torch.manual_seed(0)
    net = MinkUNet(3, 7, arch=arch).train()
    embeddings = net(coordinates, torch.randn(len(coordinates), 3, generator=generator))
    assert embeddings.shape == (len(coordinates), 7)
    assert bool(embeddings.isfinite().all())
    (embeddings * torch.randn(embeddings.shape, generator=generator)).sum().backward()
    still = [name for name, value in net.named_parameters() if value.grad is None or not bool(value.grad.any())]
    assert not still

from __future__ import annotations

import pytest
import torch

from workers.sparse.kernel_map import CHUNK, KernelMap


def drawn_map(num: int, centre: int | None, seed: int = 0) -> KernelMap:
    """Five offsets, of which one is nearly full and one is empty."""
    generator = torch.Generator().manual_seed(seed)
    shares = [0.3, 0.95, 1.0, 0.0, 0.02]
    targets = [(torch.rand(num, generator=generator) < share).nonzero().squeeze(1) for share in shares]
    sources = [torch.randperm(num, generator=generator)[: len(rows)] for rows in targets]
    return KernelMap(tuple(sources), tuple(targets), num, num, centre)


@pytest.mark.parametrize("num", [1, 63, 64, 130, 5000, 8193, 40_000])
@pytest.mark.parametrize("centre", [None, 2])
def test_tiles_hold_every_pair_once(num: int, centre: int | None) -> None:
    kernel_map = drawn_map(num, centre)
    got: set[tuple[int, int, int]] = set()
    rows = 0
    for tile in kernel_map.tiles:
        assert tile.start == rows < tile.stop
        rows = tile.stop
        for k, sources, targets in tile.chunks:
            assert 0 < len(sources) == len(targets) <= CHUNK
            assert 0 <= int(targets.min()) <= int(targets.max()) < tile.stop - tile.start
            pairs = {
                (k, source, target + tile.start)
                for source, target in zip(sources.tolist(), targets.tolist(), strict=True)
            }
            assert not pairs & got
            got |= pairs
    assert rows == num
    expected = {
        (k, source, target)
        for k in range(5)
        if k != centre
        for source, target in zip(kernel_map.sources[k].tolist(), kernel_map.targets[k].tolist(), strict=True)
    }
    assert got == expected


def test_large_maps_make_an_even_number_of_tiles() -> None:
    assert len(drawn_map(1, None).tiles) == 1
    assert {len(drawn_map(num, None).tiles) % 2 for num in (128, 5000, 20_000, 40_000)} == {0}


def test_chunks_of_an_offset_are_its_pairs_in_order() -> None:
    kernel_map = drawn_map(10_000, None)
    chunks = kernel_map.chunks(1)
    assert len(chunks) > 1
    assert torch.equal(torch.cat([sources for sources, _ in chunks]), kernel_map.sources[1])
    assert torch.equal(torch.cat([targets for _, targets in chunks]), kernel_map.targets[1])


def test_the_transposed_map_swaps_both_ends() -> None:
    kernel_map = drawn_map(300, 2)
    turned = kernel_map.transposed()
    assert turned.transposed().sources == kernel_map.sources
    assert (turned.sources, turned.targets) == (kernel_map.targets, kernel_map.sources)
    assert turned.num_pairs == kernel_map.num_pairs
    assert turned is kernel_map.transposed()

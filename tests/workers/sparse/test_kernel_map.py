from __future__ import annotations

import pytest
import torch

from workers.sparse.kernel_map import KernelMap


def drawn_map(num: int, seed: int = 0) -> KernelMap:
    """Five offsets, of which one is nearly full and one is empty."""
    generator = torch.Generator().manual_seed(seed)
    shares = [0.3, 0.95, 1.0, 0.0, 0.02]
    targets = [(torch.rand(num, generator=generator) < share).nonzero().squeeze(1) for share in shares]
    sources = [torch.randperm(num, generator=generator)[: len(rows)] for rows in targets]
    return KernelMap(tuple(sources), tuple(targets), num, num)


@pytest.mark.parametrize("num", [1, 63, 64, 130, 5000, 16385, 40_000])
def test_tiles_hold_every_pair_once(num: int) -> None:
    kernel_map = drawn_map(num)
    got: list[tuple[int, int, int]] = []
    rows = 0
    for tile in kernel_map.tiles:
        assert tile.start == rows < tile.stop
        rows = tile.stop
        true_pairs = set(range(len(tile.sources))) - set(tile.padding.tolist())
        for k, first, last in tile.segments:
            here = [i for i in range(first, last) if i in true_pairs]
            assert here, "an offset without a pair has no segment"
            got += [(k, int(tile.sources[i]), int(tile.targets[i])) for i in here]
    assert rows == num
    expected = [
        (k, source, target)
        for k in range(5)
        for source, target in zip(kernel_map.sources[k].tolist(), kernel_map.targets[k].tolist(), strict=True)
    ]
    assert sorted(got) == sorted(expected)


@pytest.mark.parametrize("num", [1, 130, 40_000])
def test_bags_list_the_pairs_of_each_row_in_the_order_of_their_offsets(num: int) -> None:
    kernel_map = drawn_map(num)
    for tile in kernel_map.tiles:
        offset_of = torch.zeros(len(tile.sources), dtype=torch.int64)
        for k, first, last in tile.segments:
            offset_of[first:last] = k
        ends = [*tile.bags.tolist()[1:], len(tile.by_target)]
        for row, (begin, end) in enumerate(zip(tile.bags.tolist(), ends, strict=True)):
            pairs = tile.by_target[begin:end]
            assert (tile.targets[pairs] == tile.start + row).all()
            assert offset_of[pairs].tolist() == sorted(set(offset_of[pairs].tolist()))


def test_segments_have_few_different_lengths() -> None:
    lengths = {
        last - first for num in range(100, 6000, 37) for t in drawn_map(num).tiles for _, first, last in t.segments
    }
    assert len(lengths) <= 20


def test_the_transposed_map_swaps_both_ends() -> None:
    kernel_map = drawn_map(300)
    turned = kernel_map.transposed()
    assert turned.transposed().sources == kernel_map.sources
    assert (turned.sources, turned.targets) == (kernel_map.targets, kernel_map.sources)
    assert turned.num_pairs == kernel_map.num_pairs
    assert turned is kernel_map.transposed()

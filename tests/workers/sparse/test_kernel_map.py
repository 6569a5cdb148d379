from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from workers.sparse.kernel_map import KernelMap


def drawn_map(num: int, seed: int = 0) -> KernelMap:
    """Five offsets, of which one is full, one is nearly so and one is empty."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.full((5, num), -1, dtype=torch.int32)
    for k, share in enumerate([0.3, 0.95, 1.0, 0.0, 0.02]):
        rows = (torch.rand(num, generator=generator) < share).nonzero().squeeze(1)
        table[k, rows] = torch.randperm(num, generator=generator)[: len(rows)].int()
    return KernelMap(table, num)


def pairs_of(kernel_map: KernelMap) -> list[tuple[int, int, int]]:
    """(offset, source, target) of every pair."""
    rows = kernel_map.table.tolist()
    return [(k, source, target) for k, row in enumerate(rows) for target, source in enumerate(row) if source >= 0]


@pytest.mark.parametrize("padding", [False, True], ids=["bare", "padded"])
@pytest.mark.parametrize("num", [1, 63, 64, 130, 2049, 5000, 16385, 40_000])
def test_tiles_hold_every_pair_once(num: int, padding: bool) -> None:
    kernel_map = drawn_map(num)
    got: list[tuple[int, int, int]] = []
    rows = 0
    for tile in kernel_map.padded_tiles if padding else kernel_map.tiles:
        assert tile.start == rows < tile.stop
        rows = tile.stop
        assert tile.lengths == [segment.length for segment in tile.segments]
        for segment in tile.segments:
            true, sources, targets = segment.num_true, segment.sources.tolist(), segment.targets.tolist()
            assert 0 < true <= len(sources) == len(targets), "an offset without a pair has no segment"
            assert padding or true == len(sources)
            assert not any(sources[true:])
            assert not any(targets[true:])
            got += [(segment.offset, *pair) for pair in zip(sources[:true], targets[:true], strict=True)]
    assert rows == num
    assert sorted(got) == sorted(pairs_of(kernel_map))


@pytest.mark.parametrize("num", [1, 130, 40_000])
def test_bags_list_the_pairs_of_each_row_in_the_order_of_their_offsets(num: int) -> None:
    kernel_map = drawn_map(num)
    for tile in (*kernel_map.tiles, *kernel_map.padded_tiles):
        offset_of: Tensor = torch.cat([torch.full((s.length,), s.offset) for s in tile.segments])
        target_of = torch.cat([s.targets for s in tile.segments])
        ends = [*tile.bags.tolist()[1:], len(tile.by_target)]
        assert tile.by_target.unique().numel() == sum(s.num_true for s in tile.segments)
        for row, (begin, end) in enumerate(zip(tile.bags.tolist(), ends, strict=True)):
            pairs = tile.by_target[begin:end]
            assert (target_of[pairs] == tile.start + row).all()
            assert offset_of[pairs].tolist() == sorted(set(offset_of[pairs].tolist()))


def test_padded_segments_have_few_different_lengths() -> None:
    maps = [drawn_map(num) for num in range(100, 6000, 37)]
    assert len({s.length for one in maps for tile in one.padded_tiles for s in tile.segments}) <= 20


def test_the_transposed_map_swaps_both_ends() -> None:
    kernel_map = drawn_map(300)
    turned = kernel_map.transposed()
    assert sorted(pairs_of(turned)) == sorted((k, target, source) for k, source, target in pairs_of(kernel_map))
    assert torch.equal(turned.transposed().table, kernel_map.table)
    assert turned.num_pairs == kernel_map.num_pairs == len(pairs_of(kernel_map))
    assert turned is kernel_map.transposed()


def test_only_rows_that_meet_themselves_are_taken_in_one_piece() -> None:
    num = 9000
    drawn = drawn_map(num).table
    table = torch.stack([drawn[0], torch.arange(num, dtype=torch.int32), drawn[2]])
    rows = torch.randn(num, 3)
    for centred, mirrored in ((KernelMap(table, num, mirrored=True), True), (KernelMap(table, num), False)):
        for tile in centred.tiles:
            for segment in tile.segments:
                assert (segment.same is not None) == (mirrored and segment.offset == 1)
                assert torch.equal(segment.sources_of(rows), rows[segment.sources.long()])
                assert torch.equal(segment.targets_of(rows), rows[segment.targets.long()])


def test_pairs_lie_offset_after_offset() -> None:
    kernel_map = drawn_map(130)
    sources, targets, firsts = (tensor.tolist() for tensor in kernel_map.pairs)
    offsets = [k for k in range(5) for _ in range(firsts[k], firsts[k + 1])]
    assert list(zip(offsets, sources, targets, strict=True)) == pairs_of(kernel_map)


def test_rows_of_one_pattern_lie_side_by_side() -> None:
    kernel_map = drawn_map(130)
    table, order = kernel_map.by_pattern
    assert sorted(order.tolist()) == list(range(130))
    assert torch.equal(table, kernel_map.table[:, order.long()])
    patterns = [tuple(column) for column in (table >= 0).t().tolist()]
    changes = sum(one != other for one, other in pairwise(patterns))
    assert changes == len(set(patterns)) - 1


def test_more_offsets_than_bits_are_left_in_their_order() -> None:
    table = torch.zeros(125, 4, dtype=torch.int32)
    same, order = KernelMap(table, 1).by_pattern
    assert same is table
    assert order.tolist() == [0, 1, 2, 3]

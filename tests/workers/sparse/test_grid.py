from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from workers.sparse import grid as grids
from workers.sparse.grid import SortedGrid, grid_of
from workers.sparse.kernel_map import KernelMap

Cell = tuple[int, int, int, int]

far = st.integers(-60_000, 60_000)
cells = st.tuples(st.integers(0, 3), *[st.integers(-6, 5)] * 3) | st.tuples(st.integers(0, 4095), far, far, far)
clouds = st.lists(cells, min_size=1, max_size=80, unique=True)


def at(grid: SortedGrid) -> list[Cell]:
    return [tuple(row) for row in grid.coordinates().tolist()]


@given(clouds)
@settings(max_examples=100, deadline=None)
def test_a_grid_keeps_every_coordinate_and_remembers_the_order(cloud: list[Cell]) -> None:
    grid = grid_of(torch.tensor(cloud))
    order = range(len(cloud)) if grid.order is None else grid.order.tolist()
    assert at(grid) == [cloud[row] for row in order] == sorted(cloud)
    assert (grid.num_voxels, grid.tensor_stride) == (len(cloud), 1)


def offset(k: int, size: int) -> tuple[int, int, int]:
    """x fastest; odd sizes centred."""
    first = -(size // 2) if size % 2 else 0
    return k % size + first, k // size % size + first, k // size // size + first


@given(clouds, st.sampled_from([1, 3, 5]), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_neighbours_are_those_of_a_dictionary(cloud: list[Cell], size: int, levels: int) -> None:
    grid = grid_of(torch.tensor(cloud))
    for _ in range(levels):
        grid = grid.coarser()
    row_of = {cell: row for row, cell in enumerate(at(grid))}
    kernel_map = grid.neighbour_map(size)
    for k in range(size**3):
        step = [delta * grid.tensor_stride for delta in offset(k, size)]
        pairs = [
            (row_of[b, x + step[0], y + step[1], z + step[2]], row)
            for (b, x, y, z), row in row_of.items()
            if (b, x + step[0], y + step[1], z + step[2]) in row_of
        ]
        got = [(source, target) for target, source in enumerate(kernel_map.table[k].tolist()) if source >= 0]
        assert got == sorted(pairs, key=lambda pair: pair[1])
    if size > 1:
        written_out = KernelMap(kernel_map.table, kernel_map.num_sources).transposed()
        assert torch.equal(kernel_map.transposed().table, written_out.table)


@given(clouds)
@settings(max_examples=60, deadline=None)
def test_coarser_grids_are_floors_and_every_voxel_has_one_parent(cloud: list[Cell]) -> None:
    grid = grid_of(torch.tensor(cloud))
    for stride in (1, 2, 4, 8):
        fine, coarse, down = at(grid), grid.coarser(), grid.down_map()
        step = 2 * stride
        parents = [(b, x // step * step, y // step * step, z // step * step) for b, x, y, z in fine]
        assert at(coarse) == sorted(set(parents))
        assert coarse is grid.coarser()
        met = {}
        for k, sources in enumerate(down.table.tolist()):
            met |= {source: (k, at(coarse)[target]) for target, source in enumerate(sources) if source >= 0}
        for row, cell in enumerate(fine):
            inside = [(cell[axis] - parents[row][axis]) // stride for axis in (1, 2, 3)]
            assert met[row] == (inside[0] + 2 * inside[1] + 4 * inside[2], parents[row])
        grid = coarse


def test_int32_coordinates_are_as_good() -> None:
    cloud = torch.tensor([[0, 5, -3, 2], [1, 0, 0, 0], [0, -60_000, 1, 1]])
    assert torch.equal(grid_of(cloud).keys, grid_of(cloud.int()).keys)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("value", [70_000, -70_000, 2**40])
def test_coordinates_out_of_range_are_refused_with_the_range(axis: int, value: int) -> None:
    cloud = torch.zeros(2, 4, dtype=torch.int64)
    cloud[1, axis] = value
    with pytest.raises(ValueError, match=r"got coordinates .*expected .*move the scene"):
        grid_of(cloud)


@given(clouds, st.sampled_from([1, 3, 5]), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_search_at_once_finds_the_same_neighbours(cloud: list[Cell], size: int, levels: int) -> None:
    grid = grid_of(torch.tensor(cloud))
    for _ in range(levels):
        grid = grid.coarser()
    found = grids._searched_at_once(grid.keys, size, grid.tensor_stride)
    assert torch.equal(found, grid.neighbour_map(size).table)

"""What every sparse engine must do; a backend's test module subclasses `SparseEngineConformance` and names its engine.

Values and gradients are held against torch's dense convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from tests.oracles import dense_convolution
from workers.sparse.engine import Engine, Grid, SparseTensor

cells = st.tuples(st.integers(0, 2), *[st.integers(-7, 6)] * 3)
clouds = st.lists(cells, min_size=1, max_size=60, unique=True)
channels = st.integers(1, 5)
# Every engine's class inherits the same property: that an example found for one is tried on the other is welcome.
properties = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def random_cloud(num: int, reach: int, seed: int, batch: int = 2) -> Tensor:
    """(V,4) distinct coordinates, V near num, in random order, negative ones among them."""
    generator = torch.Generator().manual_seed(seed)
    spatial = torch.randint(-reach, reach, (num, 3), generator=generator)
    items = torch.randint(0, batch, (num, 1), generator=generator)
    distinct = torch.unique(torch.cat([items, spatial], dim=1), dim=0)
    return distinct[torch.randperm(len(distinct), generator=generator)]


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that want a gradient."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def lexicographic(coordinates: Tensor) -> Tensor:
    """The rows' order by batch, x, y, z."""
    order = list(range(len(coordinates)))
    order.sort(key=lambda row: coordinates[row].tolist())
    return torch.tensor(order)


def agree(run: Callable[..., Tensor], oracle: Callable[..., Tensor], *leaves: Tensor, tolerance: float) -> None:
    """Asserts equal values and equal gradients in every leaf, within tolerance times the largest magnitude."""
    got, expected = run(*leaves), oracle(*leaves)
    assert got.shape == expected.shape
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=expected.dtype)
    pairs = [(got, expected)]
    pairs += zip(
        torch.autograd.grad(got, leaves, direction), torch.autograd.grad(expected, leaves, direction), strict=True
    )
    for ours, theirs in pairs:
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1e-3)


class SparseEngineConformance:
    """Inherit, and return the engine; `tolerance` is relative to the largest value."""

    tolerance: ClassVar = {torch.float64: 1e-12, torch.float32: 2e-5}

    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError

    def places(self, grid: Grid, coordinates: Tensor) -> Tensor:
        """The grid's row of each of its coordinates, given sorted; engines that keep another order override."""
        assert grid.num_voxels == len(coordinates)
        return torch.arange(len(coordinates))

    def rows_at(self, x: SparseTensor, coordinates: Tensor) -> Tensor:
        """Features of x in the order of its own coordinates, given sorted."""
        return x.features[self.places(x.grid, coordinates)]

    @given(clouds, channels, channels, st.sampled_from([1, 3, 5]))
    @properties
    def test_centred_convolution_is_the_dense_one(
        self, cloud: list[tuple[int, ...]], c_in: int, c_out: int, size: int
    ) -> None:
        self.check_centred(torch.tensor(cloud), c_in, c_out, size, torch.float64)

    @given(clouds, channels, channels)
    @properties
    def test_strided_convolution_is_the_dense_one(self, cloud: list[tuple[int, ...]], c_in: int, c_out: int) -> None:
        self.check_strided(torch.tensor(cloud), c_in, c_out, torch.float64)

    @given(clouds, channels, channels)
    @properties
    def test_transposed_convolution_is_the_dense_one(self, cloud: list[tuple[int, ...]], c_in: int, c_out: int) -> None:
        self.check_transposed(torch.tensor(cloud), c_in, c_out, torch.float64)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("reach", [5, 14], ids=["crowded", "sparse"])
    def test_larger_clouds_and_wider_layers(self, dtype: torch.dtype, reach: int) -> None:
        cloud = random_cloud(1200, reach, seed=reach)
        self.check_centred(cloud, 24, 40, 3, dtype)
        self.check_centred(cloud, 3, 32, 5, dtype)
        self.check_strided(cloud, 24, 40, dtype)
        self.check_transposed(cloud, 40, 24, dtype)

    def test_a_cloud_too_large_for_one_piece_of_work(self) -> None:
        cloud = random_cloud(30_000, 13, seed=2)
        assert len(cloud) > 16_000
        self.check_centred(cloud, 3, 2, 3, torch.float32)
        self.check_strided(cloud, 3, 2, torch.float32)
        self.check_transposed(cloud, 2, 3, torch.float32)

    def test_a_single_voxel_meets_only_the_centre(self) -> None:
        cloud = torch.tensor([[0, -3, 5, 7]])
        self.check_centred(cloud, 4, 6, 3, torch.float64)
        self.check_centred(cloud, 4, 6, 5, torch.float64)
        self.check_strided(cloud, 4, 6, torch.float64)
        self.check_transposed(cloud, 4, 6, torch.float64)

    def test_voxels_without_neighbours_meet_only_the_centre(self) -> None:
        cloud = torch.cartesian_prod(torch.arange(2), *[torch.arange(-6, 7, 4)] * 3)
        self.check_centred(cloud, 4, 6, 3, torch.float64)
        self.check_strided(cloud, 4, 6, torch.float64)

    def test_batch_items_do_not_touch(self) -> None:
        one, two = random_cloud(200, 5, seed=1, batch=1), random_cloud(150, 5, seed=2, batch=1)
        both = torch.cat([one, two + torch.tensor([1, 0, 0, 0])])
        kernel, features = draw(1, 27, 4, 4), draw(2, len(both), 4)
        together = self.centred(both, features, kernel, 3)
        apart = [self.centred(one, features[: len(one)], kernel, 3), self.centred(two, features[len(one) :], kernel, 3)]
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-12, atol=1e-12)

    def test_convolutions_of_a_coarser_grid(self) -> None:
        engine, cloud = self.engine(), random_cloud(600, 9, seed=5)
        sorted_cloud = cloud[lexicographic(cloud)]
        coarse = dense_convolution.coarse_coordinates(sorted_cloud)
        coarser = dense_convolution.coarse_coordinates(coarse, 2)
        down, centred, down_again, up = draw(1, 8, 3, 4), draw(2, 27, 4, 5), draw(3, 8, 5, 6), draw(4, 8, 6, 2)

        def run(features: Tensor, *kernels: Tensor) -> Tensor:
            x = engine.convolution(engine.tensor(cloud, features), kernels[0], 2, 2)
            y = engine.convolution(x, kernels[1], 3)
            assert y.grid is x.grid
            z = engine.convolution(y, kernels[2], 2, 2)
            assert (x.grid.tensor_stride, z.grid.tensor_stride) == (2, 4)
            assert z.grid.num_voxels == len(coarser)
            back = engine.transposed_convolution(z, kernels[3], 2, 2, y.grid)
            assert back.grid is x.grid
            return self.rows_at(back, coarse)

        def oracle(features: Tensor, *kernels: Tensor) -> Tensor:
            x = dense_convolution.strided_convolution(cloud, features, kernels[0])
            y = dense_convolution.convolution(coarse, x, kernels[1], 3, 2)
            z = dense_convolution.strided_convolution(coarse, y, kernels[2], 2)
            return dense_convolution.transposed_convolution(coarse, z, kernels[3], 2)

        agree(run, oracle, draw(0, len(cloud), 3), down, centred, down_again, up, tolerance=1e-11)

    def same(self, first: Tensor, second: Tensor) -> bool:
        """Whether two runs of one computation agree: bit for bit, unless an engine's own threads race."""
        return torch.equal(first, second)

    def test_results_repeat(self) -> None:
        cloud, features, kernel = random_cloud(3000, 9, 3), draw(1, 3000, 16, dtype=torch.float32), draw(2, 27, 16, 16)
        features = features[: len(cloud)].detach().requires_grad_()
        kernel = kernel.detach().float().requires_grad_()
        runs = []
        for _ in range(2):
            y = self.centred(cloud, features, kernel, 3)
            runs.append([y, *torch.autograd.grad(y.square().sum(), [features, kernel])])
        assert all(self.same(first, second) for first, second in zip(*runs, strict=True))

    def test_gradients_where_only_one_is_wanted(self) -> None:
        cloud = random_cloud(100, 4, seed=8)
        features, kernel = draw(1, len(cloud), 3), draw(2, 27, 3, 2)
        both = torch.autograd.grad(self.centred(cloud, features, kernel, 3).sum(), [features, kernel])
        (only,) = torch.autograd.grad(self.centred(cloud, features.detach(), kernel, 3).sum(), [kernel])
        assert self.same(only, both[1])
        (only,) = torch.autograd.grad(self.centred(cloud, features, kernel.detach(), 3).sum(), [features])
        assert self.same(only, both[0])

    @pytest.mark.parametrize(
        ("coordinates", "message"),
        [
            (torch.zeros(0, 4, dtype=torch.int32), "no voxels"),
            (torch.zeros(2, 4, dtype=torch.int32), "duplicate"),
            (torch.zeros(2, 3, dtype=torch.int32), "expected"),
            (torch.zeros(1, 4), "integers"),
            (torch.tensor([[0, 70_000, 0, 0], [0, 0, 0, 0]]), "expected"),
            (torch.tensor([[-1, 0, 0, 0], [0, 0, 0, 0]]), "expected"),
        ],
    )
    def test_bad_coordinates_are_refused(self, coordinates: Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.engine().tensor(coordinates, torch.zeros(len(coordinates), 3))

    def test_misfits_are_refused(self) -> None:
        engine, cloud = self.engine(), random_cloud(50, 4, seed=1)
        with pytest.raises(ValueError, match="features"):
            engine.tensor(cloud, torch.zeros(len(cloud) + 1, 3))
        x = engine.tensor(cloud, torch.zeros(len(cloud), 3))
        with pytest.raises(ValueError, match="kernel"):
            engine.convolution(x, torch.zeros(27, 4, 2), 3)
        with pytest.raises(ValueError, match="stride"):
            engine.convolution(x, torch.zeros(8, 3, 2), 2)
        coarse = engine.convolution(x, torch.zeros(8, 3, 2), 2, 2)
        with pytest.raises(ValueError, match="stride"):
            engine.rows(coarse)
        with pytest.raises(ValueError, match="grid"):
            engine.transposed_convolution(coarse, torch.zeros(8, 2, 2), 2, 2, coarse.grid)

    def centred(self, cloud: Tensor, features: Tensor, kernel: Tensor, size: int) -> Tensor:
        """The engine's stride-1 convolution, rows in the order given."""
        engine = self.engine()
        return engine.rows(engine.convolution(engine.tensor(cloud, features), kernel, size))

    def check_centred(self, cloud: Tensor, c_in: int, c_out: int, size: int, dtype: torch.dtype) -> None:
        """Values and gradients of a stride-1 convolution."""
        volume = size**3
        kernel = draw(1, *((c_in, c_out) if size == 1 else (volume, c_in, c_out)), dtype=dtype)
        agree(
            lambda x, w: self.centred(cloud, x, w, size),
            lambda x, w: dense_convolution.convolution(cloud, x, w.reshape(volume, c_in, c_out), size),
            draw(2, len(cloud), c_in, dtype=dtype),
            kernel,
            tolerance=self.tolerance[dtype],
        )

    def check_strided(self, cloud: Tensor, c_in: int, c_out: int, dtype: torch.dtype) -> None:
        """Values and gradients of a stride-2 convolution."""
        engine, coarse = self.engine(), dense_convolution.coarse_coordinates(cloud)
        agree(
            lambda x, w: self.rows_at(engine.convolution(engine.tensor(cloud, x), w, 2, 2), coarse),
            lambda x, w: dense_convolution.strided_convolution(cloud, x, w),
            draw(2, len(cloud), c_in, dtype=dtype),
            draw(1, 8, c_in, c_out, dtype=dtype),
            tolerance=self.tolerance[dtype],
        )

    def check_transposed(self, cloud: Tensor, c_in: int, c_out: int, dtype: torch.dtype) -> None:
        """Values and gradients of a transposed convolution back onto the given voxels."""
        engine, coarse = self.engine(), dense_convolution.coarse_coordinates(cloud)
        fine = engine.tensor(cloud, torch.zeros(len(cloud), 1, dtype=dtype))
        grid = engine.convolution(fine, torch.zeros(8, 1, 1, dtype=dtype), 2, 2).grid
        rows = torch.argsort(self.places(grid, coarse))
        agree(
            lambda x, w: engine.rows(engine.transposed_convolution(SparseTensor(x[rows], grid), w, 2, 2, fine.grid)),
            lambda x, w: dense_convolution.transposed_convolution(cloud, x, w),
            draw(2, len(coarse), c_in, dtype=dtype),
            draw(1, 8, c_in, c_out, dtype=dtype),
            tolerance=self.tolerance[dtype],
        )

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.oracles import dense_convolution
from tests.oracles.minkowski_names import BLOCKS
from workers.nets.minkunet import Arch, MinkUNet


def tiny_cloud(num: int = 500, reach: int = 12, batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spatial = torch.randint(-reach, reach, (num, 3), generator=generator)
    spatial[:, 2] //= 4
    distinct = torch.unique(torch.cat([torch.randint(0, batch, (num, 1), generator=generator), spatial], 1), dim=0)
    return distinct[torch.randperm(len(distinct), generator=generator)]


def network(out_channels: int = 5, seed: int = 0, arch: Arch = "MinkUNet18A", *, head_bias: bool = True) -> MinkUNet:
    """In float64, its norms' parameters and statistics drawn, so that none of them is neutral."""
    torch.manual_seed(seed)
    net = MinkUNet(3, out_channels, arch, head_bias=head_bias).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net


class DenseMinkUNet:
    """The network written out over dense convolutions and the definition of batch norm, from a state dict."""

    def __init__(self, arch: Arch, weights: dict[str, Tensor], coordinates: Tensor, training: bool) -> None:
        self.arch, self.w, self.training = arch, weights, training
        self.levels = [coordinates]
        for level in range(4):
            self.levels.append(dense_convolution.coarse_coordinates(self.levels[-1], 2**level))

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = self.w[f"{name}.bn.running_mean"], self.w[f"{name}.bn.running_var"]
        if self.training:
            mean, var = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
        return (x - mean) / (var + 1e-5).sqrt() * self.w[f"{name}.bn.weight"] + self.w[f"{name}.bn.bias"]

    def conv(self, name: str, x: Tensor, level: int, size: int = 3) -> Tensor:
        return dense_convolution.convolution(self.levels[level], x, self.w[f"{name}.kernel"], size, 2**level)

    def residual(self, name: str, x: Tensor, level: int) -> Tensor:
        y = self.norm(f"{name}.norm1", self.conv(f"{name}.conv1", x, level)).clamp(min=0)
        y = self.norm(f"{name}.norm2", self.conv(f"{name}.conv2", y, level))
        if f"{name}.downsample.0.kernel" in self.w:
            x = self.norm(f"{name}.downsample.1", x @ self.w[f"{name}.downsample.0.kernel"])
        return (x + y).clamp(min=0)

    def block(self, name: str, x: Tensor, level: int) -> Tensor:
        for i in range(BLOCKS[self.arch][int(name.removeprefix("block")) - 1]):
            x = self.residual(f"{name}.{i}", x, level)
        return x

    def down(self, level: int, conv: str, x: Tensor) -> Tensor:
        y = dense_convolution.strided_convolution(self.levels[level], x, self.w[f"{conv}.kernel"], 2**level)
        return self.block(f"block{level + 1}", self.norm(f"bn{level + 1}", y).clamp(min=0), level + 1)

    def up(self, level: int, conv: str, norm: str, block: str, x: Tensor, skip: Tensor) -> Tensor:
        y = dense_convolution.transposed_convolution(self.levels[level], x, self.w[f"{conv}.kernel"], 2**level)
        return self.block(block, torch.cat([self.norm(norm, y).clamp(min=0), skip], 1), level)

    def __call__(self, features: Tensor) -> Tensor:
        p1 = self.norm("bn0", self.conv("conv0p1s1", features, 0, 5)).clamp(min=0)
        p2 = self.down(0, "conv1p1s2", p1)
        p4 = self.down(1, "conv2p2s2", p2)
        p8 = self.down(2, "conv3p4s2", p4)
        x = self.down(3, "conv4p8s2", p8)
        x = self.up(3, "convtr4p16s2", "bntr4", "block5", x, p8)
        x = self.up(2, "convtr5p8s2", "bntr5", "block6", x, p4)
        x = self.up(1, "convtr6p4s2", "bntr6", "block7", x, p2)
        x = self.up(0, "convtr7p2s2", "bntr7", "block8", x, p1)
        return x @ self.w["final.kernel"] + self.w.get("final.bias", 0)


@pytest.mark.parametrize(
    ("arch", "training", "reach", "head_bias"),
    [
        ("MinkUNet18A", True, 12, True),
        ("MinkUNet18A", False, 12, True),
        ("MinkUNet14A", True, 7, True),
        ("MinkUNet14A", True, 7, False),
        ("MinkUNet34A", False, 7, True),
    ],
)
def test_agrees_with_the_network_of_dense_convolutions(arch: Arch, training: bool, reach: int, head_bias: bool) -> None:
    cloud, net = tiny_cloud(reach=reach), network(arch=arch, head_bias=head_bias).train(training)
    assert ("final.bias" in net.state_dict()) == head_bias
    features = torch.randn(len(cloud), 3, dtype=torch.float64, requires_grad=True)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    named = dict(net.named_parameters())
    leaves = {name: value.detach().clone().requires_grad_() for name, value in named.items()}
    expected = DenseMinkUNet(arch, weights | leaves, cloud, training)(features)
    got = net(cloud, features)
    assert (got - expected).abs().max() < 1e-10 * expected.abs().max()
    direction = torch.randn_like(expected)
    ours = torch.autograd.grad(got, [features, *named.values()], direction)
    theirs = torch.autograd.grad(expected, [features, *leaves.values()], direction)
    for name, our, their in zip(["features", *named], ours, theirs, strict=True):
        assert our.shape == their.shape
        assert (our - their).abs().max() <= 1e-8 * their.abs().max(), name


def test_running_statistics_follow_torchs_definition() -> None:
    cloud, net = tiny_cloud(seed=3), network()
    features = torch.randn(len(cloud), 3, dtype=torch.float64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    stem = dense_convolution.convolution(cloud, features, before["conv0p1s1.kernel"], 5)
    net.train()(cloud, features)
    after = net.state_dict()
    mean = 0.9 * before["bn0.bn.running_mean"] + 0.1 * stem.mean(0)
    var = 0.9 * before["bn0.bn.running_var"] + 0.1 * stem.var(0, unbiased=True)
    torch.testing.assert_close(after["bn0.bn.running_mean"], mean)
    torch.testing.assert_close(after["bn0.bn.running_var"], var)
    assert int(after["bn0.bn.num_batches_tracked"]) == int(before["bn0.bn.num_batches_tracked"]) + 1
    net.eval()(cloud, features)
    assert all(torch.equal(value, after[name]) for name, value in net.state_dict().items())


def test_a_permutation_of_the_voxels_permutes_the_embeddings() -> None:
    cloud, net = tiny_cloud(seed=4), network()
    features = torch.randn(len(cloud), 3, dtype=torch.float64)
    order = torch.randperm(len(cloud), generator=torch.Generator().manual_seed(1))
    for training in (True, False):
        net.train(training)
        torch.testing.assert_close(
            net(cloud[order].int(), features[order]), net(cloud, features)[order], rtol=1e-10, atol=1e-10
        )


def test_a_batch_of_two_is_two_singles_in_eval_mode() -> None:
    cloud, net = tiny_cloud(seed=5), network().eval()
    features = torch.randn(len(cloud), 3, dtype=torch.float64)
    together = net(cloud, features)
    for item in (0, 1):
        rows = cloud[:, 0] == item
        alone = cloud[rows] * torch.tensor([0, 1, 1, 1])
        torch.testing.assert_close(net(alone, features[rows]), together[rows], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("at_once", [1, 200, 1 << 18])
def test_inference_without_gradients_is_the_same_and_leaves_its_input_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.sparse.layers._AT_ONCE", at_once)
    cloud, net = tiny_cloud(seed=6), network().eval()
    features = torch.randn(len(cloud), 3, dtype=torch.float64)
    kept, expected = features.clone(), net(cloud, features)
    with torch.no_grad():
        torch.testing.assert_close(net(cloud, features), expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(features, kept)


def test_initial_weights_follow_kaiming_over_fan_out() -> None:
    torch.manual_seed(0)
    net = MinkUNet(3, 16)
    kernel = net.get_parameter("block8.1.conv2.kernel")
    assert abs(float(kernel.detach().std()) / (2 / (27 * 96)) ** 0.5 - 1) < 0.02
    assert torch.equal(net.get_parameter("bn3.bn.weight"), torch.ones(64))
    assert torch.equal(net.get_parameter("bn3.bn.bias"), torch.zeros(64))


def test_an_unknown_arch_is_refused() -> None:
    with pytest.raises(ValueError, match="MinkUNet18A"):
        MinkUNet(3, 16, arch="MinkUNet50")  # type: ignore[arg-type]

"""The mini encoder: the conformance suite, its name, its size, and that it is the one that was frozen."""

from __future__ import annotations

import json
from pathlib import Path

import blake3
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from storage.errors import StoreCorrupt
from tests.conformance.encoder import ImageEncoderConformance, grid, picture
from workers.encoders import weights
from workers.encoders.encoder import ImageEncoder
from workers.encoders.mini import MiniEncoder, MiniNetwork


class TestMiniEncoder(ImageEncoderConformance):
    @pytest.fixture
    def encoder(self) -> ImageEncoder:
        return MiniEncoder(threads=1)


def test_its_title_says_that_it_is_a_stand_in() -> None:
    assert "stand-in" in MiniEncoder(threads=1).title
    assert "not a foundation model" in MiniEncoder(threads=1).title


def test_its_weights_are_small() -> None:
    assert weights.NETWORK.stat().st_size <= 4 * 2**20


@pytest.mark.parametrize("path", [weights.NETWORK, weights.WORDS], ids=lambda p: p.name)
def test_shipped_files_are_the_frozen_ones(path: Path) -> None:
    frozen = json.loads(weights.FROZEN.read_text())
    assert blake3.blake3(path.read_bytes()).hexdigest().startswith(frozen[path.name])
    assert len(frozen[path.name]) == 32


def test_other_weights_than_the_frozen_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = load_file(weights.NETWORK)
    state["project.bias"] = state["project.bias"] + 1
    other = tmp_path / weights.NETWORK.name
    save_file(state, other)
    monkeypatch.setattr(weights, "NETWORK", other)
    with pytest.raises(StoreCorrupt, match=r"mini.safetensors .*expected .*install vlglab again"):
        MiniEncoder(threads=1)
    other.unlink()
    with pytest.raises(StoreCorrupt, match="is missing"):
        MiniEncoder(threads=1)


def test_projecting_wanted_pixels_only_equals_projecting_the_whole_picture() -> None:
    """The oracle carries the whole feature map to D dimensions, enlarges it, and only then looks pixels up."""
    network = MiniNetwork()
    network.load_state_dict({k: v.float() for k, v in load_file(weights.NETWORK).items()})
    network.eval()
    image, (rows, columns) = picture(208, 160, seed=3), grid(208, 160, 7)
    with torch.inference_mode():
        inputs = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        features = network(inputs)
        assert features.shape == (1, 64, 40, 52)
        dense = torch.einsum("chw,dc->dhw", features[0], network.project.weight)
        dense += network.project.bias[:, None, None]
        whole = functional.interpolate(dense[None], size=(160, 208), mode="bilinear", align_corners=False)[0]
    expected = whole[:, rows, columns].T.numpy()
    got = MiniEncoder(threads=1).embed_pixels(image, rows, columns, (208, 160))
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()

"""The recipe of the mini encoder: what it learns from, that it learns, and what it is scored by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tools.mini_encoder.augment import WORKING_SIZE, augmented
from tools.mini_encoder.evaluate import SIZE, iou, visible
from tools.mini_encoder.pictures import Pictures, take_pictures
from tools.mini_encoder.train import DISTRACTORS, SYNONYMS, Plan, loss_of, sample_pixels, save, train
from workers.encoders.mini import MiniEncoder, MiniNetwork
from workers.scenes.rooms.cameras import viewpoints
from workers.scenes.rooms.render import render_view
from workers.scenes.rooms.room import make_room
from workers.scenes.rooms.surface import sample_surface


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return take_pictures("studio", rooms=1, views=4, processes=1)


def test_labels_follow_the_picture_through_every_change() -> None:
    labels = np.zeros((240, 320), np.int16)
    labels[60:180, 200:300] = 1
    image = np.where(labels[..., None] == 1, 200, 60).astype(np.uint8).repeat(3, axis=2)
    for seed in range(20):
        changed, moved = augmented(image, labels, np.random.default_rng(seed))
        assert changed.shape == (WORKING_SIZE[1], WORKING_SIZE[0], 3)
        assert moved.shape == changed.shape[:2]
        assert changed.min() >= -1
        assert changed.max() <= 1
        middle = (changed[moved == 1].mean() + changed[moved == 0].mean()) / 2
        assert ((changed.mean(axis=2) > middle) == (moved == 1)).mean() > 0.97


def test_only_labelled_pixels_are_sampled_and_rare_classes_often() -> None:
    labels = torch.full((1, 40, 50), 2)
    labels[0, :10] = -1
    labels[0, 30, 7:9] = 12
    at, label = sample_pixels(labels, 400, torch.Generator().manual_seed(0))
    assert torch.equal(label, labels.flatten(1).gather(1, at))
    assert set(label.unique().tolist()) == {2, 12}
    assert (label == 12).float().mean() > 0.15


def test_words_that_no_picture_shows_name_no_class() -> None:
    shown = set(SYNONYMS) | {word for words in SYNONYMS.values() for word in words}
    assert not shown & set(DISTRACTORS)


def test_a_few_steps_lower_the_loss_and_the_weights_can_be_used(pictures: Pictures, tmp_path: Path) -> None:
    images = torch.from_numpy(pictures.images[:, ::2, ::2][:, :112, :160] / np.float32(127.5) - 1).permute(0, 3, 1, 2)
    labels = torch.from_numpy(pictures.labels[:, ::2, ::2][:, :112, :160]).long()
    plan = Plan(steps=12, batch=4, pixels=100)
    trained = train(pictures, plan)
    torch.manual_seed(plan.seed)
    with torch.no_grad():
        before, after = (
            loss_of(n, images, labels, plan, torch.Generator().manual_seed(1)).item() for n in (MiniNetwork(), trained)
        )
    assert after < before
    save(trained, tmp_path / "weights.safetensors")
    encoder = MiniEncoder(threads=1, path=tmp_path / "weights.safetensors")
    embedded = encoder.embed_pixels(pictures.images[0], np.arange(9), np.arange(9), SIZE)
    assert embedded.shape == (9, encoder.dimension)


def test_visible_points_lie_on_pixels_of_their_own_class() -> None:
    room = make_room("offices", "site", 3, "test", 0)
    points = sample_surface(room, 4000, room.rng("points"))
    camera = viewpoints(room, 1, room.rng("cameras"))[0]
    view = render_view(room, camera, *SIZE, room.rng("picture"))
    at, rows, columns = visible(points.points_m, camera, view)
    assert len(at) > 100
    # a tolerance of a quarter of the depth lets some through from behind thin things
    assert (points.labels[at] == view.labels[rows, columns]).mean() > 0.8


def test_iou_of_a_matrix_counted_by_hand() -> None:
    confusion = np.zeros((13, 13), np.int64)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 6, 2, 2
    scores = iou(confusion)
    assert scores[:2].tolist() == [6 / 8, 2 / 4]
    assert np.isnan(scores[2:]).all()

"""The recipe of the mini encoder: what it learns from, that it learns, and what it is scored by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from storage.words import known_words
from tools.mini_encoder.augment import WORKING_SIZE, augmented, jittered
from tools.mini_encoder.captions import DISTRACTORS, SYNONYMS, words_of
from tools.mini_encoder.evaluate import SIZE, Scores, iou, print_errors, print_scores, score_rooms, visible
from tools.mini_encoder.pictures import DOMAINS, Pictures, take_pictures
from tools.mini_encoder.train import Plan, loss_of, sample_pixels, save, train
from workers.encoders.mini import MiniEncoder, MiniNetwork
from workers.encoders.table_text import TableTextEncoder
from workers.scenes.rooms.cameras import viewpoints
from workers.scenes.rooms.domains import DomainName, domain_named
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


def test_a_picture_without_labels_enters_no_loss() -> None:
    labels = torch.full((2, 64, 64), -1)
    labels[1, :32] = 19
    _, label = sample_pixels(labels, 50, torch.Generator().manual_seed(0))
    assert set(label[0].tolist()) == {-1}
    assert set(label[1].tolist()) == {19}
    network, plan, images = MiniNetwork().eval(), Plan(pixels=50), torch.zeros(2, 3, 64, 64)
    other = images.clone()
    other[0] = 1.0
    losses = [
        loss_of(network, of, labels, ("homes", "homes"), plan, torch.Generator().manual_seed(2)).item()
        for of in (images, other, other.flip(0))
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_changed_picture_keeps_the_order_of_its_channels_and_its_saturation() -> None:
    image = np.tile(np.array([0.6, 0.4, 0.2], np.float32), (50, 50, 1))
    for seed in range(20):
        red, green, blue = jittered(image, np.random.default_rng(seed)).mean((0, 1))
        assert red / green == pytest.approx(1.5, rel=0.25)
        assert green / blue == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize("domain", DOMAINS)
def test_captions_are_known_words_that_name_no_other_class(domain: DomainName) -> None:
    classes, captions = domain_named(domain).label_set.classes, SYNONYMS[domain]
    said = [word for words in captions.values() for word in words]
    assert tuple(captions) == classes
    assert not {*said, *DISTRACTORS[domain]} - set(known_words())
    assert not set(said) & set(classes)
    assert len(said) == len(set(said))


@pytest.mark.parametrize("domain", DOMAINS)
def test_words_that_no_picture_shows_name_nothing_of_the_domain(domain: DomainName) -> None:
    about = domain_named(domain)
    shown = {*about.label_set.classes, *about.unlabelled, *(w for words in SYNONYMS[domain].values() for w in words)}
    assert not shown & set(DISTRACTORS[domain])


def test_words_have_unit_norm_and_a_class_without_synonyms_stands_for_itself() -> None:
    words, names = words_of("homes"), domain_named("homes").label_set.classes
    for rows in (words.classes, words.synonyms, words.distractors):
        assert torch.allclose(rows.norm(dim=1), torch.ones(len(rows)), atol=1e-5)
    same = [name for name, a, b in zip(names, words.classes, words.synonyms, strict=True) if torch.allclose(a, b)]
    assert same == [name for name in names if not SYNONYMS["homes"][name]]


def test_the_loss_of_a_mixed_batch_is_the_mean_over_the_words_of_each_picture() -> None:
    """An oracle in numpy, picture by picture; every pixel of a picture has one class."""
    plan = Plan(pixels=20)
    network = MiniNetwork().eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([15, 7])[:, None, None].expand(-1, 64, 64)
    domains: tuple[DomainName, ...] = ("homes", "offices")
    text, expected = TableTextEncoder(), []
    with torch.no_grad():
        features = network(images)
        at, _ = sample_pixels(labels[:, 2::4, 2::4], plan.pixels, torch.Generator().manual_seed(3))
        got = loss_of(network, images, labels, domains, plan, torch.Generator().manual_seed(3)).item()
        for k, (domain, label) in enumerate(zip(domains, (15, 7), strict=True)):
            names = domain_named(domain).label_set.classes
            embedded = network.project(features[k].flatten(1)[:, at[k]].T).numpy()
            logits = embedded @ text.embed_texts((*names, *DISTRACTORS[domain])).T / plan.temperature
            entropy = np.log(np.exp(logits).sum(1)) - logits[:, label]
            said = text.embed_texts(SYNONYMS[domain][names[label]]).mean(0)
            target = 0.7 * text.embed_texts(names)[label] + 0.3 * said / np.linalg.norm(said)
            distance = ((embedded - target / np.linalg.norm(target)) ** 2).sum(1)
            expected.append((entropy + distance).mean())
    assert got == pytest.approx(np.mean(expected), rel=1e-4)


def test_pictures_say_their_domain_and_come_back_from_the_cache(pictures: Pictures, tmp_path: Path) -> None:
    assert pictures.domains == ("offices",) * 4 + ("homes",) * 4
    assert pictures.images.shape == (8, 240, 320, 3)
    assert pictures.labels.shape == (8, 240, 320)
    cache = tmp_path / "pictures.npz"
    for _ in range(2):
        taken = take_pictures("studio", rooms=1, views=1, processes=1, cache=cache, domains=("homes",))
        assert taken.domains == ("homes",)
        assert np.array_equal(taken.images, pictures.images[4:5])
        assert np.array_equal(taken.labels, pictures.labels[4:5])


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_the_weights_can_be_used(pictures: Pictures, tmp_path: Path) -> None:
    images = torch.from_numpy(pictures.images[:, ::2, ::2][:, :112, :160] / np.float32(127.5) - 1).permute(0, 3, 1, 2)
    labels = torch.from_numpy(pictures.labels[:, ::2, ::2][:, :112, :160]).long()
    plan = Plan(steps=12, batch=4, pixels=100)
    trained = train(pictures, plan)
    torch.manual_seed(plan.seed)
    with torch.no_grad():
        before, after = (
            loss_of(n, images, labels, pictures.domains, plan, torch.Generator().manual_seed(1)).item()
            for n in (MiniNetwork(), trained)
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


def test_homes_are_scored_over_their_own_classes(capsys: pytest.CaptureFixture[str]) -> None:
    scores = score_rooms(MiniEncoder(threads=1), "homes", rooms=1)
    assert scores.plain.shape == scores.filtered.shape == scores.pixels.shape == (20, 20)
    assert scores.plain.sum() > 0
    # what is not in the room is predicted by text alone perhaps, filtered never
    absent = scores.plain.sum(1) == 0
    assert scores.filtered[:, absent].sum() <= scores.plain[:, absent].sum()
    print_scores(scores)
    printed = [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert printed[1:21] == list(domain_named("homes").label_set.classes)


def test_errors_name_what_a_class_is_taken_for(capsys: pytest.CaptureFixture[str]) -> None:
    confusion = np.array([[6, 3, 1], [0, 5, 0], [0, 0, 0]])
    print_errors(Scores(("wall", "door", "bed"), confusion, confusion, confusion, 1.0, 0.1))
    assert capsys.readouterr().out.splitlines() == ["wall taken for door 30 %, bed 10 %", "door taken for nothing else"]

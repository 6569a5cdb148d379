"""Predict and evaluate with an untrained network: the mean over voxelisations, label sets, splits, scenes in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from storage import keys
from storage.artifacts.store import WHOLE, ArtifactManifest, scene_of
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import FormatTooNew, NotFound, SpecInvalid, StoreCorrupt
from storage.specs import stages
from tests.workers.stages import boxes as made
from workers import trial
from workers.nets import checkpoints
from workers.nets.minkunet import MinkUNet
from workers.sparse.choose import choose_engine
from workers.stages.predict import grid_shift

VOXEL_M = 0.25
ARCH = "MinkUNet14A"


def model(seed: int = 3) -> MinkUNet:
    """An untrained network, its output large enough that the voxels' classes differ."""
    torch.manual_seed(seed)
    net = MinkUNet(3, made.DIMENSION, ARCH, choose_engine("torch")).eval()
    with torch.no_grad():
        net.final.kernel *= 40
    return net


def add_network(world: made.World, net: MinkUNet) -> ArtifactManifest:
    """Publishes a network as `distill` does."""
    key = keys.digest("untrained")
    with world.store.write_part(key, kind="checkpoint", scene=WHOLE, token="test") as part:
        checkpoints.save(
            part.path(checkpoints.FILE), net.state_dict(), what="network",
            network={"arch": ARCH, "engine": "torch"}, dimension=made.DIMENSION, voxel_m=VOXEL_M,
        )  # fmt: skip
        part.set(what="network", dimension=made.DIMENSION)
    entry = world.store.entry(key)
    assert entry is not None
    manifest = ArtifactManifest(keys.digest("network"), "checkpoint", "by_hand", "network", {}, {}, (entry,))
    world.store.publish(manifest, token="test")
    world.artifacts["network"] = manifest
    return manifest


def predicted(world: made.World, splits: tuple[str, ...] = ("test",), voxelisations: int = 1) -> ArtifactManifest:
    spec = stages.parse({"stage": "predict", "splits": splits, "voxelisations": voxelisations})
    inputs = {name: world.artifacts[name] for name in ("scenes", "network", "text_embeddings")}
    return trial.run_stage(spec, world.store, inputs).artifacts["labels"]


def evaluated(world: made.World, prediction: ArtifactManifest, splits: tuple[str, ...] = ("test",)) -> trial.Trial:
    inputs = {name: world.artifacts[name] for name in ("scenes", "ground_truth")} | {"predictions.ours": prediction}
    return trial.run_stage(stages.parse({"stage": "evaluate", "splits": splits}), world.store, inputs)


def arrays(world: made.World, manifest: ArtifactManifest, scene: str) -> dict[str, np.ndarray]:
    entry = scene_of(manifest, scene)
    assert entry is not None
    part = world.store.part(entry.key)
    assert part is not None
    return {name: part.array(name) for name in part.names()}


def in_scannet20(world: made.World) -> ArtifactManifest:
    """Text embeddings of the other label set."""
    text = np.eye(20, made.DIMENSION, dtype=np.float32) + np.float32(0.01)
    part = {WHOLE: ({"embeddings": text}, {"label_set": "scannet20"})}
    return world.add("text_embeddings", "text_embeddings", part, salt="scannet20", label_set="scannet20")


def naive_shares(net: MinkUNet, points: np.ndarray, colours: np.ndarray, text: np.ndarray, shift: int) -> np.ndarray:
    """(N,K) class probabilities of one voxelisation, voxel by voxel."""
    centred = points - points.astype(np.float64).mean(axis=0).astype(np.float32)
    cells = np.floor((centred + grid_shift(shift) * np.float32(VOXEL_M)).astype(np.float64) / VOXEL_M).astype(int)
    members: dict[tuple[int, ...], list[int]] = {}
    for index, cell in enumerate(cells.tolist()):
        members.setdefault(tuple(cell), []).append(index)
    voxels = sorted(members)
    mean = np.array([(colours[members[voxel]] / 255).mean(axis=0) for voxel in voxels], np.float32)
    coordinates = np.array([(0, *voxel) for voxel in voxels], np.int32)
    with torch.inference_mode():
        embeddings = net(torch.from_numpy(coordinates), torch.from_numpy(mean + np.float32(0.5))).double().numpy()
    logits = embeddings @ text.T.astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    row = {voxel: place for place, voxel in enumerate(voxels)}
    return np.array([shares[row[tuple(cell)]] for cell in cells.tolist()])


def test_several_voxelisations_give_the_mean_of_the_single_ones(world: made.World) -> None:
    net = model()
    add_network(world, net)
    room = arrays(world, world.artifacts["scenes"], "room_c")
    text = arrays(world, world.artifacts["text_embeddings"], WHOLE)["embeddings"]
    single = [naive_shares(net, room["points"], room["colours"], text, shift) for shift in range(3)]
    for count in (1, 3):
        mean = np.mean(single[:count], axis=0)
        first, second = np.sort(mean, axis=1)[:, :-3:-1].T
        got = arrays(world, predicted(world, voxelisations=count), "room_c")
        clear = first - second > 1e-3
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(got["labels"][clear], mean.argmax(axis=1)[clear])
        np.testing.assert_allclose(got["confidence"], first, atol=2e-3)
    mean = np.mean(single, axis=0)
    for alone in single:
        assert (alone.argmax(axis=1) != mean.argmax(axis=1)).mean() > 0.05, "each voxelisation alone says otherwise"


def test_text_of_another_label_set_than_the_scenes_is_refused(world: made.World) -> None:
    add_network(world, model())
    in_scannet20(world)
    with pytest.raises(SpecInvalid, match="'predict'.*scenes of s3dis13, text_embeddings of scannet20"):
        predicted(world)


def test_a_network_is_asked_for_the_scenes_own_classes_and_part_and_manifest_say_which(world: made.World) -> None:
    add_network(world, model())
    labels = predicted(world)
    part = world.store.part(labels.parts[0].key)
    assert part is not None
    assert part.attributes["label_set"] == labels.attributes["label_set"] == "s3dis13"
    assert labels.attributes["splits"] == {"room_c": "test"}


@pytest.mark.parametrize(
    ("stage", "ports"),
    [
        ({"stage": "pseudo_label"}, ("scenes", "embeddings")),
        ({"stage": "specialize"}, ("embeddings", "labels")),
        ({"stage": "distill", "target": "labels"}, ("scenes", "labels")),
        ({"stage": "distill", "target": "scene_labels"}, ("scenes",)),
        ({"stage": "supervise"}, ("scenes", "ground_truth")),
    ],
)
def test_every_stage_refuses_text_of_another_label_set(
    world: made.World, stage: dict[str, str], ports: tuple[str, ...]
) -> None:
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    world.artifacts |= trial.run_stage(stages.PseudoLabel(), world.store, inputs).artifacts
    inputs = {name: world.artifacts[name] for name in ports} | {"text_embeddings": in_scannet20(world)}
    with pytest.raises(SpecInvalid, match="(?=.*of s3dis13)(?=.*text_embeddings of scannet20)"):
        trial.run_stage(stages.parse(stage), world.store, inputs)


def test_predictions_of_another_label_set_than_the_truth_are_not_scored(world: made.World) -> None:
    add_network(world, model())
    labels = predicted(world)
    other = replace(labels, attributes={**labels.attributes, "label_set": "scannet20"})
    with pytest.raises(SpecInvalid, match="'evaluate'.*ground_truth of s3dis13, predictions.ours of scannet20"):
        evaluated(world, other)


def test_an_empty_split_is_an_error_that_names_it_and_those_there_are(world: made.World) -> None:
    add_network(world, model())
    labels = predicted(world, ("train",))
    scenes = world.artifacts["scenes"]
    of = dict.fromkeys(scenes.scenes, "train")
    world.artifacts["scenes"] = replace(scenes, attributes={**scenes.attributes, "splits": of})
    said = r"'scenes' has no scene in the splits test; it holds train \(room_a, room_b, room_c\)"
    with pytest.raises(SpecInvalid, match=said):
        predicted(world)
    with pytest.raises(SpecInvalid, match=said):
        evaluated(world, labels)
    inputs = {name: world.artifacts[name] for name in ("scenes", "ground_truth")} | {"predictions.3d": labels}
    with pytest.raises(SpecInvalid, match=said):
        trial.run_stage(stages.Report(), world.store, inputs)
    lifted = world.artifacts["embeddings"]
    world.artifacts["embeddings"] = replace(lifted, attributes={**lifted.attributes, "splits": of})
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    with pytest.raises(SpecInvalid, match="'embeddings' has no scene in the splits test; it holds train"):
        trial.run_stage(stages.PseudoLabel(splits=("test",)), world.store, inputs)


def test_predictions_that_share_no_scene_with_the_truth_are_an_error_that_says_what_they_hold(
    world: made.World,
) -> None:
    add_network(world, model())
    labels = predicted(world, ("train",))
    with pytest.raises(NotFound, match=r"splits test \(room_c\).*'ours' holds train \(room_a, room_b\)"):
        evaluated(world, labels)


def test_scenes_without_ground_truth_are_still_no_error(world: made.World) -> None:
    add_network(world, model())
    world.add("ground_truth", "ground_truth", {}, salt="none", label_set="s3dis13")
    done = evaluated(world, predicted(world, ("train",)), ("train",))
    (row,) = done.artifacts["evaluation"].attributes["scores"]
    assert row["miou"] is None and "no ground truth" in row["note"]


@pytest.mark.parametrize("target", ["embeddings", "labels"])
def test_text_of_another_dimension_stops_a_distillation_before_it_trains(world: made.World, target: str) -> None:
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    if target == "labels":
        inputs |= trial.run_stage(stages.PseudoLabel(), world.store, inputs).artifacts
    text = {WHOLE: ({"embeddings": np.eye(13, 20, dtype=np.float32)}, {"label_set": "s3dis13"})}
    other = world.add("text_embeddings", "text_embeddings", text, salt="20", label_set="s3dis13")
    heard = trial.Recorder()
    spec = stages.parse({"stage": "distill", "target": target, "voxel_m": 0.1})
    with pytest.raises(SpecInvalid, match="16 values, the text embeddings have 20"):
        trial.run_stage(spec, world.store, inputs | {"text_embeddings": other}, recorder=heard)
    assert not heard.metrics and not heard.last_progress


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [('{"format_version": 99}', FormatTooNew, "format 99.*upgrade vlglab"), ("{", StoreCorrupt, "is not JSON")],
)
def test_a_part_that_cannot_be_opened_is_an_error_with_its_scene(
    tmp_path: Path, content: str, error: type[FormatTooNew | StoreCorrupt], said: str
) -> None:
    store = ZarrStore(tmp_path / "store")
    world = made.build(store)
    entry = scene_of(world.artifacts["scenes"], "room_b")
    assert entry is not None
    (store.part_path(entry.key) / "manifest.json").write_text(content)
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    with pytest.raises(error, match=said) as caught:
        trial.run_stage(stages.PseudoLabel(), store, inputs)
    assert caught.value.scene == "room_b"


def test_a_part_of_an_earlier_attempt_that_cannot_be_opened_is_an_error_with_its_scene(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path / "store")
    world = made.build(store)
    add_network(world, model())
    earlier = predicted(world)
    (store.part_path(earlier.parts[0].key) / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(FormatTooNew) as caught:
        predicted(world)
    assert caught.value.scene == "room_c"

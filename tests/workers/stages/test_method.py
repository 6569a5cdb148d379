"""The method's stages, one after the other, on a world made by hand: what they learn and what they must not see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from storage.artifacts import scaled
from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import WHOLE, ArtifactManifest, ArtifactStore, PartReader, scene_of
from storage.errors import PointOrderMismatch, SpecInvalid, TrainingFailed
from storage.labels import IGNORE
from storage.specs import stages
from storage.specs.parts import Adapter, Augment, Optimiser, PolySchedule, StepSchedule, Training
from tests.workers.stages import boxes as made
from workers import trial
from workers.learning import train_network
from workers.learning.samples import Sample, make_sample
from workers.stages.pseudo_label import classify

ADAPTER = stages.Specialize(
    optimiser=Optimiser(learning_rate=0.01, schedule=StepSchedule(), epochs=6, batch_size=2), points_per_scene=300
)
BRIEF = Training(optimiser=Optimiser(learning_rate=0.005, schedule=PolySchedule(), epochs=1, batch_size=1))
LONG = Training(
    optimiser=Optimiser(learning_rate=0.003, schedule=PolySchedule(), epochs=20, batch_size=2),
    augment=Augment(elastic=False),
    repeats=2,
)


def read(store: ArtifactStore, manifest: ArtifactManifest, scene: str, name: str) -> np.ndarray:
    entry = scene_of(manifest, scene)
    assert entry is not None
    part = store.part(entry.key)
    assert part is not None
    return part.array(name)


def run_all(world: made.World, store: ArtifactStore, training: Training = BRIEF) -> dict[str, ArtifactManifest]:
    """Every stage after `extract`, at the smallest size."""
    have = dict(world.artifacts)
    lifted = {name: have[name] for name in ("scenes", "embeddings", "text_embeddings")}
    have |= trial.run_stage(stages.PseudoLabel(splits=("train", "test")), store, lifted).artifacts
    have |= trial.run_stage(
        ADAPTER, store, {name: have[name] for name in ("embeddings", "labels", "text_embeddings")}
    ).artifacts
    distill = stages.Distill(voxel_m=0.1, training=training)
    have |= trial.run_stage(
        distill, store, {name: have[name] for name in ("scenes", "embeddings", "adapter", "text_embeddings")}
    ).artifacts
    predicted = trial.run_stage(
        stages.Predict(), store, {name: have[name] for name in ("scenes", "network", "text_embeddings")}
    )
    return have | {"predicted": predicted.artifacts["labels"]}


def test_classify_against_a_loop_with_negative_logits() -> None:
    rng = np.random.default_rng(4)
    embeddings = (rng.normal(size=(50, 8)) - 3).astype(np.float32)
    text = np.abs(rng.normal(size=(5, 8))).astype(np.float32)
    present = [1, 4]
    labels, shares = classify(embeddings, text, present)
    for row, label, share in zip(embeddings.astype(np.float64), labels, shares, strict=True):
        logits = {k: float(row @ text[k]) for k in present}
        assert max(logits.values()) < 0, "the case is one where multiplying by the mask would go wrong"
        assert label == max(logits, key=lambda k: logits[k])
        assert share == pytest.approx(1 / sum(np.exp(v - max(logits.values())) for v in logits.values()), rel=1e-3)


def test_pseudo_labels_name_present_classes_and_leave_uncovered_points_alone(world: made.World) -> None:
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    got = trial.run_stage(stages.PseudoLabel(), world.store, inputs).artifacts["labels"]
    assert got.scenes == ("room_a", "room_b")
    for scene in got.scenes:
        labels = read(world.store, got, scene, "labels")
        uncovered = np.setdiff1d(np.arange(len(labels)), world.covered[scene])
        assert (labels[uncovered] == IGNORE).all()
        assert set(labels[world.covered[scene]].tolist()) <= set(made.CLASSES)
        assert (labels[world.covered[scene]] == world.labels[scene][world.covered[scene]]).mean() > 0.9


@pytest.mark.parametrize("class_balance", [0, 0.5])
def test_the_whole_path_learns_a_held_out_room(world: made.World, class_balance: float) -> None:
    have = run_all(world, world.store, LONG.model_copy(update={"class_balance": class_balance}))
    labels = read(world.store, have["predicted"], "room_c", "labels")
    assert have["predicted"].scenes == ("room_c",)
    assert (labels == world.labels["room_c"]).mean() > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_the_whole_path_learns_the_same_from_embeddings_of_any_type(world: made.World, dtype: str) -> None:
    before = run_all(world, world.store, LONG)
    parts = {}
    for scene in made.SCENES:
        entry = scene_of(world.artifacts["embeddings"], scene)
        part = world.store.part(entry.key) if entry is not None else None
        assert part is not None
        arrays = {name: part.array(name) for name in part.names()}
        if dtype == "int8":
            arrays["embeddings"], arrays["scales"] = scaled.encode(arrays["embeddings"])
        else:
            arrays["embeddings"] = arrays["embeddings"].astype(np.float32)
        parts[scene] = (arrays, dict(part.attributes))
    world.add("embeddings", "embeddings", parts, salt=dtype, dimension=made.DIMENSION)
    after = run_all(world, world.store, LONG)
    for scene in ("room_a", "room_b"):
        one, other = (read(world.store, have["labels"], scene, "labels") for have in (before, after))
        assert (one == other).mean() > 0.999
    labels = read(world.store, after["predicted"], "room_c", "labels")
    assert (labels == world.labels["room_c"]).mean() > 0.7


@pytest.mark.parametrize(("coarse", "edges"), [(0, [0.1, 0.1, 0.1]), (1, [0.2, 0.1, 0.1]), (9, [0.2, 0.2, 0.1])])
def test_coarse_epochs_see_voxels_of_twice_the_edge_and_the_last_never_does(
    world: made.World, monkeypatch: pytest.MonkeyPatch, coarse: int, edges: list[float]
) -> None:
    seen: list[float] = []

    def spied(scene: PartReader, target: PartReader, voxel_m: float, *rest: Any) -> Sample:
        seen.append(voxel_m)
        return make_sample(scene, target, voxel_m, *rest)

    monkeypatch.setattr(train_network, "make_sample", spied)
    training = BRIEF.model_copy(
        update={"optimiser": BRIEF.optimiser.model_copy(update={"epochs": 3}), "coarse_epochs": coarse}
    )
    run_all(world, world.store, training)
    assert seen == [edge for edge in edges for _ in ("room_a", "room_b")]


@pytest.mark.slow
def test_class_activation_maps_learn_which_classes_scenes_have_and_no_more(world: made.World) -> None:
    spec = stages.Distill(voxel_m=0.1, training=LONG, target="scene_labels")
    inputs = {name: world.artifacts[name] for name in ("scenes", "text_embeddings")}
    network = trial.run_stage(spec, world.store, inputs).artifacts["network"]
    predicted = trial.run_stage(stages.Predict(), world.store, inputs | {"network": network}).artifacts["labels"]
    labels = read(world.store, predicted, "room_c", "labels")
    assert np.isin(labels, made.CLASSES).mean() > 0.95, "of 13 classes, those that the training scenes name"


@pytest.mark.slow
def test_the_whole_path_learns_with_a_transformer_as_adapter(world: made.World) -> None:
    have = dict(world.artifacts)
    lifted = {name: have[name] for name in ("scenes", "embeddings", "text_embeddings")}
    have |= trial.run_stage(stages.PseudoLabel(), world.store, lifted).artifacts
    specialize = ADAPTER.model_copy(update={"adapter": Adapter(kind="transformer", hidden=16)})
    ports = ("embeddings", "labels", "text_embeddings")
    have |= trial.run_stage(specialize, world.store, {name: have[name] for name in ports}).artifacts
    spec = stages.Distill(voxel_m=0.1, training=LONG)
    have |= trial.run_stage(spec, world.store, {n: have[n] for n in (*lifted, "adapter")}).artifacts
    inputs = {name: have[name] for name in ("scenes", "network", "text_embeddings")}
    predicted = trial.run_stage(stages.Predict(), world.store, inputs).artifacts["labels"]
    labels = read(world.store, predicted, "room_c", "labels")
    assert (labels == world.labels["room_c"]).mean() > 0.7


def test_logits_of_cosines_stay_within_their_scale_and_those_of_products_do_not(world: made.World) -> None:
    """Of 13 logits within plus or minus s, cross-entropy is at least log(1 + 12 exp(-2 s))."""
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    inputs |= trial.run_stage(stages.PseudoLabel(), world.store, inputs).artifacts
    ports = {name: inputs[name] for name in ("embeddings", "labels", "text_embeddings")}
    lowest = {}
    for scale in (None, 0.5, 3.0):
        recorder = trial.Recorder()
        spec = ADAPTER.model_copy(update={"cosine_scale": scale})
        trial.run_stage(spec, world.store, ports, recorder=recorder)
        lowest[scale] = min(value for name, _, value in recorder.metrics if name == "loss")
    assert math.log(1 + 12 * math.exp(-1)) < lowest[0.5] < math.log(13)
    assert math.log(1 + 12 * math.exp(-6)) < lowest[3.0] < lowest[0.5]
    assert lowest[None] < math.log(1 + 12 * math.exp(-1))


def test_no_training_stage_opens_a_held_out_scene(world: made.World) -> None:
    have = run_all(world, world.store)
    cases = {
        ADAPTER: ("embeddings", "labels", "text_embeddings"),
        stages.Distill(voxel_m=0.1, training=BRIEF, seed=1): ("scenes", "embeddings", "adapter"),
        stages.Distill(voxel_m=0.1, training=BRIEF, target="labels"): ("scenes", "labels", "text_embeddings"),
        stages.Distill(voxel_m=0.1, training=BRIEF, loss="l1"): ("scenes", "embeddings", "adapter"),
        stages.Distill(voxel_m=0.1, training=BRIEF, target="scene_labels"): ("scenes", "text_embeddings"),
        stages.Supervise(voxel_m=0.1, training=BRIEF): ("scenes", "ground_truth", "text_embeddings"),
    }
    for spec, ports in cases.items():
        spec = spec.model_copy(update={"seed": 7})
        watched = made.WatchedStore(world.store)
        trial.run_stage(spec, watched, {name: have[name] for name in ports})
        assert {"room_a", "room_b"} <= watched.opened, spec.stage
        assert "room_c" not in watched.opened, spec.stage


def test_garbled_ground_truth_changes_nothing_but_the_scores() -> None:
    plain, garbled = made.build(MemoryStore()), made.build(MemoryStore(), garbled=True)
    first, second = run_all(plain, plain.store), run_all(garbled, garbled.store)
    assert (read(plain.store, first["ground_truth"], "room_a", "labels")
            != read(garbled.store, second["ground_truth"], "room_a", "labels")).any()  # fmt: skip
    for name in ("labels", "predicted"):
        assert first[name].key == second[name].key
        for scene in first[name].scenes:
            for array in ("labels", "confidence"):
                np.testing.assert_array_equal(
                    read(plain.store, first[name], scene, array), read(garbled.store, second[name], scene, array)
                )
    for name, ports in (("adapter", plain), ("network", plain)):
        a, b = first[name].parts[0], second[name].parts[0]
        one, two = plain.store.part(a.key), garbled.store.part(b.key)
        assert one is not None and two is not None
        assert one.file("checkpoint.safetensors").read_bytes() == two.file("checkpoint.safetensors").read_bytes(), ports
    scores = []
    for world, have in ((plain, first), (garbled, second)):
        inputs = {"scenes": have["scenes"], "ground_truth": have["ground_truth"], "coverage": have["embeddings"]}
        inputs["predictions.2d"] = have["labels"]
        got = trial.run_stage(stages.Evaluate(), world.store, inputs)
        scores.append(got.artifacts["evaluation"].attributes["scores"][0]["miou"])
    assert scores[0] > scores[1] + 0.2


def test_evaluation_fills_uncovered_points_and_scores_both_subsets(world: made.World) -> None:
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    labels = trial.run_stage(stages.PseudoLabel(splits=("test",)), world.store, inputs).artifacts["labels"]
    inputs = {"scenes": world.artifacts["scenes"], "ground_truth": world.artifacts["ground_truth"]}
    inputs |= {"coverage": world.artifacts["embeddings"], "predictions.2d": labels}
    rows = trial.run_stage(stages.Evaluate(), world.store, inputs).artifacts["evaluation"].attributes["scores"]
    assert [(row["prediction"], row["subset"], row["num_points"]) for row in rows] == [
        ("2d", "covered", 700), ("2d", "all", 900),
    ]  # fmt: skip
    assert rows[0]["miou"] > 0.8 and rows[1]["miou"] > 0.8
    assert len(rows[0]["confusion"]) == 13 and len(rows[0]["confusion"][0]) == 14
    assert np.array(rows[1]["confusion"])[:, -1].sum() == 0, "every uncovered point was given a class"


def train_alone(world: made.World, have: dict[str, ArtifactManifest], labels: ArtifactManifest) -> list[dict[str, Any]]:
    """The scores of labels of the training rooms."""
    inputs = {"scenes": have["scenes"], "ground_truth": have["ground_truth"], "predictions.2d": labels}
    found = trial.run_stage(stages.Evaluate(splits=("train",)), world.store, inputs).artifacts["evaluation"]
    scores: list[dict[str, Any]] = found.attributes["scores"]
    return scores


def test_a_scene_that_one_prediction_lacks_counts_against_it_alone_and_coverage_may_be_missing(
    world: made.World,
) -> None:
    have = run_all(world, world.store)
    train = trial.run_stage(
        stages.PseudoLabel(splits=("train",)),
        world.store,
        {n: have[n] for n in ("scenes", "embeddings", "text_embeddings")},
    ).artifacts["labels"]
    whole = trial.run_stage(
        stages.Predict(splits=("train", "test")),
        world.store,
        {name: have[name] for name in ("scenes", "network", "text_embeddings")},
    ).artifacts["labels"]
    inputs = {"scenes": have["scenes"], "ground_truth": have["ground_truth"], "predictions.ours": whole}
    everything = stages.Evaluate(splits=("train", "test"))
    alone = trial.run_stage(everything, world.store, inputs).artifacts["evaluation"]
    (row,) = alone.attributes["scores"]
    assert (row["subset"], row["num_points"]) == ("all", 2700), "without coverage there are no covered points"
    done = trial.run_stage(everything, world.store, inputs | {"predictions.2d": train})
    both = done.artifacts["evaluation"]
    assert both.attributes["scenes"] == ["room_a", "room_b", "room_c"]
    scored = {row["prediction"]: row for row in both.attributes["scores"]}
    assert scored["ours"] == row, "what it is compared with changes nothing"
    lost = np.array(scored["2d"]["confusion"])[:, -1]
    (uncovered,) = (np.array(r["confusion"])[:, -1].sum() for r in train_alone(world, have, train))
    assert scored["2d"]["num_points"] == 2700 and lost.sum() == uncovered + 900
    assert any("2d lacks 1 of the 3 scenes" in note and "room_c" in note for note in done.recorder.notes)


def test_evaluation_without_ground_truth_says_so_and_gives_no_number(world: made.World) -> None:
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    labels = trial.run_stage(stages.PseudoLabel(splits=("test",)), world.store, inputs).artifacts["labels"]
    none = world.add("ground_truth", "ground_truth", {}, salt="none", label_set="s3dis13")
    inputs = {"scenes": world.artifacts["scenes"], "ground_truth": none, "coverage": world.artifacts["embeddings"]}
    done = trial.run_stage(stages.Evaluate(), world.store, inputs | {"predictions.2d": labels})
    (row,) = done.artifacts["evaluation"].attributes["scores"]
    assert row["miou"] is None and "no ground truth" in row["note"]
    assert any("no ground truth" in note for note in done.recorder.notes)


def test_embeddings_of_other_points_are_refused_by_name(world: made.World) -> None:
    entry = scene_of(world.artifacts["embeddings"], "room_a")
    assert entry is not None
    part = world.store.part(entry.key)
    assert part is not None
    arrays = {name: part.array(name) for name in part.names()}
    wrong = {"room_a": (arrays, {**part.attributes, "point_order": "0" * 32})}
    other = world.add("embeddings", "embeddings", wrong, salt="other", dimension=made.DIMENSION)
    inputs = {"scenes": world.artifacts["scenes"], "text_embeddings": world.artifacts["text_embeddings"]}
    with pytest.raises(PointOrderMismatch, match="room_a") as caught:
        trial.run_stage(stages.PseudoLabel(), world.store, inputs | {"embeddings": other})
    assert caught.value.scene == "room_a"


def test_a_scene_without_a_label_is_an_error_that_names_it(world: made.World) -> None:
    about = {"point_order": "x", "num_points": 900}
    parts = {}
    for scene in ("room_a", "room_b"):
        entry = scene_of(world.artifacts["embeddings"], scene)
        assert entry is not None
        part = world.store.part(entry.key)
        assert part is not None
        empty = {"labels": np.full(900, IGNORE, np.int16), "confidence": np.zeros(900, np.float16)}
        parts[scene] = (empty, {**about, "point_order": part.attributes["point_order"]})
    labels = world.add("labels", "labels", parts, label_set="s3dis13")
    inputs = {name: world.artifacts[name] for name in ("embeddings", "text_embeddings")}
    with pytest.raises(TrainingFailed, match="room_[ab] has not one labelled point"):
        trial.run_stage(ADAPTER, world.store, inputs | {"labels": labels})


def test_a_loss_that_is_not_finite_ends_the_training(world: made.World) -> None:
    inputs = {name: world.artifacts[name] for name in ("scenes", "ground_truth", "text_embeddings")}
    wild = Training(optimiser=Optimiser(learning_rate=1e30, schedule=PolySchedule(), epochs=3, batch_size=1))
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        trial.run_stage(stages.Supervise(voxel_m=0.2, training=wild), world.store, inputs)


def test_a_balanced_distillation_asks_for_the_text_embeddings(world: made.World) -> None:
    balanced = stages.Distill(training=Training(class_balance=0.5))
    with pytest.raises(SpecInvalid, match="text_embeddings"):
        stages.check_inputs(balanced, {"scenes": "scenes", "embeddings": "embeddings"})


def test_a_network_of_another_dimension_is_refused(world: made.World) -> None:
    have = run_all(world, world.store)
    text = np.eye(13, 20, dtype=np.float32)
    other = world.add(
        "text_embeddings", "text_embeddings", {WHOLE: ({"embeddings": text}, {"label_set": "s3dis13"})}, salt="20"
    )
    inputs = {"scenes": have["scenes"], "network": have["network"], "text_embeddings": other}
    with pytest.raises(SpecInvalid, match="16 values, the text embeddings have 20"):
        trial.run_stage(stages.Predict(), world.store, inputs)
    for spec, ports in (
        (stages.PseudoLabel(), ("scenes", "embeddings")),
        (ADAPTER, ("embeddings", "labels")),
        (stages.Distill(training=BRIEF.model_copy(update={"class_balance": 0.5})), ("scenes", "embeddings", "adapter")),
    ):
        with pytest.raises(SpecInvalid, match="16 values, the text embeddings have 20; the image encoder"):
            trial.run_stage(spec, world.store, {name: have[name] for name in ports} | {"text_embeddings": other})


def test_the_report_draws_four_panels_and_writes_clouds(world: made.World) -> None:
    have = run_all(world, world.store)
    inputs = {"scenes": have["scenes"], "ground_truth": have["ground_truth"]}
    inputs |= {"predictions.2d_text": have["labels"], "predictions.ours": have["predicted"]}
    figures = trial.run_stage(stages.Report(), world.store, inputs).artifacts["figures"]
    part = world.store.part(figures.parts[0].key)
    assert part is not None
    assert part.files() == (
        "room_c_2d_text.ply", "room_c_ground_truth.ply", "room_c_input.ply", "room_c_ours.ply", "segmentation.png",
    )  # fmt: skip
    with pytest.raises(SpecInvalid, match="ScanNet-20"):
        trial.run_stage(stages.Report(submission="ours"), world.store, inputs)
    with pytest.raises(SpecInvalid, match="one of the predictions"):
        trial.run_stage(stages.Report(submission="theirs"), world.store, inputs)
    header = part.file("room_c_ours.ply").read_bytes().split(b"end_header\n")
    assert b"element vertex 900" in header[0] and len(header[1]) == 900 * 15

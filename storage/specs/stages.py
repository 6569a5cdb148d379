"""One model per stage, in the order of a scene's path, and their union; those that reach outside are in `outside`.

The same model validates a request, is stored with the run, enters the artifact's key and drives the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from storage.errors import SpecInvalid, UnknownName
from storage.labels import LabelSetName
from storage.specs.feature_stages import ImportFeatures, Verify
from storage.specs.outside import External, Pull, Repair
from storage.specs.parts import (
    Adapter,
    ClassBalance,
    Colours,
    DepthFusion,
    EmbeddingType,
    Encoder,
    HeadBias,
    InputFeatures,
    Lifting,
    Network,
    Optimiser,
    PositiveFloat,
    Splits,
    StepSchedule,
    TextEncoder,
    Training,
    VoxelSize,
    WeightsName,
)
from storage.specs.spec import ArtifactKind, Port, StageSpec

Seed = Annotated[int, Field(ge=0, lt=2**32)]
_ADDED_TO_TRAINING = {"training.coarse_epochs": 0, "colours": "plus_half", "head_bias": True}


class Ingest(StageSpec):
    """Reads a raw dataset into `scenes` and, apart, `ground_truth` (section 4.1)."""

    algorithm: ClassVar[int] = 2
    needs_dataset: ClassVar[bool] = True
    external: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"scenes": "scenes", "ground_truth": "ground_truth"}
    scene_choosing: ClassVar[frozenset[str]] = frozenset({"bad_scenes"})
    added: ClassVar[Mapping[str, Any]] = {"bad_scenes": "refuse"}

    stage: Literal["ingest"] = "ingest"
    label_set: LabelSetName
    fusion: DepthFusion = DepthFusion()
    bad_scenes: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="A scene that cannot be read, such as one with a damaged file: 'refuse' fails the run, 'leave_out' "
        "names it in the run's events and goes on without it.",
    )


class Inspect(StageSpec):
    """Walks a raw dataset and reports on every scene, without computing an embedding."""

    algorithm: ClassVar[int] = 2
    needs_dataset: ClassVar[bool] = True
    external: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"inspection": "inspection"}

    stage: Literal["inspect"] = "inspect"
    label_set: LabelSetName
    fusion: DepthFusion = DepthFusion()
    lifting: Lifting = Lifting()
    max_frames: int = Field(32, ge=1, description="Frames a scene in which depth and visibility are looked at.")


class EmbedLabels(StageSpec):
    """Embeds the class names (section 3.1, text)."""

    external: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"text_embeddings": "text_embeddings"}

    stage: Literal["embed_labels"] = "embed_labels"
    label_set: LabelSetName
    encoder: TextEncoder = TextEncoder()
    class_names: tuple[str, ...] | None = Field(
        None, description="Words to embed for the classes, in label order; None takes the label set's own names."
    )


class Extract(StageSpec):
    """Embeds each frame and lifts its pixels to the points that it sees (section 3.1, 2D)."""

    needs_dataset: ClassVar[bool] = True
    external: ClassVar[bool] = True
    uses_gpu: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {"scenes": Port("scenes")}
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"embeddings": "embeddings"}
    scene_choosing: ClassVar[frozenset[str]] = frozenset({"splits", "blind_scenes"})
    added: ClassVar[Mapping[str, Any]] = {"dtype": "float16", "shrink_images": False}

    stage: Literal["extract"] = "extract"
    encoder: Encoder = Encoder()
    lifting: Lifting = Lifting()
    shrink_images: bool = Field(
        False,
        description="Whether the encoder sees images shrunk to the lifting's width and height by nearest neighbour, as "
        "the authors' code shrinks ScanNet's, and not as released.",
    )
    splits: Splits = ("train", "test")
    blind_scenes: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="A scene with pictures and no visible point: 'refuse' fails the run, 'leave_out' names it in the "
        "run's events and goes on without it.",
    )
    dtype: EmbeddingType = Field(
        "float16",
        description="How embeddings are stored. 'int8': with a scale for each 32 columns of a row, about half the "
        "bytes of 'float16' and nearly its directions; 'float32': twice the bytes.",
    )


class PseudoLabel(StageSpec):
    """Classifies covered points by text, filtered by the scene-level labels (section 3.1, filtering)."""

    inputs: ClassVar[Mapping[str, Port]] = {
        "scenes": Port("scenes"),
        "embeddings": Port("embeddings"),
        "text_embeddings": Port("text_embeddings"),
    }
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"labels": "labels"}
    scene_choosing: ClassVar[frozenset[str]] = frozenset({"splits"})

    stage: Literal["pseudo_label"] = "pseudo_label"
    filtering: bool = Field(True, description="Refuse classes that the scene-level labels do not name.")
    splits: Splits = ("train",)


class Specialize(StageSpec):
    """Trains the ESS adapter on pseudo labels (section 3.2, equation 1)."""

    uses_gpu: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {
        "embeddings": Port("embeddings"),
        "labels": Port("labels"),
        "text_embeddings": Port("text_embeddings"),
    }
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"adapter": "checkpoint"}

    stage: Literal["specialize"] = "specialize"
    adapter: Adapter = Adapter()
    optimiser: Optimiser = Optimiser(
        learning_rate=0.003, weight_decay=4e-4, schedule=StepSchedule(), epochs=80, batch_size=16
    )
    points_per_scene: int = Field(40_000, ge=1, description="Labelled points drawn from a scene each epoch.")
    class_balance: ClassBalance = 0
    cosine_scale: PositiveFloat | None = Field(
        None,
        description="Logits are this times the cosine of adapted and text embeddings, which equation 2 compares too; "
        "None, as in the paper: their product.",
    )
    seed: Seed = 0


class Distill(StageSpec):
    """Trains the 3D network towards the adapted embeddings (ESGS, section 3.3, equation 2), or pseudo labels."""

    uses_gpu: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {
        "scenes": Port("scenes"),
        "embeddings": Port("embeddings", required=False),
        "adapter": Port("checkpoint", required=False),
        "labels": Port("labels", required=False),
        "text_embeddings": Port("text_embeddings", required=False),
    }
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"network": "checkpoint"}
    added: ClassVar[Mapping[str, Any]] = _ADDED_TO_TRAINING

    stage: Literal["distill"] = "distill"
    target: Literal["embeddings", "labels", "scene_labels"] = Field(
        "embeddings",
        description="'embeddings': towards the (adapted) embeddings; 'labels': cross-entropy on them; "
        "'scene_labels': class activation maps (Fig. 1a).",
    )
    loss: Literal["cosine", "l1"] = Field("cosine", description="Distance to embeddings: equation 2, or L1.")
    network: Network = Network()
    colours: Colours = "plus_half"
    head_bias: HeadBias = True
    voxel_m: VoxelSize = Field(0.02, description="Edge of a voxel, metres.")
    training: Training = Training()
    seed: Seed = 0

    def required_inputs(self) -> frozenset[str]:
        """The optional inputs that this target needs."""
        if self.target == "scene_labels":
            return frozenset({"text_embeddings"})
        if self.target == "labels":
            return frozenset({"labels", "text_embeddings"})
        return frozenset({"embeddings", "text_embeddings"} if self.training.class_balance else {"embeddings"})


class Supervise(StageSpec):
    """Trains the same network on the ground truth of the training rooms: the upper bound (section 4.3, 100 % rows)."""

    uses_gpu: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {
        "scenes": Port("scenes"),
        "ground_truth": Port("ground_truth"),
        "text_embeddings": Port("text_embeddings"),
    }
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"network": "checkpoint"}
    added: ClassVar[Mapping[str, Any]] = _ADDED_TO_TRAINING

    stage: Literal["supervise"] = "supervise"
    network: Network = Network()
    colours: Colours = "plus_half"
    head_bias: HeadBias = True
    voxel_m: VoxelSize = 0.02
    training: Training = Training()
    seed: Seed = 0


class ImportCheckpoint(StageSpec):
    """Publishes a network that OpenScene's or 3DSS-VLG's trainers saved; `predict` takes it like a trained one."""

    external: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {"text_embeddings": Port("text_embeddings", required=False)}
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"network": "checkpoint"}

    stage: Literal["import_checkpoint"] = "import_checkpoint"
    weights: WeightsName = Field("network.pth", description="The checkpoint's file under VLGLAB_WEIGHTS.")
    voxel_m: VoxelSize = Field(0.02, description="Edge of the voxels that it was trained on; no file says it.")
    colours: InputFeatures = Field(
        "signed",
        description="What it saw of a colour c in 0..1: 'signed' 2c - 1 (3DSS-VLG), 'ones' no colour (OpenScene), "
        "'plus_half' c + 0.5 (networks trained here, but for `colours`).",
    )
    engine: Literal["torch", "minkowski"] = Field("torch", description="What it shall run on.")


class Predict(StageSpec):
    """Segments scenes by the 3D network and text alone (section 3.4)."""

    uses_gpu: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {
        "scenes": Port("scenes"),
        "network": Port("checkpoint"),
        "text_embeddings": Port("text_embeddings"),
    }
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"labels": "labels"}
    scene_choosing: ClassVar[frozenset[str]] = frozenset({"splits"})

    stage: Literal["predict"] = "predict"
    splits: Splits = ("test",)
    voxelisations: int = Field(
        1, ge=1, le=64, description="Shifts of the voxel grid whose class probabilities are averaged at each point."
    )


class Evaluate(StageSpec):
    """Scores named predictions against the ground truth (section 4.1)."""

    algorithm: ClassVar[int] = 2
    inputs: ClassVar[Mapping[str, Port]] = {
        "scenes": Port("scenes"),
        "ground_truth": Port("ground_truth"),
        "coverage": Port("embeddings", required=False),
        "predictions": Port("labels", many=True),
    }
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"evaluation": "evaluation"}

    stage: Literal["evaluate"] = "evaluate"
    splits: Splits = ("test",)


class Report(StageSpec):
    """Draws the four-panel picture and writes coloured point clouds (Fig. 4)."""

    algorithm: ClassVar[int] = 4
    inputs: ClassVar[Mapping[str, Port]] = {
        "scenes": Port("scenes"),
        "ground_truth": Port("ground_truth"),
        "predictions": Port("labels", many=True),
    }
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"figures": "figures"}

    stage: Literal["report"] = "report"
    splits: Splits = ("test",)
    max_scenes: int = Field(3, ge=1, le=1000, description="Rooms drawn, the first ones that every prediction has.")
    submission: str | None = Field(
        None,
        description="Prediction to write as files for ScanNet's test server, a NYU40 id a point: of the scenes whose "
        "ground truth is hidden, where some are, else of all.",
    )


AnyStage = Annotated[
    Ingest
    | Inspect
    | EmbedLabels
    | Extract
    | ImportFeatures
    | Verify
    | PseudoLabel
    | Specialize
    | Distill
    | Supervise
    | ImportCheckpoint
    | Predict
    | Evaluate
    | Report
    | Pull
    | Repair
    | External,
    Field(discriminator="stage"),
]
"""Any stage's spec, told apart by `stage`."""

STAGES: dict[str, type[StageSpec]] = {
    str(m.model_fields["stage"].default): m
    for m in (
        Ingest, Inspect, EmbedLabels, Extract, ImportFeatures, Verify, PseudoLabel, Specialize, Distill, Supervise,
        ImportCheckpoint, Predict, Evaluate, Report, Pull, Repair, External,
    )
}  # fmt: skip
"""Stage name -> its spec, in the order of a scene's path."""

BY_OWNER = frozenset(name for name, spec in STAGES.items() if spec.by_owner)
"""Stages whose runs no worker host takes."""

_ANY = TypeAdapter[StageSpec](AnyStage)


def parse(document: object) -> StageSpec:
    """The spec that a JSON-like document describes.

    Raises:
        UnknownName: no such stage.
        SpecInvalid: an unknown field or a value out of range; the message names every one.
    """
    if not isinstance(document, Mapping):
        raise SpecInvalid(f"got a spec of type {type(document).__name__}, expected an object with the field 'stage'")
    stage = document.get("stage")
    if not isinstance(stage, str) or stage not in STAGES:
        raise UnknownName.among("stage", str(stage), STAGES)
    try:
        return _ANY.validate_python(document)
    except ValidationError as error:
        raise SpecInvalid(f"the spec of stage {stage!r} is wrong: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """Each fault of a validation error in words: where, what, and what was got."""
    faults = []
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in fault["loc"]) or "(the whole)"
        faults.append(f"{where}: {fault['msg']} (got {fault['input']!r:.80})")
    return "; ".join(faults)


def check_inputs(spec: StageSpec, names: Mapping[str, ArtifactKind | None]) -> None:
    """Checks that a run's inputs fit the stage's ports.

    Args:
        spec: the stage's spec.
        names: input name -> kind of the artifact behind it, None where it is not known yet.

    Raises:
        SpecInvalid: an input that the stage does not take, one of another kind, or one that is missing; a submission
            of a prediction that is none of them.
    """
    known = ", ".join(f"{n}.<name>" if p.many else n for n, p in spec.inputs.items()) or "none"
    for name, kind in names.items():
        port = spec.port_of(name)
        if port is None:
            raise SpecInvalid(f"the stage {spec.stage!r} takes no input {name!r}; it takes: {known}")
        if None not in (kind, port.kind) and kind != port.kind:
            raise SpecInvalid(f"the input {name!r} of {spec.stage!r} takes {port.kind}, got an artifact of kind {kind}")
    required = {n for n, p in spec.inputs.items() if p.required}
    if isinstance(spec, Distill):
        required |= spec.required_inputs()
    missing = sorted(required - {name.partition(".")[0] for name in names})
    if missing:
        raise SpecInvalid(f"the stage {spec.stage!r} misses its input {', '.join(missing)}; it takes: {known}")
    if isinstance(spec, Report) and spec.submission is not None and f"predictions.{spec.submission}" not in names:
        given = ", ".join(name.partition(".")[2] for name in names if name.startswith("predictions."))
        raise SpecInvalid(f"got the submission {spec.submission!r}, expected one of the predictions {given}")

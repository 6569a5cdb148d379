"""The parts that stage specs are made of, each with the paper's values as its defaults.

Source: 3DSS-VLG (ECCV 2024), sections 3.1 to 3.3 and 4.2; what it leaves out is read off the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from storage.specs.spec import Spec

Split = Literal["train", "test"]
EmbeddingType = Literal["float16", "int8", "float32"]
Splits = Annotated[tuple[Split, ...], Field(min_length=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
VoxelSize = Annotated[float, Field(ge=0.001)]
"""Edge of a voxel, metres: no sensor tells a millimetre, and finer grids overflow their counts."""
Probability = Annotated[float, Field(ge=0, le=1)]


WeightsName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A plain name, never a path: no spec leads out of the folder that the operator named."""

Prompt = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$", max_length=200)]


class Encoder(Spec):
    """Which 2D vision-language model gives the pixel and text embeddings."""

    name: Literal["mini", "openseg"] = Field(
        "mini", description="'mini' is a small stand-in shipped with vlglab, not a foundation model."
    )
    weights: WeightsName | None = Field(
        None, description="Folder of its weights under VLGLAB_WEIGHTS; None takes the encoder's name."
    )
    output: Literal["region_pooled", "per_pixel"] = Field(
        "region_pooled", description="Which of OpenSeg's two outputs is taken; 'mini' has but one."
    )

    @model_validator(mode="after")
    def _as_the_encoder_has_it(self) -> Self:
        """Refuses fields that the named encoder does not have: they would name one result twice."""
        if self.name == "mini" and (self.weights is not None or self.output != "region_pooled"):
            raise ValueError("the encoder 'mini' ships its weights and has one output: leave weights and output out")
        return self


class TextEncoder(Spec):
    """What embeds the class names, into the space that the image encoder maps into."""

    name: Literal["mini", "clip", "sentence", "table"] = Field(
        "mini",
        description="'mini': the word table shipped with vlglab, a stand-in; 'clip': CLIP's text tower; 'sentence': a "
        "sentence encoder; 'table': a file of embeddings.",
    )
    weights: WeightsName | None = Field(
        None, description="Its folder (of a table: its file) under VLGLAB_WEIGHTS; None takes the encoder's name."
    )
    prompts: tuple[Prompt, ...] | None = Field(
        None, min_length=1, description="Sentences with one {} for the class; their embeddings are averaged."
    )

    @model_validator(mode="after")
    def _as_the_encoder_has_it(self) -> Self:
        """Refuses fields that the named encoder does not have."""
        if self.name in ("mini", "table") and self.prompts is not None:
            raise ValueError(f"the text encoder {self.name!r} is a table of words: leave prompts out")
        if self.name == "mini" and self.weights is not None:
            raise ValueError("the text encoder 'mini' ships its table: leave weights out")
        return self


class DepthFusion(Spec):
    """How depth maps become a point cloud where a capture has none."""

    voxel_m: VoxelSize = Field(0.02, description="Edge of a voxel of the fused cloud, metres.")
    max_depth_m: PositiveFloat = Field(6.0, description="Depth beyond this is not fused, metres.")


class Lifting(Spec):
    """How pixel embeddings are carried to points (section 3.1; values as in the authors' code)."""

    width: int = Field(320, ge=16, description="Width in pixels at which depth and features are compared.")
    height: int = Field(240, ge=16, description="Height in pixels.")
    depth_tolerance: PositiveFloat = Field(
        0.25, description="A point is visible when |z - depth| <= tolerance * depth."
    )
    border_px: int = Field(10, ge=0, description="Pixels cut at the border.")


class Adapter(Spec):
    """The ESS adapter: two linear layers and a residual (equation 1)."""

    kind: Literal["mlp", "transformer"] = Field(
        "mlp", description="'mlp': two linear layers; 'transformer': one encoder block across the values (Table 5)."
    )
    hidden: int | None = Field(None, ge=1, description="Width of the hidden layer; None takes a quarter of D.")
    alpha: Probability = Field(0.95, description="Share of the MLP in the sum; the rest is the input.")


class Network(Spec):
    """The 3D network and the engine it runs on."""

    arch: Literal["MinkUNet14A", "MinkUNet18A", "MinkUNet34A"] = "MinkUNet18A"
    engine: Literal["torch", "minkowski"] = Field(
        "torch", description="'torch' runs wherever torch does; 'minkowski' needs MinkowskiEngine 0.5.4."
    )


InputFeatures = Literal["plus_half", "signed", "ones"]
"""What a network is fed of a voxel's colour c in 0..1: `plus_half` c + 0.5, `signed` 2c - 1, as 3DSS-VLG's authors do;
`ones` three ones and no colour, as OpenScene's."""

Colours = Annotated[
    InputFeatures,
    Field(
        description="What the network sees of a colour c in 0..1: 'plus_half' c + 0.5, which is never 0 as an empty "
        "voxel is; 'signed' 2c - 1 (the authors' code); 'ones' no colour."
    ),
]
HeadBias = Annotated[bool, Field(description="Whether the head adds a bias; that of the authors' code has none.")]


class StepSchedule(Spec):
    """The learning rate falls by a factor every so many epochs."""

    kind: Literal["step"] = "step"
    factor: PositiveFloat = 0.7
    every_epochs: int = Field(20, ge=1)


class PolySchedule(Spec):
    """The learning rate falls as (1 - step / steps) ** power."""

    kind: Literal["poly"] = "poly"
    power: PositiveFloat = 0.9
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up before it.")
    first_step_factor: PositiveFloat = Field(1, description="Factor of the first step's rate (authors' code).")


Schedule = Annotated[StepSchedule | PolySchedule, Field(discriminator="kind")]


class Optimiser(Spec):
    """Adam, or Adam beside Muon, and the schedule of their rates."""

    learning_rate: PositiveFloat
    kernel_learning_rate: PositiveFloat | None = Field(
        None, description="Rate at which Muon trains the convolutions' kernels; None trains them by Adam as all else."
    )
    weight_decay: float = Field(0.0, ge=0)
    schedule: Schedule
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1, description="Scenes a batch.")
    accumulate: int = Field(1, ge=1, le=1024, description="Batches whose gradients are averaged into one step.")


class Augment(Spec):
    """Random changes of a scene before each training step (as in the authors' code)."""

    rotate: bool = Field(False, description="Any angle about the vertical axis.")
    tilt_deg: float = Field(0.0, ge=0, le=90, description="Largest tilt about each horizontal axis, degrees.")
    flip: Probability = Field(0.5, description="Chance of a mirror along each horizontal axis.")
    scale: float = Field(0.0, ge=0, lt=1, description="Uniform scale within 1 +- this.")
    elastic: bool = Field(True, description="Smooth random displacement at two granularities.")
    auto_contrast: Probability = Field(
        0.0, description="Chance that colours are blended with those whose every channel fills 0..1."
    )
    colour_jitter: float = Field(0.05, ge=0, description="Deviation of gaussian noise on colours in 0..1.")
    colour_shift: float = Field(0.1, ge=0, description="Largest shift of a scene's colours, in 0..1.")
    hue: float = Field(0.0, ge=0, le=0.5, description="Largest shift of a scene's hue, in turns of the colour wheel.")
    saturation: Probability = Field(0.0, description="A scene's saturation is multiplied by 1 +- at most this.")
    colour_drop: Probability = Field(0.0, description="Chance that a scene's colours are replaced by grey.")


ClassBalance = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="A point counts n^-b in the loss, n the points of its class in the batch, b this exponent: 0, as "
        "in the paper, counts all points alike, 1 all classes.",
    ),
]


class Training(Spec):
    """How a 3D network is trained, whatever its target."""

    optimiser: Optimiser = Optimiser(learning_rate=1e-4, schedule=PolySchedule(), epochs=100, batch_size=8)
    augment: Augment | None = Augment()
    repeats: int = Field(1, ge=1, description="Times each scene is shown in an epoch.")
    crop_voxels: int | None = Field(
        None,
        ge=512,
        description="At most so many voxels of a scene a step, those nearest a random one; None takes all.",
    )
    coarse_epochs: int = Field(
        0,
        ge=0,
        description="Epochs at the beginning that see voxels of twice the edge, so that a crop of as many voxels holds "
        "four times the surface; the last epoch never does.",
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="What matrices are multiplied in; 'auto': bfloat16 where the processor multiplies it natively.",
    )
    class_balance: ClassBalance = 0
    calibrate_norms: bool = Field(
        False,
        description="After training, take batch norm's statistics from all whole training scenes, not the last crops.",
    )


class Views(Spec):
    """How many pictures SynthRooms takes of a room, and how."""

    count: int = Field(8, ge=1, le=64)
    width: int = Field(320, ge=32)
    height: int = Field(240, ge=24)


class SynthRoomsOptions(Spec):
    """What a SynthRooms dataset is made of; equal options give equal rooms, byte for byte."""

    domain: Literal["offices", "homes"] = "offices"
    seed: int = Field(0, ge=0)
    train_rooms: int = Field(20, ge=1, le=10_000)
    test_rooms: int = Field(5, ge=0, le=10_000)
    points: int = Field(30_000, ge=500, description="Points sampled from the surfaces of a room.")
    views: Views = Views()


class RgbdOptions(Spec):
    """How a folder of posed RGB-D frames (ScanNet's exported layout) is read."""

    frame_step: int = Field(1, ge=1, description="Take every so many frames.")


class ScanNetOptions(Spec):
    """How ScanNet v2's release is read."""

    frame_step: int = Field(20, ge=1, description="Take every so many frames.")


class S3disOptions(Spec):
    """How S3DIS and the pictures of 2D-3D-S are read."""

    test_area: int = Field(5, ge=1, le=6, description="The area that is held out.")
    frame_step: int = Field(1, ge=1, description="Take every so many pictures of a room.")


class CloudsOptions(Spec):
    """How a folder of labelled point clouds without pictures is read."""


class FeatureFilesOptions(Spec):
    """How a folder of somebody else's fused features is read (stage `import_features`); it holds no scenes."""


DatasetKind = Literal["synthrooms", "rgbd", "scannet", "s3dis", "clouds", "features"]
DatasetOptions = SynthRoomsOptions | RgbdOptions | ScanNetOptions | S3disOptions | CloudsOptions | FeatureFilesOptions

DATASET_OPTIONS: Mapping[DatasetKind, type[DatasetOptions]] = {
    "synthrooms": SynthRoomsOptions,
    "rgbd": RgbdOptions,
    "scannet": ScanNetOptions,
    "s3dis": S3disOptions,
    "clouds": CloudsOptions,
    "features": FeatureFilesOptions,
}
"""Kind of dataset -> the model of its options."""

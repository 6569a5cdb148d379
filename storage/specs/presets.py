"""Sizes, optimisers and schedules of the training stages, by name. A preset changes neither losses nor what runs read.

`paper`: what sections 4.1 and 4.2 say, and the authors' code where they say nothing. `authors_code`: how that code
trains where it differs from the paper, with its colours and its head; docs/reproduce.md lists what else differs.
`demo`: minutes on two cores (crops, Muon beside Adam, rare classes weighted up, an adapter learnt by cosines, coarse
voxels first: docs/decisions/0005, 0006, 0011, 0014). `demo-capture`: the same for one large real room.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.labels import LabelSetName
from storage.specs import stages
from storage.specs.parts import Augment, InputFeatures, Optimiser, PolySchedule, Split, StepSchedule, Training

PRESETS = ("paper", "authors_code", "demo", "demo-capture")

AUTHORS_AUGMENT = Augment(
    rotate=True,
    tilt_deg=180 / 64,
    flip=0.475,
    scale=0.1,
    elastic=False,
    auto_contrast=0.2,
    hue=0.5,
    saturation=0.2,
)
"""What the authors' published code does to a training scene (colour shift and jitter are the defaults)."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a recipe is built for."""

    dataset: str
    label_set: LabelSetName
    splits: tuple[Split, ...]
    """Splits that the dataset has scenes in; with `train` alone, training and prediction share the scenes."""
    preset: str = "paper"
    seed: int = 0
    pictures: bool = True
    """Whether the dataset has any: without, nothing can be lifted, and there are no covered points."""

    @property
    def held_out(self) -> tuple[Split, ...]:
        """The splits that are predicted and scored."""
        return ("test",) if "test" in self.splits else ("train",)


def specialize(request: Request) -> stages.Specialize:
    """ESS (section 3.2) at the preset's size. Source: section 4.2; authors_code: 150 epochs of batches of 24."""
    if request.preset == "paper":
        return stages.Specialize(seed=request.seed)
    adam = Optimiser(learning_rate=0.003, weight_decay=4e-4, schedule=StepSchedule(), epochs=150, batch_size=24)
    if request.preset == "authors_code":
        return stages.Specialize(optimiser=adam, seed=request.seed)
    return stages.Specialize(
        optimiser=adam.model_copy(update={"schedule": StepSchedule(every_epochs=15), "epochs": 60, "batch_size": 4}),
        points_per_scene=20_000 if request.preset == "demo-capture" else 2_000,
        class_balance=1,
        cosine_scale=3,
        seed=request.seed,
    )


def distill(request: Request) -> stages.Distill:
    """ESGS (section 3.3) at the preset's size."""
    training = _training(request)
    if request.preset == "demo":
        training = training.model_copy(update={"coarse_epochs": 3})
    return stages.Distill(
        colours=_colours(request),
        head_bias=_head_bias(request),
        voxel_m=_voxel_m(request),
        training=training,
        seed=request.seed,
    )


def supervise(request: Request) -> stages.Supervise:
    """The upper bound, at the size of `distill`."""
    return stages.Supervise(
        colours=_colours(request),
        head_bias=_head_bias(request),
        voxel_m=_voxel_m(request),
        training=_training(request),
        seed=request.seed,
    )


def predict(request: Request) -> stages.Predict:
    """The held-out scenes, at the preset's number of voxelisations."""
    small = request.preset.startswith("demo")
    return stages.Predict(splits=request.held_out, voxelisations=4 if small else 1)


def _colours(request: Request) -> InputFeatures:
    """What the 3D network sees of colours; the paper does not say it."""
    return "signed" if request.preset == "authors_code" else "plus_half"


def _head_bias(request: Request) -> bool:
    """Whether the 3D network's head has a bias; the paper does not say it, the authors' has none."""
    return request.preset != "authors_code"


def _voxel_m(request: Request) -> float:
    return 0.05 if request.preset.startswith("demo") else 0.02


def _training(request: Request) -> Training:
    """How the 3D network is trained, whatever its target.

    The authors' code trains for 100 epochs of batches of 4, each scene 5 times an epoch, and multiplies the stated rate
    by ten from the second step on. It turns, tilts and scales scenes; it computes an elastic distortion, and then
    voxelizes the points without it (docs/decisions/0010).
    """
    if request.preset == "paper":
        return Training()
    if request.preset == "authors_code":
        schedule = PolySchedule(first_step_factor=0.1)
        adam = Optimiser(learning_rate=1e-3, schedule=schedule, epochs=100, batch_size=4)
        return Training(optimiser=adam, repeats=5, augment=AUTHORS_AUGMENT)
    capture = request.preset == "demo-capture"
    return Training(
        optimiser=Optimiser(
            learning_rate=0.004,
            kernel_learning_rate=0.05,
            schedule=PolySchedule(warmup_steps=5),
            epochs=5,
            batch_size=4,
        ),
        augment=Augment(elastic=False, colour_shift=0.3),
        repeats=80 if capture else 8,
        crop_voxels=2_500,
        precision="auto",
        class_balance=0.5,
        calibrate_norms=True,
    )

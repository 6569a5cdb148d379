"""Predict: segments scenes by the 3D network and text alone; no image is read. Source: section 3.4.

Predictions go back from voxels to every point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.artifacts.store import PartReader, PartWriter
from storage.specs.parts import InputFeatures, Network
from storage.specs.stages import Predict
from workers.context import Context
from workers.geometry.voxels import voxelize
from workers.nets import checkpoints
from workers.nets.inputs import as_inputs
from workers.nets.minkunet import MinkUNet
from workers.reporting import Pace
from workers.sparse.choose import choose_engine


def run(context: Context) -> None:
    """Writes a label for every point of every scene of the wanted splits.

    Raises:
        SpecInvalid: no scene in these splits, or text of another dimension than the network's.
    """
    spec = context.spec
    assert isinstance(spec, Predict)
    text_part = context.open(context.artifact("text_embeddings"))
    network_part = context.open(context.artifact("network"))
    network = load_network(network_part, context.machine.device)
    dimension = int(network_part.attributes["dimension"])
    text = torch.from_numpy(context.text_embeddings(dimension, "an embedding of the network"))
    scenes = context.chosen_scenes("scenes", spec.splits)
    pace = Pace(context.reporter, "scene", len(scenes))
    for scene in scenes:
        points = context.open(context.artifact("scenes"), scene)
        inputs = {"scenes": points.key, "network": network_part.key, "text_embeddings": text_part.key}
        with context.scene_part("labels", scene, inputs) as part:
            if part is not None:
                _segment(points, network, text, part, spec.voxelisations)
        pace.advance(free=part is None)
    about = context.artifact("scenes").attributes
    context.publish(
        "labels",
        splits={scene: about["splits"][scene] for scene in scenes},
        label_set=about["label_set"],
        trained_on=context.artifact("network").attributes.get("train_scenes", []),
    )


@dataclass(frozen=True, slots=True)
class Trained:
    """A network as it is used."""

    model: MinkUNet
    """In evaluation mode."""
    voxel_m: float
    """Edge of the voxels that it was trained on, metres."""
    inputs: InputFeatures
    """What it was shown of a voxel's colour."""


def load_network(part: PartReader, device: str) -> Trained:
    """The network of a checkpoint."""
    tensors, about = checkpoints.load(part.file(checkpoints.FILE), expected="network")
    spec = Network.model_validate(about["network"])
    model = MinkUNet(3, int(about["dimension"]), spec.arch, choose_engine(spec.engine))
    model.load_state_dict(tensors)
    return Trained(model.to(device).eval(), float(about["voxel_m"]), about.get("inputs", "plus_half"))


@torch.inference_mode()
def _segment(scene: PartReader, network: Trained, text: Tensor, part: PartWriter, voxelisations: int) -> None:
    """Writes one scene's labels and confidences, the mean over several shifts of the voxel grid."""
    model, voxel_m = network.model, network.voxel_m
    device = next(model.parameters()).device
    points: NDArray[np.float32] = scene.array("points")
    points = points - points.mean(axis=0, dtype=np.float64).astype(np.float32)
    colours = scene.array("colours").astype(np.float32) / np.float32(255)
    total = np.zeros((len(points), len(text)), np.float32)
    for shift in range(voxelisations):
        voxels = voxelize(points + grid_shift(shift) * np.float32(voxel_m), voxel_m)
        coordinates = np.concatenate([np.zeros((voxels.num_voxels, 1), np.int32), voxels.coordinates], axis=1)
        features = as_inputs(torch.from_numpy(voxels.mean(colours)), network.inputs).to(device)
        embeddings = model(torch.from_numpy(coordinates).to(device), features)
        total += torch.softmax(embeddings @ text.to(device).T, dim=1).cpu().numpy()[voxels.point_to_voxel]
    part.write("labels", total.argmax(axis=1).astype(np.int16))
    part.write("confidence", (total.max(axis=1) / voxelisations).astype(np.float16))
    part.set(
        num_points=len(points),
        point_order=scene.attributes["point_order"],
        split=scene.attributes["split"],
        label_set=scene.attributes["label_set"],
    )


def grid_shift(index: int) -> NDArray[np.float32]:
    """(3,) in 0..1: the index-th of a sequence of shifts, in voxels, that fills the cube evenly.

    Rooms are often aligned with their own coordinates: a floor at exactly 0 would fall on the border between two layers
    of voxels and into both, as no shifted training scene does. Points are centred first, and then shifted.
    """
    return np.modf((index + 0.5) * np.array([0.8191725, 0.6710436, 0.5497005]))[0].astype(np.float32)

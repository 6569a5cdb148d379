"""What a network is fed of its voxels' colours: the three forms that networks here and elsewhere were trained with."""

from __future__ import annotations

from torch import Tensor

from storage.specs.parts import InputFeatures


def as_inputs(colours: Tensor, inputs: InputFeatures) -> Tensor:
    """(V,3) what a network takes, of voxels' mean colours (V,3) in 0..1.

    `plus_half` is never 0, so that an occupied voxel of any colour differs from an empty one: centred on 0, as with
    `signed`, a grey surface is invisible to the first convolution.

    Source: `signed`, 2c - 1, is the authors' code (`input_color`), `ones` OpenScene's; `plus_half` is ours.
    """
    if inputs == "ones":
        return colours.new_ones(colours.shape)
    return colours + 0.5 if inputs == "plus_half" else 2 * colours - 1

"""Import a checkpoint: a file of OpenScene's or 3DSS-VLG's trainers becomes an artifact like that of `distill`.

The file lies in the folder of weights that the operator named (VLGLAB_WEIGHTS) and is an input by its content. Nothing
of what it was trained on is known. Knows no name of a tensor: `workers.nets.published` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from storage.artifacts.store import WHOLE
from storage.errors import InvalidInput, NotFound
from storage.specs.stages import ImportCheckpoint
from workers.context import Context
from workers.encoders.file_digests import digest_of_files

_NAMED_AT_MOST = 20


def external_inputs(context: Context) -> Mapping[str, str]:
    """The digest of the checkpoint's file.

    Raises:
        NotFound: no such file in the folder of weights; names what lies there.
    """
    return {"weights": digest_of_files({"checkpoint": _path(context)})}


def run(context: Context) -> None:
    """Publishes the output `network`.

    Raises:
        InvalidInput: the file is no checkpoint of tensors alone, or its tensors are not exactly those of a network
            known here: those that are missing, surplus, of another shape or not finite are named.
        SpecInvalid: the network's embeddings have another dimension than the text's.
    """
    from workers.nets import checkpoints, published  # with torch: a key that is published already needs none

    spec = _spec(context)
    found, tensors = published.read_checkpoint(_path(context), "network")
    if "text_embeddings" in context.inputs:
        context.text_embeddings(found.dimension, f"the network of {spec.weights}")
    if found.remark:
        context.reporter.note(f"{spec.weights}: {found.remark}")
    with context.scene_part("network", WHOLE, context.external) as part:
        if part is not None:
            published.save_imported(
                part.path(checkpoints.FILE),
                found,
                tensors,
                voxel_m=spec.voxel_m,
                inputs=spec.colours,
                engine=spec.engine,
            )
            part.set(what="network", arch=found.arch, voxel_m=spec.voxel_m, dimension=found.dimension)
    about = {name: value for name, value in asdict(found).items() if name not in ("what", "hidden", "left_out")}
    context.publish(
        "network",
        voxel_m=spec.voxel_m,
        colours=spec.colours,
        train_scenes=[],
        imported_from=spec.weights,
        left_out=list(found.left_out),
        **about,
    )


def _path(context: Context) -> Path:
    """The checkpoint's file; the spec's type keeps its name inside the folder."""
    folder, name = context.machine.weights, _spec(context).weights
    path = folder / name
    if path.is_dir():
        raise InvalidInput(f"got {name}, a folder in the folder of weights {folder}, expected a checkpoint's file")
    if not path.is_file():
        there = sorted(file.name for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
        more = f" and {len(there) - _NAMED_AT_MOST} more" if len(there) > _NAMED_AT_MOST else ""
        raise NotFound(
            f"no file {name} in the folder of weights {folder}, which holds: "
            f"{', '.join(there[:_NAMED_AT_MOST]) or 'no file'}{more}; put the checkpoint there (VLGLAB_WEIGHTS) and "
            "name it in the field `weights`"
        )
    return path


def _spec(context: Context) -> ImportCheckpoint:
    assert isinstance(context.spec, ImportCheckpoint)
    return context.spec

"""Import features: fused features that somebody else computed become embeddings like those of `extract`.

The files lie in the folder of a dataset of kind `features` and are an input by their content. A file says by number
alone of which points of a scene it is: that the scene's points are in the order of the fusion is taken on trust.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from storage import keys
from storage.artifacts.checking import Norms
from storage.artifacts.store import PartReader, PartWriter
from storage.errors import DatasetInvalid, NotFound, SpecInvalid, naming_scene
from storage.specs.feature_stages import ImportFeatures
from workers.context import Context
from workers.reporting import Pace
from workers.scenes import feature_files
from workers.scenes.feature_files import Fused
from workers.stages.typed import computed_in, write_embeddings

KIND = "features"
_NAMED_AT_MOST = 10


def external_inputs(context: Context) -> Mapping[str, str]:
    """The digest of the names and the content of the files of every scene that is imported.

    Raises:
        SpecInvalid: the dataset is none of features.
        NotFound: a scene has no file, and the spec does not say to leave it out; or none has.
    """
    files = _files(context)
    assert context.dataset is not None
    found = feature_files.fingerprints(context.dataset.root, files, context.machine.cache)
    return {"features": keys.digest(sorted(found.items()))}


def run(context: Context) -> None:
    """Publishes the output `embeddings`, one part a scene.

    Raises:
        DatasetInvalid: a file cannot be read, or is of another number of points than its scene; the error names both.
    """
    spec, files, dataset = _spec(context), _files(context), context.dataset
    assert dataset is not None
    fingerprints = feature_files.fingerprints(dataset.root, files, context.machine.cache)
    scenes = context.artifact("scenes")
    missing = [scene for scene in context.scenes("scenes", spec.splits) if scene not in files]
    if missing:
        context.reporter.note(f"left out {len(missing)} scenes that have no file: {_few(missing)}")
    pace = Pace(context.reporter, "scene", len(files))
    covered, dimensions = 0, dict[int, str]()
    for scene, paths in sorted(files.items()):
        points = context.open(scenes, scene)
        with context.scene_part("embeddings", scene, {"scenes": points.key, "features": fingerprints[scene]}) as part:
            if part is not None:
                with naming_scene(scene):
                    _write(context, points, paths, part)
        made = context.latest("embeddings").attributes
        covered += made["num_covered"]
        dimensions.setdefault(made["dimension"], scene)
        pace.advance(free=part is None)
    if len(dimensions) != 1:
        told = ", ".join(f"{dimension} in scene {scene}" for dimension, scene in sorted(dimensions.items()))
        raise DatasetInvalid(f"the files have embeddings of different dimensions: {told}")
    context.reporter.note("that the scenes' points are in the order of the fusion is taken on trust: no file says it")
    context.publish(
        "embeddings",
        splits={scene: scenes.attributes["splits"][scene] for scene in files},
        dimension=next(iter(dimensions)),
        num_covered=covered,
        encoder={"name": spec.encoder},
        encoder_title=f"{spec.encoder} (imported)",
        imported_from=dataset.name,
        dataset=scenes.attributes.get("dataset"),
        **_type_said(spec),
    )


def _files(context: Context) -> dict[str, list[Path]]:
    """Scene -> its files, for the scenes that are imported."""
    spec, dataset = _spec(context), context.dataset
    if dataset is None or dataset.kind != KIND:
        got = "none" if dataset is None else f"{dataset.name!r} of kind {dataset.kind!r}"
        raise SpecInvalid(f"got the dataset {got}, expected one of kind {KIND!r}: the folder of the fused features")
    scenes = context.chosen_scenes("scenes", spec.splits)
    found, strangers = feature_files.find(dataset.root, scenes)
    missing = [scene for scene in scenes if scene not in found]
    if missing and (spec.missing == "refuse" or not found):
        raise NotFound(
            f"{len(missing)} of {len(scenes)} scenes have no file in {dataset.root} ({_few(missing)}); it has "
            f"{len(strangers)} files that are of no scene ({_few(strangers)}). Files are named <scene>_0.pt, "
            "<scene>.pt or <scene>.npy; missing: leave_out goes on without such scenes",
            scene=missing[0],
        )
    return found


def _write(context: Context, points: PartReader, paths: list[Path], part: PartWriter) -> None:
    """Reads one scene's files and writes what they hold together."""
    from workers.nets import openscene_files  # with torch: a key that is published already needs none

    num_points = int(points.attributes["num_points"])
    dtype = computed_in(_spec(context).dtype)

    def pieces() -> Iterator[tuple[str, Fused]]:
        for path in paths:
            context.check()
            read = openscene_files.read if path.suffix == ".pt" else feature_files.read_npy
            yield path.name, read(path, num_points, dtype)

    fused = next(pieces())[1] if len(paths) == 1 else feature_files.join(points.scene, num_points, pieces())
    if not len(fused.point_index):
        raise DatasetInvalid(f"scene {points.scene}: its files hold not one embedding", scene=points.scene)
    views = np.zeros(num_points, np.uint16)
    views[fused.point_index] = 1
    write_embeddings(part, fused.embeddings, _spec(context).dtype)
    part.write("point_index", fused.point_index)
    part.write("views", views)
    part.set(
        num_points=num_points,
        num_covered=len(fused.point_index),
        dimension=fused.embeddings.shape[1],
        point_order=points.attributes["point_order"],
        split=points.attributes["split"],
        encoder={"name": _spec(context).encoder},
        norms=Norms.of(fused.embeddings).as_attribute(),
        files=[path.name for path in paths],
        views_known=False,
        **_type_said(_spec(context)),
    )


def _type_said(spec: ImportFeatures) -> dict[str, str]:
    """The attribute that says the type; float16 goes without, as it did before there were others."""
    return {} if spec.dtype == "float16" else {"dtype": spec.dtype}


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return (", ".join(names[:_NAMED_AT_MOST]) or "none") + more


def _spec(context: Context) -> ImportFeatures:
    assert isinstance(context.spec, ImportFeatures)
    return context.spec

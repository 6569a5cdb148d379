"""Ingest: a raw dataset into `scenes` and, apart, `ground_truth`. Source: section 4.1.

Scene-level labels are the classes present in the ground truth, or what the capture's own list says. Later stages read
them from `scenes`; the per-point labels go to an artifact of their own, which only evaluation, report and the
supervised bound may name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage import keys
from storage.errors import DatasetInvalid, InvalidInput, VlglabError
from storage.labels import label_set
from storage.specs.stages import Ingest, Inspect
from workers.context import Context, RawDataset
from workers.reporting import Pace
from workers.scenes import choose, frames
from workers.scenes.scene import Scene, SceneRef, SceneSource


def external_inputs(context: Context) -> Mapping[str, str]:
    """The raw dataset's fingerprint: a digest of every scene's id, split and files.

    Raises:
        InvalidInput: a scene cannot be taken, and `bad_scenes` refuses such; told before the first is read.
    """
    refs = source_of(context).scenes()
    if _spec(context).bad_scenes == "refuse":
        _refuse_faults(refs)
    return fingerprint_of(refs)


def fingerprint_of(refs: Sequence[SceneRef]) -> Mapping[str, str]:
    """The raw dataset as an input: a digest of every scene's id, split and files."""
    return {"raw": keys.digest([[ref.id, ref.split, ref.fingerprint] for ref in refs])}


def _refuse_faults(refs: Sequence[SceneRef]) -> None:
    for ref in refs:
        if ref.fault is not None:
            raise ref.fault


def run(context: Context) -> None:
    """Reads every scene, one part a scene; scenes that an earlier run ingested are reused.

    Raises:
        InvalidInput: a scene cannot be read, and `bad_scenes` refuses such; or not one can be read.
    """
    source = source_of(context)
    refs = source.scenes()
    if _spec(context).bad_scenes == "refuse":
        _refuse_faults(refs)
    pace = Pace(context.reporter, "scene", len(refs))
    labelled: dict[str, bool] = {}
    first_fault: InvalidInput | None = None
    for ref in refs:
        try:
            if ref.fault is not None:
                raise ref.fault
            labelled[ref.id] = _ingest(context, source, ref)
        except InvalidInput as error:
            if _spec(context).bad_scenes == "refuse":
                raise
            first_fault = first_fault or error
            context.reporter.note(f"left out the scene {ref.id}, bad_scenes says so: {error.message}")
        pace.advance()
    if first_fault is not None and not labelled:
        raise first_fault
    splits = {ref.id: ref.split for ref in refs if ref.id in labelled}
    names = {"label_set": _spec(context).label_set, "dataset": dataset_of(context).name}
    context.publish("scenes", splits=splits, **names)
    with_truth = {scene: split for scene, split in splits.items() if labelled[scene]}
    context.publish("ground_truth", splits=with_truth, **names)
    if not with_truth:
        context.reporter.note("the dataset has no per-point ground truth: nothing can be scored")


def _ingest(context: Context, source: SceneSource, ref: SceneRef) -> bool:
    """Writes one scene's two parts; returns whether it has ground truth.

    The split is an input: it stands in the parts, and decides whether a scene may lack its scene-level labels.
    """
    inputs = {"raw": ref.fingerprint, "split": ref.split}
    scene: Scene | None = None
    with context.scene_part("scenes", ref.id, inputs) as part:
        if part is not None:
            scene = _load(source, ref.id)
            order = keys.point_order(scene.points_m)
            part.write("points", scene.points_m)
            part.write("colours", scene.colours)
            intrinsics, poses = frames.frame_matrices(scene.frames)
            part.write("intrinsics", intrinsics)
            part.write("camera_to_world", poses)
            part.set(
                num_points=len(scene.points_m),
                point_order=order,
                split=ref.split,
                label_set=_spec(context).label_set,
                scene_labels=list(_present(context, scene)),
                frames=frames.describe_frames(scene.frames),
                skipped_frames=dict(scene.skipped),
                has_ground_truth=scene.labels is not None,
            )
            for reason, count in {**scene.skipped, **scene.notes}.items():
                context.reporter.note(f"scene {ref.id}: {reason}: {count}")
    points = context.store.part(keys.scene_key(context.spec, "scenes", {**inputs, "scene": ref.id}))
    assert points is not None
    if not points.attributes["has_ground_truth"]:
        return False
    with context.scene_part("ground_truth", ref.id, inputs) as part:
        if part is not None:
            labels = (scene or _load(source, ref.id)).labels
            assert labels is not None
            part.write("labels", labels)
            part.set(
                num_points=len(labels),
                point_order=points.attributes["point_order"],
                split=ref.split,
                label_set=_spec(context).label_set,
            )
    return True


def _load(source: SceneSource, scene_id: str) -> Scene:
    """Reads a scene; whatever is wrong with it, the error names it."""
    try:
        return source.load(scene_id)
    except VlglabError as error:
        error.scene = error.scene or scene_id
        raise


def _present(context: Context, scene: Scene) -> tuple[int, ...]:
    """The scene-level labels, checked against the label set."""
    classes = label_set(_spec(context).label_set).classes
    if not scene.scene_labels and scene.labels is None and scene.split == "test":
        return ()  # a benchmark's hidden labels: the scene can be predicted, not filtered or scored
    if not scene.scene_labels:
        raise DatasetInvalid(
            f"scene {scene.id}: no scene-level labels; list the classes present in scene_labels.txt", scene=scene.id
        )
    if max(scene.scene_labels) >= len(classes) or min(scene.scene_labels) < 0:
        raise DatasetInvalid(
            f"scene {scene.id}: got the labels {scene.scene_labels}, expected 0..{len(classes) - 1} of the label set",
            scene=scene.id,
        )
    return scene.scene_labels


def _spec(context: Context) -> Ingest:
    assert isinstance(context.spec, Ingest)
    return context.spec


def dataset_of(context: Context) -> RawDataset:
    """The raw dataset that the run reads."""
    assert context.dataset is not None, "a run of a stage that needs a dataset is created with one"
    return context.dataset


def source_of(context: Context) -> SceneSource:
    """The source that the run's dataset names; SynthRooms makes its rooms on first use."""
    dataset, spec = dataset_of(context), context.spec
    assert isinstance(spec, Ingest | Inspect)

    def making(done: int, total: int) -> None:
        context.reporter.progress(unit="room", done=done, total=total, message="making SynthRooms")
        context.check()

    return choose.open_source(
        choose.Opening(
            kind=dataset.kind,
            options=choose.options_of(dataset.kind, dataset.options),
            root=dataset.root,
            label_set=spec.label_set,
            fusion=spec.fusion,
            cache_dir=context.machine.cache,
            threads=context.machine.threads,
        ),
        making,
    )

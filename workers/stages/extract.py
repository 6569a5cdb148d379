"""Extract: embeds each frame and lifts its pixels to the points that it sees, frame by frame.

Source: section 3.1, 2D embeddings extraction: project, gather, mean over views. Pixels never touch the disk: only the
embeddings of visible points are gathered, and only their means are stored.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.checking import Norms
from storage.artifacts.store import PartReader, PartWriter
from storage.errors import FrameInvalid, NothingVisible
from storage.specs.stages import Extract
from workers.context import Context
from workers.encoders import choose
from workers.encoders.encoder import FileEncoder, ImageEncoder
from workers.geometry import camera, lifting, visibility
from workers.reporting import Pace
from workers.scenes import frames
from workers.scenes.scene import Frame
from workers.stages.typed import computed_in, write_embeddings


def external_inputs(context: Context) -> Mapping[str, str]:
    """The digest of the image encoder's weights."""
    return {"weights": choose.weights_digest(_spec(context).encoder, context.machine.weights)}


def run(context: Context) -> None:
    """Writes the 2D-projected embeddings of every scene of the wanted splits.

    Scenes without a picture are left out, and so are those without a visible point where `blind_scenes` says so.

    Raises:
        NothingVisible: a scene of which no frame sees a point; or not one scene has a picture, or a visible point.
        FrameInvalid: an image that is not the one that was ingested, or cannot be read.
    """
    spec = _spec(context)
    encoder = choose.image_encoder(
        spec.encoder, context.machine.weights, context.machine.threads, context.machine.device
    )
    scenes = _with_pictures(context, context.scenes("scenes", spec.splits))
    pace = Pace(context.reporter, "scene", len(scenes))
    covered = {scene: _lifted(context, encoder, scene, pace) for scene in scenes}
    lifted = [scene for scene in scenes if covered[scene]]
    if scenes and not lifted:
        raise NothingVisible(
            f"not one of the {len(scenes)} scenes with pictures has a visible point; check that poses are "
            "camera-to-world in metres and that depth is in the stated unit",
            scene=scenes[0],
        )
    splits = context.artifact("scenes").attributes["splits"]
    context.publish(
        "embeddings",
        splits={scene: splits[scene] for scene in lifted},
        dimension=encoder.dimension,
        num_covered=sum(covered.values()),
        encoder=spec.encoder.model_dump(),
        encoder_title=encoder.title,
        weights_digest=context.external["weights"],
        preprocessing=_preprocessing(spec, encoder),
        lifting=spec.lifting.model_dump(),
        dtype=spec.dtype,
        dataset=context.artifact("scenes").attributes.get("dataset"),
    )


def _with_pictures(context: Context, scenes: list[str]) -> list[str]:
    """The scenes that have frames; the others are named in the run's events."""
    artifact = context.artifact("scenes")
    without = [scene for scene in scenes if not context.open(artifact, scene).attributes["frames"]]
    if without:
        shown = ", ".join(without[:10]) + (", .." if len(without) > 10 else "")
        context.reporter.note(f"left out {len(without)} scenes that have no picture: {shown}")
    if scenes and len(without) == len(scenes):
        raise NothingVisible("not one scene has a picture, so nothing can be lifted to its points", scene=scenes[0])
    return [scene for scene in scenes if scene not in set(without)]


def _lifted(context: Context, encoder: ImageEncoder, scene: str, pace: Pace) -> int:
    """Sees to one scene's part, and names the scene where next to nothing is visible.

    Returns:
        Its visible points; 0 where the scene is left out.
    """
    points = context.open(context.artifact("scenes"), scene)
    inputs = {"scenes": points.key, **context.external}
    try:
        with context.scene_part("embeddings", scene, inputs) as part:
            if part is not None:
                _lift(context, encoder, points, part)
    except NothingVisible as error:
        if _spec(context).blind_scenes == "refuse":
            raise
        context.reporter.note(f"left out, blind_scenes says so: {error.message}")
        pace.advance()
        return 0
    made = context.latest("embeddings").attributes
    share = made["num_covered"] / made["num_points"]
    if share < visibility.LEAST_VISIBLE:
        context.reporter.note(
            f"scene {scene}: {share:.2%} of its {made['num_points']} points are visible in its frames; its "
            "poses may be misaligned"
        )
    pace.advance(free=part is None)
    return int(made["num_covered"])


def _lift(context: Context, encoder: ImageEncoder, scene: PartReader, part: PartWriter) -> None:
    """Embeds one scene's frames and writes the mean over views of every covered point."""
    spec = _spec(context)
    points = scene.array("points")
    total = lifting.Accumulator(len(points), encoder.dimension)
    all_frames = frames.frames_from(
        scene.attributes["frames"], scene.array("intrinsics"), scene.array("camera_to_world")
    )
    used = []
    for frame in all_frames:
        context.check()
        try:
            count = _add_frame(context, encoder, points, frame, total)
        except FrameInvalid as error:
            raise FrameInvalid(
                f"scene {scene.scene}, frame {frame.name}: {error.message}", scene=scene.scene
            ) from error
        used.append({"frame": frame.name, "image_digest": frame.image_digest, "points": count})
    lifted = total.mean(dtype=computed_in(spec.dtype))
    if not len(lifted.point_index):
        raise NothingVisible(
            f"scene {scene.scene}: not one of {len(points)} points is visible in any of {len(all_frames)} frames; "
            "check that poses are camera-to-world in metres, that depth is in the stated unit, and that both "
            "are of this scene; blind_scenes: leave_out (extract.blind_scenes of a recipe) goes on without such scenes",
            scene=scene.scene,
        )
    part.set(dtype=spec.dtype)
    write_embeddings(part, lifted.embeddings, spec.dtype)
    part.write("point_index", lifted.point_index)
    part.write("views", lifted.views)
    part.set(
        num_points=len(points),
        num_covered=len(lifted.point_index),
        point_order=scene.attributes["point_order"],
        split=scene.attributes["split"],
        encoder=spec.encoder.model_dump(),
        encoder_title=encoder.title,
        weights_digest=context.external["weights"],
        preprocessing=_preprocessing(spec, encoder),
        lifting=spec.lifting.model_dump(),
        norms=Norms.of(lifted.embeddings).as_attribute(),
        frames=used,
    )


def _add_frame(
    context: Context, encoder: ImageEncoder, points: NDArray[np.float32], frame: Frame, total: lifting.Accumulator
) -> int:
    """Adds what one frame sees; returns how many points it saw."""
    assert context.dataset is not None
    spec = _spec(context)
    options = spec.lifting
    size = (options.width, options.height)
    depth_m = frames.read_depth_m(context.dataset.root, frame)
    intrinsics = camera.scale_intrinsics(frame.intrinsics, frame.image_size, size)
    seen = visibility.visible(points, depth_m, intrinsics, frame.camera_to_world, options)
    if not len(seen.point_index):
        return 0
    root = context.dataset.root
    if spec.shrink_images:
        image = np.asarray(camera.resize_nearest(frames.read_image(root, frame), size), np.uint8)
        embedded = encoder.embed_pixels(image, seen.rows, seen.columns, size)
    elif isinstance(encoder, FileEncoder):
        embedded = encoder.embed_encoded(frames.read_encoded(root, frame), seen.rows, seen.columns, size)
    else:
        embedded = encoder.embed_pixels(frames.read_image(root, frame), seen.rows, seen.columns, size)
    total.add(seen.point_index, embedded)
    return len(seen.point_index)


def _preprocessing(spec: Extract, encoder: ImageEncoder) -> dict[str, object]:
    """What became of a picture before and after the network."""
    shrunk = {"shrunk_to": [spec.lifting.width, spec.lifting.height]} if spec.shrink_images else {}
    return {**shrunk, **encoder.preprocessing}


def _spec(context: Context) -> Extract:
    assert isinstance(context.spec, Extract)
    return context.spec

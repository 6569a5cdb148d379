"""Verify: whether an artifact is what was published, and whether embeddings can be what they say they are.

A verification publishes nothing and is never taken from the store: it is of a moment. What it found is told through
the reporter, which writes it beside embeddings, and each fault is an event of the run. The run fails where there are
any.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from storage.artifacts import checking, comparing
from storage.artifacts.store import ArtifactManifest, PartEntry, scene_of
from storage.errors import RunStopped, StoreCorrupt, StoreError, VlglabError
from storage.specs.feature_stages import Verify
from workers.context import Context
from workers.reporting import Pace
from workers.stages.again import make_again

_NOTED = 200
"""Most faults that become events; all are counted."""


def run(context: Context) -> None:
    """Checks the input `artifact`: its manifest, every file, every value, and the points that embeddings are of.

    The scenes are those of the input, or else those that the embeddings were made from, where these are in the store.

    Raises:
        StoreCorrupt: there are faults; the message has the first of them.
    """
    artifact = context.artifact("artifact")
    found = checking.manifest_faults(context.store, artifact.key, context.recorded.get("artifact"))
    for fault in found:
        context.reporter.note(fault)
    if artifact.kind == "embeddings":
        covered, said = _check_embeddings(context, artifact, found)
    else:
        covered, said = None, _check_parts(context, artifact, found)
    context.reporter.verified(artifact.key, found, covered if not found else None)
    if found:
        more = f"; {len(found) - 1} more faults are in the run's events" if len(found) > 1 else ""
        raise StoreCorrupt(f"{found[0]}{more}")
    context.reporter.note(said)


def _check_parts(context: Context, artifact: ArtifactManifest, found: list[str]) -> str:
    """Checks every part of an artifact and adds its faults to those found; what is said where there are none."""
    pace = Pace(context.reporter, "part", len(artifact.parts))
    for entry in artifact.parts:
        found += _noted(context, checking.part_faults(context.store, artifact, entry), len(found))
        pace.advance()
    return (
        f"verified {len(artifact.parts)} parts of {artifact.key} ({artifact.kind}): every file, shape and value is as "
        "it was published"
    )


def _check_embeddings(context: Context, artifact: ArtifactManifest, found: list[str]) -> tuple[int, str]:
    """As `_check_parts`, with what only embeddings have; the points that they cover, too."""
    scenes = _scenes(context, artifact)
    covered, checked, sound = 0, 0, list[str]()
    pace = Pace(context.reporter, "scene", len(artifact.parts))
    for entry in artifact.parts:
        faults = checking.part_faults(context.store, artifact, entry)
        if not faults:
            covered += _covered(context, entry)
            line = None if scenes is None else scene_of(scenes, entry.scene)
            faults = [] if line is None else _order_faults(context, entry, line)
            checked += line is not None
        if not faults:
            sound.append(entry.scene)
        found += _noted(context, faults, len(found))
        pace.advance()
    if len(sound) == len(artifact.parts):
        found += _noted(context, checking.coverage_faults(artifact, covered), len(found))
    found += _noted(context, _sample_faults(context, artifact, sound), len(found))
    return covered, (
        f"verified {len(artifact.parts)} scenes of {artifact.key}: every file, shape, value and norm is as it was "
        f"published; the points of {checked} scenes were at hand, and in their order"
    )


def _noted(context: Context, faults: Sequence[str], before: int) -> Sequence[str]:
    """Faults, the first of which become events."""
    for fault in faults[: max(0, _NOTED - before)]:
        context.reporter.note(fault)
    return faults


def _sample_faults(context: Context, artifact: ArtifactManifest, sound: Sequence[str]) -> list[str]:
    """Makes the embeddings of a few sound scenes again from their images, and says where they come out otherwise.

    Where something that they were made from is not at hand, a note says so: that is no fault of theirs.
    """
    assert isinstance(context.spec, Verify)
    if context.dataset is None or artifact.stage != "extract":
        return []
    scenes = random.SystemRandom().sample(sound, min(len(sound), context.spec.recompute))
    if not scenes:
        return []
    try:
        made = make_again(context, artifact, scenes, context.machine.scratch / "again")
    except RunStopped:
        raise
    except VlglabError as error:
        context.reporter.note(f"no scene was made again from its images: {error.message}")
        return []
    found = []
    for entry in (part for part in artifact.parts if part.scene in scenes):
        line = made.entry(entry.key)
        published, again = context.store.part(entry.key), made.own_part(entry.key)
        assert published is not None
        assert again is not None
        assert line is not None
        if line.digest != entry.digest and (other := comparing.apart(published, again)):
            found.append(f"the part {entry.key} (scene {entry.scene}), made again from its images: {other}")
    if not found:
        context.reporter.note(f"made again from their images, and equal within rounding: {', '.join(sorted(scenes))}")
    return found


def _scenes(context: Context, artifact: ArtifactManifest) -> ArtifactManifest | None:
    """The scenes that the embeddings are of, where they are at hand."""
    if "scenes" in context.inputs:
        return context.artifact("scenes")
    try:
        found = context.store.manifest(artifact.inputs.get("scenes", ""))
    except StoreError as error:
        context.reporter.note(f"the scenes cannot be read: {error.message}")
        return None
    return found if found is not None and found.kind == "scenes" else None


def _covered(context: Context, entry: PartEntry) -> int:
    """Points of a sound part that have an embedding."""
    part = context.store.part(entry.key)
    return 0 if part is None else len(part.array("point_index"))


def _order_faults(context: Context, entry: PartEntry, line: PartEntry) -> list[str]:
    """What `checking.order_faults` says of a sound part; points that are gone or damaged are a fault too."""
    try:
        part, points = context.store.part(entry.key), context.store.part(line.key)
        if part is None or points is None:
            gone = entry.key if part is None else line.key
            return [f"the part {gone} (scene {entry.scene}) is missing from the store"]
        return checking.order_faults(part, points)
    except StoreError as error:
        return [error.message]

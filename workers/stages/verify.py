"""Verify: whether published embeddings are what was published, and can be what they say they are.

A verification publishes nothing and is never taken from the store: it is of a moment. What it found is told through
the reporter, which writes it beside the artifact, and each fault is an event of the run. The run fails where there are
any.
"""

from __future__ import annotations

from storage.artifacts import checking
from storage.artifacts.store import ArtifactManifest, PartEntry, scene_of
from storage.errors import StoreCorrupt, StoreError
from workers.context import Context, Pace

_NOTED = 200
"""Most faults that become events; all are counted."""


def run(context: Context) -> None:
    """Checks the input `embeddings`: its manifest, every file, every value, and the points that it is of.

    The scenes are those of the input, or else those that the embeddings were made from, where these are in the store.

    Raises:
        StoreCorrupt: there are faults; the message has the first of them.
    """
    artifact = context.artifact("embeddings")
    found = checking.manifest_faults(context.store, artifact.key, context.recorded.get("embeddings"))
    for fault in found:
        context.reporter.note(fault)
    scenes = _scenes(context, artifact)
    covered, checked = 0, 0
    pace = Pace(context.reporter, "scene", len(artifact.parts))
    for entry in artifact.parts:
        faults = checking.part_faults(context.store, artifact, entry)
        if not faults:
            covered += _covered(context, entry)
            line = None if scenes is None else scene_of(scenes, entry.scene)
            faults = [] if line is None else _order_faults(context, entry, line)
            checked += line is not None
        for fault in faults[: max(0, _NOTED - len(found))]:
            context.reporter.note(fault)
        found += faults
        pace.advance()
    context.reporter.verified(artifact.key, found, covered if not found else None)
    if found:
        more = f"; {len(found) - 1} more faults are in the run's events" if len(found) > 1 else ""
        raise StoreCorrupt(f"{found[0]}{more}")
    context.reporter.note(
        f"verified {len(artifact.parts)} scenes of {artifact.key}: every file, shape, value and norm is as it was "
        f"published; the points of {checked} scenes were at hand, and in their order"
    )


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

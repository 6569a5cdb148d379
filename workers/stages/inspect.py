"""Inspect: what a raw dataset holds, scene by scene, before anything costly is computed. Source: none; issue 3.

Writes `scenes.json`, a list with what `workers.scenes.inspect` reports of each scene.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from storage.artifacts.store import WHOLE
from storage.labels import label_set
from storage.specs.stages import Inspect
from workers.context import Context
from workers.reporting import Pace
from workers.scenes.inspect import inspect_scene, without_pictures
from workers.stages import ingest

REPORTS = "scenes.json"


def external_inputs(context: Context) -> Mapping[str, str]:
    """The raw dataset's fingerprint; a scene that cannot be taken enters with its fault."""
    return ingest.fingerprint_of(ingest.source_of(context).scenes())


def run(context: Context) -> None:
    """Inspects every scene; one that cannot be taken or read becomes a line of the report."""
    spec = context.spec
    assert isinstance(spec, Inspect)
    source = ingest.source_of(context)
    refs = source.scenes()
    pace = Pace(context.reporter, "scene", len(refs))
    found = []
    for ref in refs:
        found.append(inspect_scene(source, ref, spec.lifting, label_set(spec.label_set), most_frames=spec.max_frames))
        pace.advance()
    reports = without_pictures(found)
    for report in reports:
        for line in (*report.warnings, *filter(None, [report.error])):
            context.reporter.note(line)
    with context.scene_part("inspection", WHOLE, context.external) as part:
        if part is not None:
            part.path(REPORTS).write_text(
                json.dumps([report.to_dict() for report in reports], indent=2) + "\n", encoding="utf-8"
            )
    context.publish("inspection", dataset=ingest.dataset_of(context).name, num_scenes=len(reports))

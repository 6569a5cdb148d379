"""Stage name -> the module that runs it: the only list. A module is imported when its stage runs, not before.

A stage module has `run(context)`, and, where its spec is `external`, `external_inputs(context)`: digests of what it
reads from outside the store, computed without torch. One whose outputs have their keys already has `output_keys`; what
it has to say where all of these are published, and it is not run, it says in `found`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from storage import keys
from storage.errors import UnknownName
from workers.context import Context

MODULES: Mapping[str, str] = {
    "ingest": "workers.stages.ingest",
    "inspect": "workers.stages.inspect",
    "embed_labels": "workers.stages.embed_labels",
    "extract": "workers.stages.extract",
    "import_features": "workers.stages.import_features",
    "verify": "workers.stages.verify",
    "pseudo_label": "workers.stages.pseudo_label",
    "specialize": "workers.stages.specialize",
    "distill": "workers.stages.distill",
    "supervise": "workers.stages.supervise",
    "import_checkpoint": "workers.stages.import_checkpoint",
    "predict": "workers.stages.predict",
    "evaluate": "workers.stages.evaluate",
    "report": "workers.stages.report",
    "pull": "workers.stages.pull",
    "repair": "workers.stages.repair",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """The functions of a stage."""

    run: Callable[[Context], None]
    external_inputs: Callable[[Context], Mapping[str, str]]
    output_keys: Callable[[Context], Mapping[str, str]]
    """Output -> the key that it will have."""
    found: Callable[[Context], None]
    """Called in place of `run` where everything is published already."""


def load(name: str) -> Stage:
    """The stage of that name, its module imported.

    Raises:
        UnknownName: there is none.
    """
    if name not in MODULES:
        raise UnknownName.among("stage", name, MODULES)
    module = importlib.import_module(MODULES[name])
    named = getattr(module, "output_keys", computed_keys)
    external, found = getattr(module, "external_inputs", _nothing), getattr(module, "found", _silent)
    return Stage(module.run, external, named, found)


def computed_keys(context: Context) -> Mapping[str, str]:
    """Output -> its key, of a stage that makes everything itself."""
    return {name: keys.artifact_key(context.spec, name, context.input_keys()) for name in context.spec.outputs}


def _nothing(_context: Context) -> Mapping[str, str]:
    return {}


def _silent(_context: Context) -> None:
    return None

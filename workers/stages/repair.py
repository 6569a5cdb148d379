"""Repair: the files of a published artifact that are damaged or gone are fetched anew from a store that has them.

What is published never changes: a file is replaced only by the bytes that its digest names, by one rename.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage.errors import NotFound
from storage.specs.outside import Repair
from workers.context import Context
from workers.copying import Mender, taking_store
from workers.sources import Source


def external_inputs(context: Context) -> Mapping[str, str]:
    """Nothing: what this run does depends on what is damaged, so it is never cached."""
    taking_store(context)
    return {}


def run(context: Context) -> None:
    """Looks at every file of every part, and fetches those that are not what was published.

    Raises:
        NotFound: the artifact is not here, or the source has not what is missing.
        StoreCorrupt: the source has other bytes: a digest here says what was published.
        StoreUnwritable: the disk is full, or read only.
        SourceRefused, SourceUnreachable: it does not give it.
    """
    spec = context.spec
    assert isinstance(spec, Repair)
    with Source(spec.source, context.machine.sources, spec.connections, context.check) as source:
        content = source.manifest(spec.artifact)
        mender = Mender(context, source, context.machine.scratch / "files")
        manifest = mender.artifact(spec.artifact, content)
        if manifest is None:
            raise NotFound(
                f"the artifact {spec.artifact} is not in this store; `vlglab features pull` fetches it whole"
            )
        mended = mender.parts(manifest)
    context.reporter.note(
        f"{mended} files were not what was published and are now" if mended else "nothing was damaged"
    )

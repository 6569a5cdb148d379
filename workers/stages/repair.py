"""Repair: the files of a published artifact that are damaged or gone are fetched anew, or made again.

What is published never changes: a file is replaced only by the bytes that its digest names, by one rename. What was
made again and is not the same to the byte becomes an artifact of another key, with the sound parts of the damaged one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

from storage import keys
from storage.artifacts import checking, part_files
from storage.artifacts.manifests import decode_part, encode_part
from storage.artifacts.store import ArtifactManifest, PartEntry, counted
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound, SpecInvalid, StoreCorrupt
from storage.specs.outside import Repair
from workers.context import Context
from workers.copying import LocalFiles, Mender, taking_store, writable
from workers.source_leases import reading
from workers.sources import Source
from workers.stages.again import make_again


def external_inputs(context: Context) -> Mapping[str, str]:
    """Nothing: what this run does depends on what is damaged, so it is never cached."""
    taking_store(context)
    return {}


def output_keys(_context: Context) -> Mapping[str, str]:
    """None: it is known only when all was read."""
    return {}


def run(context: Context) -> None:
    """Looks at every file of every part, and mends those that are not what was published.

    Raises:
        NotFound: the artifact is not here, or the source has not what is missing.
        StoreCorrupt: the source has other bytes: a digest here says what was published.
        StoreUnwritable: the disk is full, or read only.
        SourceRefused, SourceUnreachable: it does not give it.
        SpecInvalid, VlglabError: without a source, as `make_again`.
    """
    spec = _spec(context)
    if spec.source is None:
        mended = _make(context, _sound_manifest(context, spec.artifact))
    else:
        with Source(spec.source, context.machine.sources, spec.connections, context.check) as source:
            content = source.manifest(spec.artifact)
            mender = Mender(context, source, context.machine.scratch / "files")
            with reading(source, spec.artifact):
                manifest = mender.artifact(spec.artifact, content)
                if manifest is None:
                    raise _not_here(spec.artifact)
                mended = mender.parts(manifest)
    if mended:
        context.reporter.note(f"{mended} files were not what was published and are now")
    elif not context.published:
        context.reporter.note("nothing was damaged")


def _make(context: Context, manifest: ArtifactManifest) -> int:
    """Makes the damaged parts again; returns how many files took the place of damaged ones."""
    store, scratch = taking_store(context), context.machine.scratch
    damaged = [part for part in manifest.parts if store.part_faults(part)]
    if not damaged:
        return 0
    if manifest.kind not in _spec(context).outputs:
        raise SpecInvalid(f"{manifest.key} is of kind {manifest.kind}, expected {', '.join(_spec(context).outputs)}")
    made = make_again(context, manifest, [part.scene for part in damaged], scratch / "again")
    lines = {part.key: made.entry(part.key) for part in damaged}
    same = [part for part in damaged if lines[part.key] == part]
    mended = Mender(context, LocalFiles(made), scratch / "files").parts(replace(manifest, parts=tuple(same)))
    if others := [part for part in damaged if lines[part.key] != part]:
        _publish_anew(context, manifest, others, made)
    return mended


def _publish_anew(context: Context, manifest: ArtifactManifest, others: Sequence[PartEntry], made: ZarrStore) -> None:
    """Publishes the artifact under another key, some of its parts as they came out when they were made again."""
    anew = {part.key: _adopted(context, manifest, part, made) for part in others}
    parts = tuple(anew.get(part.key, part) for part in manifest.parts)
    key = keys.digest({"again": manifest.key, "parts": [part.digest for part in parts]})
    attributes = {**manifest.attributes, "made_again_of": manifest.key}
    made_again = replace(manifest, key=key, parts=parts, attributes=attributes)
    context.adopt(manifest.kind, counted(context.store, made_again) if "num_covered" in attributes else made_again)
    scenes = ", ".join(part.scene or "its only part" for part in others[:20])
    context.reporter.note(
        f"made again, {len(others)} parts are other bytes than were published ({scenes}): {manifest.key} stays as it "
        f"is, damaged; the artifact {key} has the new parts and those that were sound"
    )


def _adopted(context: Context, manifest: ArtifactManifest, part: PartEntry, made: ZarrStore) -> PartEntry:
    """A part that was made again, published under a key of its own; returns its line."""
    content = made.part_manifest_file(part.key)
    assert content is not None
    about = decode_part(content, f"the manifest of the part {part.key} that was made again")
    about = replace(about, key=keys.digest({"again": part.key, "digest": about.entry().digest}))
    folder = context.machine.scratch / "anew" / about.key
    with writable(folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made.part_path(part.key), folder)
        (folder / part_files.MANIFEST).write_bytes(encode_part(about))
        taking_store(context).adopt(folder, about.entry(), kind=manifest.kind, token=context.token)
    return about.entry()


def _sound_manifest(context: Context, key: str) -> ArtifactManifest:
    """The manifest of an artifact of this store, which must be what was published.

    Raises:
        NotFound: there is none.
        StoreCorrupt: it is damaged: it says how the parts were made.
    """
    store = taking_store(context)
    if not store.has_place(key):
        raise _not_here(key)
    faults = checking.manifest_faults(store, key, context.recorded.get("artifact"))
    manifest = None if faults else store.manifest(key)
    if manifest is None:
        raise StoreCorrupt(f"{faults[0]}; it says how the parts are made: mend it with `--from` a store that has it")
    return manifest


def _not_here(key: str) -> NotFound:
    return NotFound(f"the artifact {key} is not in this store; `vlglab features pull` fetches it whole")


def _spec(context: Context) -> Repair:
    assert isinstance(context.spec, Repair)
    return context.spec

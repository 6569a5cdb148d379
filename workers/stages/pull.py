"""Pull: an artifact of another lab's store becomes one of this store's, under the key that it has there.

Parts that are here already are not fetched; what was fetched before this process died is not fetched again. Each part
is checked whole (`storage.artifacts.copies`) and published by a rename, then the artifact's manifest. Some scenes alone
make an artifact of their own key, for the key names all of them.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping

from storage import keys
from storage.artifacts.manifests import decode_artifact, digest, encode_artifact
from storage.artifacts.store import ArtifactManifest, counted, of_scenes, scene_of
from storage.errors import NotFound, SpecInvalid, StoreCorrupt
from storage.specs.outside import Pull
from workers.context import Context
from workers.copying import Copier, taking_store
from workers.source_leases import reading
from workers.sources import Source

_MANIFEST = "manifest.json"


def external_inputs(context: Context) -> Mapping[str, str]:
    """The digest of the artifact's manifest at the source, which is kept for the rest of the run.

    Raises:
        InvalidInput: a source that is not allowed.
        NotFound: it has no such artifact.
        StoreCorrupt: the manifest is not the one that the spec names, or that the source's own records have.
        SourceRefused, SourceUnreachable: it does not give it.
    """
    spec = _spec(context)
    with Source(spec.source, context.machine.sources, 1, context.check) as source:
        content = source.manifest(spec.artifact)
        _check_digest(spec, content, source)
    context.machine.scratch.mkdir(parents=True, exist_ok=True)
    (context.machine.scratch / _MANIFEST).write_bytes(content)
    return {"manifest": keys.digest_bytes(content)}


def output_keys(context: Context) -> Mapping[str, str]:
    """The one output that this run gives, by the artifact's kind, and its key."""
    manifest = _manifest(context)
    return {manifest.kind: manifest.key}


def found(context: Context) -> None:
    """Notes where what this store has under the artifact's key is not what the source has; it stays."""
    spec, manifest, store = _spec(context), _manifest(context), taking_store(context)
    own = store.manifest_file(manifest.key)
    here = None if own is None else digest(own)
    if spec.scenes is None:
        here = context.recorded.get("artifact", here)
        there = digest((context.machine.scratch / _MANIFEST).read_bytes())
    else:
        there = digest(encode_artifact(counted(store, manifest)))
    if here not in (None, there):
        context.reporter.note(
            f"this store has the artifact {manifest.key} with other bytes than {spec.source}: the BLAKE3 of its"
            f" manifest is {here[:16]}, there {there[:16]}. It stays; `vlglab features diff --store` compares them"
        )


def run(context: Context) -> None:
    """Publishes the artifact as the output of its kind's name.

    Raises:
        NotFound: the source has not all of it.
        StoreCorrupt: what it gives is not what the manifest says.
        StoreUnwritable: the disk is full, or read only.
        QuotaExceeded: the store's quota has no room for it.
        SourceRefused, SourceUnreachable: it does not give it.
    """
    spec, manifest = _spec(context), _manifest(context)
    folder = context.machine.scratch / "parts"
    with Source(spec.source, context.machine.sources, spec.connections, context.check) as source:
        if source.manifest(spec.artifact) != (context.machine.scratch / _MANIFEST).read_bytes():
            raise StoreCorrupt(f"{source.url} gives another manifest of {spec.artifact} than a moment ago; try again")
        copier = Copier(context, source, spec.connections, folder)
        with reading(source, spec.artifact):
            parts = copier.fetch(manifest.kind, manifest.parts)
    manifest = dataclasses.replace(manifest, parts=parts)
    context.pulled_from = {"source": source.url, "artifact": spec.artifact}
    context.adopt(manifest.kind, manifest if spec.scenes is None else counted(context.store, manifest))
    found(context)
    shutil.rmtree(folder, ignore_errors=True)


def _check_digest(spec: Pull, content: bytes, source: Source) -> None:
    """Holds a manifest against what is known of it.

    Raises:
        StoreCorrupt: it is another one.
    """
    got = digest(content)
    for said, whose in (
        (spec.manifest_digest, "this run names"),
        (source.recorded(spec.artifact), "the source's records have"),
    ):
        if said not in (None, got):
            raise StoreCorrupt(
                f"the manifest of {spec.artifact} at {source.url} has the BLAKE3 {got}, {whose} {said}: it was changed"
                " there, or on the way; nothing is published: tell whoever runs it"
            )


def _manifest(context: Context) -> ArtifactManifest:
    """What is to be published: the source's manifest, or one of the chosen scenes."""
    spec = _spec(context)
    taking_store(context)
    where = f"the manifest of {spec.artifact} at {spec.source}"
    manifest = decode_artifact((context.machine.scratch / _MANIFEST).read_bytes(), where)
    if manifest.key != spec.artifact:
        raise StoreCorrupt(f"{where} is that of {manifest.key}; nothing is published: tell whoever runs it")
    if manifest.kind not in spec.outputs:
        kinds = ", ".join(spec.outputs)
        raise SpecInvalid(f"got the artifact {spec.artifact} of kind {manifest.kind}, expected one of: {kinds}")
    if spec.scenes is None:
        return manifest
    return only(manifest, spec.scenes)


def only(manifest: ArtifactManifest, scenes: tuple[str, ...]) -> ArtifactManifest:
    """An artifact of some scenes of another, in its order."""
    wanted = set(scenes)
    for scene in scenes:
        if scene_of(manifest, scene) is None:
            there = ", ".join(manifest.scenes[:20]) or "none"
            raise NotFound(f"the artifact {manifest.key} has no scene {scene!r}; the first of its are: {there}")
    some = of_scenes(manifest, wanted)
    key = keys.digest({"scenes_of": manifest.key, "scenes": [part.scene for part in some.parts]})
    return dataclasses.replace(some, key=key, attributes={**some.attributes, "scenes_of": manifest.key})


def _spec(context: Context) -> Pull:
    assert isinstance(context.spec, Pull)
    return context.spec

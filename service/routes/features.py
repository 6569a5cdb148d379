"""Published artifacts: features to read, what they are made of, and their plain files."""

from __future__ import annotations

import mimetypes
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse

from service import examples, problems
from service.dependencies import Cursor, Limit, TheDatabase, TheStore
from service.routes import files
from service.schemas import Artifact, ArtifactDetail, ArtifactPage, Feature, FeaturePage, Part
from storage.errors import StoreCorrupt
from storage.records import artifacts
from storage.records.artifacts import ArtifactRow
from storage.specs.spec import ArtifactKind

router = APIRouter(tags=["artifacts"], responses=problems.RESPONSES)

Key = Annotated[str, PathParameter(description="An artifact's key.", examples=[examples.ARTIFACT["key"]])]

_ANY_TYPE = {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": ""}}


@router.get("/features", summary="List published features")
def list_features(db: TheDatabase, cursor: Cursor = None, limit: Limit = 100) -> FeaturePage:
    """Per-point embeddings that anybody may read with plain zarr, newest first, with how they were made."""
    page = artifacts.list_artifacts(db, "embeddings", cursor, limit)
    return FeaturePage(items=[_feature(row) for row in page.items], next=page.next)


@router.get("/artifacts", summary="List published artifacts")
def list_artifacts(
    db: TheDatabase, kind: ArtifactKind | None = None, cursor: Cursor = None, limit: Limit = 100
) -> ArtifactPage:
    """Artifacts of one kind or of all, newest first."""
    page = artifacts.list_artifacts(db, kind, cursor, limit)
    return ArtifactPage(items=[Artifact.model_validate(row) for row in page.items], next=page.next)


@router.get("/artifacts/{key}", summary="Read an artifact")
def read_artifact(key: Key, db: TheDatabase, store: TheStore) -> ArtifactDetail:
    """An artifact with its inputs, its parts (one a scene where it is scene-wise) and its plain files."""
    row = artifacts.get(db, key)
    manifest = store.manifest(key)
    if manifest is None:
        raise StoreCorrupt(f"the artifact {key} is recorded, but its manifest is gone from the store; compute it again")
    return ArtifactDetail(
        **asdict(row),
        inputs=dict(manifest.inputs),
        parts=[Part.model_validate(entry) for entry in manifest.parts],
        files=files.files_of(store, key),
    )


@router.get(
    "/artifacts/{key}/files/{name:path}",
    summary="Fetch a plain file of an artifact",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The file, of the type that its name says. A Range header fetches a piece of it (206).",
            "content": _ANY_TYPE,
        },
        206: {"description": "The piece that the Range header asked for.", "content": _ANY_TYPE},
    },
)
def fetch_file(
    key: Key,
    name: Annotated[str, PathParameter(description="A file's name.", examples=[examples.FILE["name"]])],
    db: TheDatabase,
    store: TheStore,
) -> FileResponse:
    """One file that the artifact's manifest lists, such as a picture or a point cloud. It never changes."""
    artifacts.get(db, key)
    path = files.file_path(store, key, name)
    return FileResponse(
        path,
        media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        headers={"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"},
        filename=path.name,
        content_disposition_type="inline",
    )


def _feature(row: ArtifactRow) -> Feature:
    """Published embeddings as they are answered: what `extract` wrote into their attributes has fields of its own."""
    known = {name: row.attributes.get(name) for name in Feature.model_fields if name not in Artifact.model_fields}
    return Feature.model_validate({**asdict(row), **known})

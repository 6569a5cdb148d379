"""Published artifacts: feature stores found and compared, what artifacts are made of, and their plain files."""

from __future__ import annotations

import asyncio
import mimetypes
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse

from service import examples, problems
from service.dependencies import Cursor, Limit, TheDatabase, TheParts, TheStore, whole
from service.routes import files
from service.schemas import (
    Artifact,
    ArtifactDetail,
    ArtifactPage,
    Feature,
    FeatureDetail,
    FeatureDiff,
    FeaturePage,
    FeatureQuery,
    FeatureUser,
    Part,
)
from storage.artifacts import comparing
from storage.artifacts.store import ArtifactStore
from storage.errors import StoreCorrupt
from storage.records import artifacts, features, part_index
from storage.records.database import Database
from storage.records.features import FeatureFilter
from storage.specs.spec import ArtifactKind

router = APIRouter(tags=["artifacts"], responses=problems.RESPONSES)

Key = Annotated[str, PathParameter(description="An artifact's key.", examples=[examples.ARTIFACT["key"]])]

MAX_DIFF_BYTES = 4_000_000_000
"""Bytes of parts that one comparison reads at most."""

_ANY_TYPE = {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": ""}}


@router.get("/features", summary="List feature stores", response_model=FeaturePage)
def list_features(db: TheDatabase, query: Annotated[FeatureQuery, Query()]) -> Response:
    """Per-point embeddings that anybody may read with plain zarr, newest first; each parameter narrows the list."""
    names = FeatureFilter.__dataclass_fields__
    only = FeatureFilter(**{name: getattr(query, name) for name in names})
    page = features.list_features(db, only, query.cursor, query.limit)
    return whole(FeaturePage(items=[Feature.model_validate(_shown(one)) for one in page.items], next=page.next))


@router.get("/features/{key}", summary="Read what is known of a feature store")
def read_feature(key: Key, db: TheDatabase, store: TheStore) -> FeatureDetail:
    """How it was made and by whom, which runs read it, and whether it verifies. Only its manifest is read."""
    story = features.story(db, key)
    manifest = part_index.readable(store, key)
    return FeatureDetail(
        **_shown(story.feature),
        spec=story.spec if manifest is None else dict(manifest.spec),
        inputs=story.inputs if manifest is None else dict(manifest.inputs),
        pulled_from=story.pulled_from,
        users=[FeatureUser.model_validate(user) for user in story.users],
        num_users=story.num_users,
    )


@router.get("/features/{key}/diff", summary="Compare two feature stores")
async def diff_features(
    key: Key,
    with_: Annotated[
        str, Query(alias="with", description="The other one's key.", examples=[examples.FEATURE_DIFF["right"]])
    ],
    parts: TheParts,
    scenes: Annotated[int, Query(ge=1, le=64, description="Most scenes that are opened.")] = 8,
    rows: Annotated[int, Query(ge=1, le=16_384, description="Most rows that are compared of a scene.")] = 2048,
) -> FeatureDiff:
    """Where two feature stores differ in how they were made, and how near their embeddings are on common scenes.

    A sample is read: so many scenes and rows, drawn by chance and always the same, of 4 GB of parts at most;
    `not_read` names the scenes that were left out. One comparison is made at a time. `vlglab features diff --store`
    compares whole stores on the machine where they lie.
    """
    limits = comparing.Limits(scenes, rows, MAX_DIFF_BYTES)
    async with parts.comparing:
        found = await asyncio.to_thread(_compare, parts.db, parts.store, (key, with_), limits)
    return FeatureDiff.model_validate(found, from_attributes=True)


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


def _compare(
    db: Database, store: ArtifactStore, keys: tuple[str, str], limits: comparing.Limits
) -> comparing.Comparison:
    """The comparison of two published feature stores; takes seconds.

    Raises:
        NotFound: one is not published.
        StoreCorrupt, FormatTooNew: one cannot be read.
    """
    for key in keys:
        features.get(db, key)
    left, right = (comparing.Side.of(store, key) for key in keys)
    return comparing.compare(left, right, limits)


def _shown(feature: features.Feature) -> dict[str, Any]:
    """A feature store as it is answered."""
    covered = feature.num_covered
    share = covered / feature.num_points if covered is not None and feature.num_points else None
    return {**asdict(feature), "coverage": share}

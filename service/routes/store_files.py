"""The store's files as they lie there: what plain `zarr` opens over HTTP, and what another lab's service pulls.

The paths are those of a store on a disk, so that a folder that any web server serves is read in the same way.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool

from service import examples, problems
from service.dependencies import TheDatabase, TheParts, TheStore
from service.stored_files import bytes_answer, file_answer
from storage.artifacts.manifests import digest
from storage.errors import NotFound, StoreCorrupt
from storage.records import artifacts, uses

router = APIRouter(prefix="/store", tags=["store"], responses=problems.RESPONSES)

Key = Annotated[str, PathParameter(description="An artifact's key.", examples=[examples.ARTIFACT["key"]])]
PartKey = Annotated[str, PathParameter(description="A part's key.", examples=[examples.ARTIFACT["key"]])]
Shelf = Annotated[str, PathParameter(description="The first two characters of the part's key.", examples=["77"])]
Name = Annotated[
    str, PathParameter(description="A file that the part's manifest lists, or manifest.json.", examples=["zarr.json"])
]

_MANIFEST = {
    "format_version": 1,
    "key": examples.ARTIFACT["key"],
    "kind": "embeddings",
    "stage": "extract",
    "output": "embeddings",
    "spec": {"stage": "extract"},
    "inputs": {"scenes": examples.ARTIFACT["key"]},
    "attributes": {"dimension": 384},
    "parts": [{"scene": "office_1_00", "key": "0b" * 16, "digest": "5c" * 32, "points": 30000, "bytes": 7200000}],
}
_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": ""}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file. Its ETag is its BLAKE3; it never changes.", "content": _BYTES},
    206: {"description": "The piece that the Range header asked for.", "content": _BYTES},
    304: {"description": "If-None-Match names the file as it is."},
}


@router.head("/artifacts/{key}/manifest.json", include_in_schema=False)
@router.get(
    "/artifacts/{key}/manifest.json",
    summary="Read an artifact's manifest",
    response_class=Response,
    responses={
        200: {
            "description": "The manifest as it lies in the store.",
            "content": {"application/json": {"schema": {"type": "object"}, "example": _MANIFEST}},
        },
        304: {"description": "If-None-Match names the manifest as it is."},
    },
)
def read_manifest(key: Key, request: Request, db: TheDatabase, store: TheStore) -> Response:
    """The parts of a published artifact with their keys and digests. Its ETag is its BLAKE3; it never changes.

    Whoever reads an artifact begins here, so that it counts as a use of it.
    """
    artifacts.get(db, key)
    content = store.manifest_file(key)
    if content is None:
        raise StoreCorrupt(f"the artifact {key} is recorded, but its manifest is gone from the store; compute it again")
    uses.note_read(db, key)
    return bytes_answer(request, content, digest(content))


@router.head("/parts/{shelf}/{part}/{name:path}", include_in_schema=False)
@router.get(
    "/parts/{shelf}/{part}/{name:path}", summary="Read a file of a part", response_class=Response, responses=_FILE
)
async def read_file(shelf: Shelf, part: PartKey, name: Name, request: Request, parts: TheParts) -> Response:
    """One file of a part: a Zarr group at `/store/parts/<first two characters>/<key>`, with its manifest beside it."""
    found = None
    if part.startswith(shelf) and len(shelf) == 2:
        async with parts.fetching:
            found = await run_in_threadpool(parts.store.stored, part, name)
    if found is None:
        raise NotFound(f"the store has no file {name!r} of a part {part!r}; its manifest.json lists those there are")
    return file_answer(request, found, name)

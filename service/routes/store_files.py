"""The store's files as they lie there: what plain `zarr` opens over HTTP, and what another lab's service pulls.

The paths are those of a store on a disk, so that a folder that any web server serves is read in the same way.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool

from service import examples, problems
from service.dependencies import Parts, TheDatabase, TheParts, TheStore
from service.stored_files import bytes_answer, file_answer
from storage.artifacts.manifests import digest
from storage.artifacts.store import StoredFile
from storage.errors import NotFound, StoreCorrupt
from storage.records import artifacts, features, uses

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
    recorded = artifacts.get(db, key).manifest_digest
    content = store.manifest_file(key)
    if content is None:
        raise StoreCorrupt(f"the artifact {key} is recorded, but its manifest is gone from the store; compute it again")
    if digest(content) != recorded:
        raise StoreCorrupt(
            f"the manifest of the artifact {key} was changed: its BLAKE3 is {digest(content)[:16]}, {recorded[:16]} "
            "was recorded when it was published; `vlglab features repair --from` mends it"
        )
    uses.note_read(db, key)
    return bytes_answer(request, content, recorded)


@router.head("/parts/{shelf}/{part}/{name:path}", include_in_schema=False)
@router.get(
    "/parts/{shelf}/{part}/{name:path}", summary="Read a file of a part", response_class=Response, responses=_FILE
)
async def read_file(shelf: Shelf, part: PartKey, name: Name, request: Request, parts: TheParts) -> Response:
    """One file of a part: a Zarr group at `/store/parts/<first two characters>/<key>`, with its manifest beside it.

    A file that is gone, or not as long as it was published, is answered with the problem `store_corrupt`. Files of a
    part that did not verify have another ETag and are not to be cached.
    """
    found, doubted = None, False
    if part.startswith(shelf) and len(shelf) == 2:
        async with parts.fetching:
            found, doubted = await run_in_threadpool(_look, parts, part, name)
    if found is None:
        raise NotFound(f"the store has no file {name!r} of a part {part!r}; its manifest.json lists those there are")
    return file_answer(request, found, name, doubted=doubted)


def _look(parts: Parts, part: str, name: str) -> tuple[StoredFile | None, bool]:
    """A file of a part, and whether this did not verify.

    Raises:
        StoreCorrupt: it is gone, or of another length.
    """
    found = parts.store.stored(part, name)
    return found, found is not None and features.is_doubted(parts.db, part)

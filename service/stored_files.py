"""Answers that are files of the store: pieces, conditions, and caches that may keep them for good. Knows no route.

What is published never changes, so a file's BLAKE3 is its ETag and whoever has it need not ask again. Of a part that
did not verify neither is said.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping

from fastapi import Request, Response
from fastapi.responses import FileResponse

from storage.artifacts.store import StoredFile

FOR_GOOD = "private, max-age=31536000, immutable"
"""What caches of one reader may do with it; nobody else's, for it may have taken a token to read."""

_CHUNK_BYTES = 2**20
"""Bytes that are read and sent at once: of 64 KiB the loop takes half of the time."""


class StoredFileResponse(FileResponse):
    """A file that is streamed in large pieces, whole or as a Range header asks."""

    chunk_size = _CHUNK_BYTES


def file_answer(request: Request, file: StoredFile, name: str, *, doubted: bool = False) -> Response:
    """A file of the store, or what a condition of the request asks instead (304).

    Args:
        request: its Range, If-Range and If-None-Match count.
        file: the file.
        name: what its type is told from, and what a browser calls it.
        doubted: whether its part did not verify. Then it is not said to be what was published, and nobody is told that
            what they hold is: it may have been taken when it was damaged.
    """
    headers = _DOUBTED if doubted else _headers(file.digest)
    if not doubted and _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return StoredFileResponse(
        file.path, media_type=_type_of(name), headers=headers, filename=name.rsplit("/", 1)[-1],
        content_disposition_type="inline",
    )  # fmt: skip


def bytes_answer(request: Request, content: bytes, digest: str) -> Response:
    """A small JSON document of the store, with the same headers; BLAKE3 `digest`."""
    headers = _headers(digest)
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


_DOUBTED = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}


def _headers(digest: str) -> dict[str, str]:
    return {"ETag": f'"{digest}"', "Cache-Control": FOR_GOOD, "X-Content-Type-Options": "nosniff"}


def _is_known(request: Request, etag: str) -> bool:
    """Whether the request says that it has the file already (If-None-Match; RFC 9110, 13.1.2)."""
    headers: Mapping[str, str] = request.headers
    said = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    return "*" in said or etag in said


def _type_of(name: str) -> str:
    return "application/json" if name.endswith(".json") else mimetypes.guess_type(name)[0] or "application/octet-stream"

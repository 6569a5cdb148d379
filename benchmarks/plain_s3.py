"""As little of S3's protocol as two libraries need, in memory: a server that costs less than what it is to measure.

    python -m benchmarks.plain_s3 PORT

Puts, whole or in parts, gets, ranges, heads and listings of objects of any bucket; no signature is looked at, and it
forgets everything when it ends. `benchmarks.object_storage` starts it.
"""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

import uvicorn

_PAGE = 1000
"""Keys of one answer to a listing, as S3 gives them."""
_WHEN, _WHEN_LISTED = b"Thu, 01 Jan 2026 00:00:00 GMT", "2026-01-01T00:00:00.000Z"

Answer = tuple[int, bytes, dict[str, bytes]]


class Objects:
    """The application (ASGI): objects by path, `/bucket/key`, and parts of those that are still being sent."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._parts: dict[str, dict[int, bytes]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answers one request."""
        body, more = bytearray(), scope["type"] == "http"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode(), True).items()}
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        method, path = scope["method"], unquote(scope["path"])
        status, content, said = self._answer(method, path, query, headers, bytes(body))
        said = {"content-length": str(len(content)).encode(), "last-modified": _WHEN, "etag": b'"1"', **said}
        await send(
            {"type": "http.response.start", "status": status, "headers": [(k.encode(), v) for k, v in said.items()]}
        )
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else content})

    def _answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        if "aws-chunked" in headers.get("content-encoding", ""):
            body = unframed(body)
        if method == "PUT" and "uploadId" in query:
            self._parts[query["uploadId"]][int(query["partNumber"])] = body
            return 200, b"", {}
        if method == "PUT":
            self._objects[path] = body
            return 200, b"", {}
        if method == "POST":
            return self._upload(path, query)
        if "list-type" in query:
            return 200, self._listing(path, query), {"content-type": b"application/xml"}
        found = self._objects.get(path)
        if found is None:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
        if "range" not in headers:
            return 200, found, {}
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        piece = found[int(first) : int(last or len(found)) + 1]
        span = f"bytes {first}-{int(first) + len(piece) - 1}/{len(found)}"
        return 206, piece, {"content-range": span.encode()}

    def _upload(self, path: str, query: dict[str, str]) -> Answer:
        """Begins an upload in parts, or makes an object of them."""
        if "uploads" in query:
            number = str(len(self._parts))
            self._parts[number] = {}
            said = f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
            return 200, said.encode(), {}
        parts = self._parts.pop(query["uploadId"])
        self._parts[query["uploadId"]] = {}
        self._objects[path] = b"".join(parts[number] for number in sorted(parts))
        said = '<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
        return 200, said.encode(), {}

    def _listing(self, path: str, query: dict[str, str]) -> bytes:
        """A page of the keys under a prefix."""
        bucket = path.rstrip("/") + "/"
        after = query.get("continuation-token", "")
        keys = sorted(name.removeprefix(bucket) for name in self._objects if name.startswith(bucket + query["prefix"]))
        rest = [key for key in keys if key > after]
        shown = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_WHEN_LISTED}</LastModified><ETag>1</ETag>"
            f"<Size>{len(self._objects[bucket + key])}</Size></Contents>"
            for key in rest[:_PAGE]
        )
        more = len(rest) > _PAGE
        token = f"<NextContinuationToken>{escape(rest[_PAGE - 1])}</NextContinuationToken>" if more else ""
        end = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        return f"<ListBucketResult>{end}{shown}</ListBucketResult>".encode()


def unframed(body: bytes) -> bytes:
    """The bytes of a body that was sent in pieces, each after its length in hexadecimal digits (aws-chunked)."""
    pieces, place = [], 0
    while True:
        end = body.index(b"\r\n", place)
        length = int(body[place:end].split(b";")[0], 16)
        if not length:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + length])
        place = end + 4 + length


def main() -> None:
    """Serves on a port of loopback until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    uvicorn.run(Objects(), host="127.0.0.1", port=port, access_log=False, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()

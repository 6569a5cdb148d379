"""Files of a store, read over HTTP by the bytes: a service's, or a folder's that any web server serves.

Part of `client.Client`. Reads no more than it was told to, whatever the other side sends; knows bytes, no format.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from service.connection import API, Connection, problem
from storage.errors import NotFound, SourceRefused, StoreCorrupt

if TYPE_CHECKING:
    import httpx

STORE = f"{API}/store"
"""Where a service has the files of its store."""

_MOST_SAID = 64 * 1024
"""Bytes of an answer that refuses which are read."""
_KEPT = ("Content-Type", "Retry-After", "Location", "Content-Range")


class StoreReading(Connection):
    """The calls that read a store's files."""

    def store_file(self, path: str, most: int) -> bytes:
        """A small file, whole.

        Args:
            path: below the service's address, such as STORE/parts/...
            most: bytes that it may have.

        Raises:
            NotFound: it is not there.
            StoreCorrupt: it is longer; or, of a service, it says that it is damaged.
            AccessDenied: a service wants another token.
            SourceRefused: any other answer, such as one that leads elsewhere.
        """
        answer = self._bytes(path, most, {})
        self._check(answer, path, HTTPStatus.OK)
        return answer.content

    def store_piece(self, path: str, start: int, num_bytes: int) -> bytes:
        """Some bytes of a file; arguments and errors as `store_file`.

        Args:
            path: as there.
            start: the first byte.
            num_bytes: how many; all must be there.

        Raises:
            SourceRefused: as there; and where whoever answers knows no Range.
            StoreCorrupt: as there; and where the file has not so many.
        """
        if not num_bytes:
            return b""
        end = start + num_bytes - 1
        answer = self._bytes(path, num_bytes, {"Range": f"bytes={start}-{end}"})
        if answer.status_code == HTTPStatus.OK:
            raise SourceRefused(
                f"{self.url} answers with whole files where a piece is asked for (Range), so that no sample can be read"
                " there; `vlglab features pull` fetches all of it"
            )
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise StoreCorrupt(f"{self.url}{path} is shorter than its manifest says; tell whoever runs that store")
        self._check(answer, path, HTTPStatus.PARTIAL_CONTENT)
        said = answer.headers.get("Content-Range", "")
        if len(answer.content) != num_bytes or not said.startswith(f"bytes {start}-{end}/"):
            raise StoreCorrupt(
                f"{self.url}{path} gives {len(answer.content)} bytes ({said or 'it does not say which'}), expected"
                f" bytes {start} to {end}; tell whoever runs that store"
            )
        return answer.content

    def _check(self, answer: httpx.Response, path: str, expected: HTTPStatus) -> None:
        """Raises what an answer says that is not the expected one."""
        status = answer.status_code
        if status == expected:
            return
        if answer.headers.get("Content-Type", "").startswith("application/problem+json"):
            raise problem(answer)
        if status == HTTPStatus.NOT_FOUND:
            raise NotFound(f"{self.url} has no {path}")
        refused = SourceRefused(
            f"{self.url}{path} answers {status}"
            f"{', which leads to ' + answer.headers['Location'] if 'Location' in answer.headers else ''}, expected"
            f" {expected.value}; check the address"
        )
        refused.wants_token = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        raise refused

    def _bytes(self, path: str, most: int, headers: Mapping[str, str]) -> httpx.Response:
        """An answer of which no more than `most` bytes were read, as they came.

        Raises:
            StoreCorrupt: a good one is longer.
        """
        import httpx

        asked = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}

        def ask() -> httpx.Response:
            content = bytearray()
            with self._http.stream("GET", path, headers=asked) as answer:
                good = answer.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
                whole = "Range" in asked and answer.status_code == HTTPStatus.OK  # of no use: none of it is read
                for piece in () if whole else answer.iter_raw():
                    content += piece
                    if len(content) > (most if good else _MOST_SAID):
                        break
            if good and len(content) > most:
                raise StoreCorrupt(f"{self.url}{path} is longer than the {most} bytes that it may have")
            kept = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
            return httpx.Response(answer.status_code, headers=kept, content=bytes(content), request=answer.request)

        return self._answer(ask, safe=True)

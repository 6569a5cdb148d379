"""Where artifacts are pulled from: one other service, or one folder that a web server serves, over a few connections.

Only hosts that VLGLAB_PULL_HOSTS allows are reached, at an address that was checked (`storage.targets`); redirects are
not followed and no proxy is used. Tokens lie in a file of the deployment's, never in a spec. Knows HTTP and digests; no
store and no stage.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

import blake3

from storage.artifacts.manifests import FileEntry
from storage.errors import (
    FormatTooNew,
    NotFound,
    SourceRefused,
    SourceUnreachable,
    StoreCorrupt,
    StoreError,
)
from storage.targets import Sources

if TYPE_CHECKING:
    import httpx

SERVICE = "/api/v1"
"""Where a service answers."""
API = f"{SERVICE}/store"
"""Where it has the files of its store."""
POST_S = 5.0
"""Seconds that a service gets to answer what it may as well refuse."""
CHUNK_BYTES = 2**20
"""Bytes that are read, hashed and written at once."""
TRIES = 6
"""How often a file is asked for that brings nothing new, before its source counts as away."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
TIMEOUT_S, CONNECT_TIMEOUT_S = 30.0, 10.0
PROBLEM = "application/problem+json"
MOST_DETAIL = 1000
"""Characters of what a service says of a fault that are told on."""
MOST_MANIFEST_BYTES = 256 * 2**20
"""Bytes of a manifest at most: an artifact of a million scenes."""


@dataclass(slots=True)
class Meter:
    """Bytes of a copy, counted by several threads."""

    here: int = 0
    """Bytes that lie here, those from before included."""
    came: int = 0
    """Bytes that have come over the network, those that were thrown away included."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Counts some that came."""
        with self._lock:
            self.came += count
            self.here += count

    def keep(self, count: int) -> None:
        """Counts some that lie here from before; negative where they are thrown away."""
        with self._lock:
            self.here += count


class Source:
    """One source. Use as a context manager; threads may share it."""

    def __init__(self, url: str, sources: Sources, connections: int, stop: Callable[[], None] = lambda: None) -> None:
        """Looks its host up; nothing is asked for yet.

        Args:
            url: of a service, such as http://lab.example.org:8765, or of a folder that is a store.
            sources: what may be reached, with which token.
            connections: most of them at once.
            stop: raises where the work must end; called between pieces.

        Raises:
            InvalidInput: the URL or its host is not allowed.
            SourceUnreachable: nobody knows its host.
        """
        import httpx

        target, address = sources.look_up(url)
        token = sources.token(target.authority)
        shown = f"[{address}]" if ":" in str(address) else str(address)
        self.url = url.rstrip("/")
        self._stop = stop
        self._base = f"{target.scheme}://{shown}:{target.port}{urlsplit(url).path.rstrip('/')}"
        self._root = ""
        self._sni = {"sni_hostname": target.host}
        self._faults: tuple[type[Exception], ...] = (httpx.TransportError,)
        self._http = httpx.Client(
            headers={
                "Host": target.authority,
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=connections + 1, max_keepalive_connections=connections),
            follow_redirects=False,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def manifest(self, key: str) -> bytes:
        """An artifact's manifest, of a service or of a folder; which of both it is, is found out here.

        Raises:
            NotFound: the source has no such artifact.
            SourceRefused, SourceUnreachable: as `fetch`.
        """
        path = f"/artifacts/{quote(key, safe='')}/manifest.json"
        refused: SourceRefused | None = None
        for root in (API, ""):
            try:
                content = self._small(root + path)
            except NotFound:
                continue
            except SourceRefused as error:
                if not error.wants_token:
                    raise
                refused = refused or error  # object storage says so too of what is not there
                continue
            if refused is not None and not content.startswith(b"{"):
                break  # a page for people who are to log in
            self._root = root
            return content
        if refused is not None:
            raise refused
        raise NotFound(
            f"{self.url} has no artifact {key!r}; `vlglab features list --url {self.url}` shows what a service has"
        )

    def recorded(self, key: str) -> str | None:
        """The BLAKE3 that a service's records have of an artifact's manifest; call `manifest` before.

        Returns:
            None of a folder, which keeps no records.

        Raises:
            StoreCorrupt, SourceRefused, SourceUnreachable: as `fetch`.
        """
        if self._root != API:
            return None
        try:
            found = json.loads(self._small(f"{SERVICE}/artifacts/{quote(key, safe='')}"))
        except (NotFound, ValueError):  # a folder that is served under a service's path
            return None
        digest = found.get("manifest_digest") if isinstance(found, dict) else None
        return digest if isinstance(digest, str) else None

    def post(self, path: str, body: Mapping[str, object]) -> Mapping[str, object] | None:
        """Asks a service for what it may refuse; call `manifest` before.

        Args:
            path: below `/api/v1`.
            body: JSON-like.

        Returns:
            What it answers; None where it refuses or does not answer in POST_S, or the source is a folder.
        """
        if self._root != API:
            return None
        try:
            answer = self._http.post(
                f"{self._base}{SERVICE}{path}", json=dict(body), extensions=self._sni, timeout=POST_S
            )
            found = answer.json() if answer.is_success else None
        except self._faults:
            return None
        except ValueError:  # no JSON
            return None
        return found if isinstance(found, dict) else None

    def part_manifest(self, part: str) -> bytes:
        """The manifest of a part; errors as `manifest`, which must have been called."""
        return self._small(self._path(part, "manifest.json"))

    def fetch(self, part: str, name: str, entry: FileEntry, to: Path, meter: Meter) -> None:
        """Fetches one file of a part; goes on where an earlier try, or another process, was cut off.

        Args:
            part: the part's key.
            name: the file's path within it.
            entry: its digest and size.
            to: where it shall lie; until it is whole it lies beside, as `.partial`.
            meter: told of every piece.

        Raises:
            StoreCorrupt: what comes is not what the entry says, twice; or the source says that its file is damaged.
            NotFound: the source has it no more.
            SourceRefused: it answers that this caller may not, or leads elsewhere.
            SourceUnreachable: it does not answer, or breaks off again and again.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(to.name + ".partial")
        path = self._path(part, name)
        for again in (True, False):
            self._complete(path, partial, entry.num_bytes, meter)
            if _digest_of(partial) == entry.blake3:
                partial.rename(to)
                return
            meter.keep(-entry.num_bytes)
            partial.unlink()
            if not again:
                break
        raise StoreCorrupt(
            f"{name} of the part {part} came twice from {self.url} with another BLAKE3 than its manifest says"
            f" ({entry.blake3[:16]}): it was changed there, or on the way; tell whoever runs it"
        )

    def _complete(self, path: str, partial: Path, num_bytes: int, meter: Meter) -> None:
        """Brings a file to its length, piece after piece, over as many answers as it takes."""
        have = partial.stat().st_size if partial.exists() else 0
        if have > num_bytes:
            partial.unlink()
            have = 0
        meter.keep(have)
        tries = 0
        partial.touch()
        while have < num_bytes:
            before = have
            try:
                have = self._some(path, partial, have, num_bytes, meter)
                fault: Exception | None = None
            except self._faults as error:
                have, fault = partial.stat().st_size, error
            tries = 0 if have > before else tries + 1
            if have < num_bytes:
                self._wait(tries, fault or "it ended too early")

    def _some(self, path: str, partial: Path, have: int, num_bytes: int, meter: Meter) -> int:
        """Appends what one answer brings; returns the new length."""
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._http.stream("GET", self._base + path, headers=headers, extensions=self._sni) as answer:
            self._hear(answer, path)
            if answer.status_code in _PASSING:
                return have
            self._check(answer, path)
            if have and answer.status_code != HTTPStatus.PARTIAL_CONTENT:  # it knows no ranges: from the start
                meter.keep(-have)
                have = 0
            with partial.open("r+b") as file:
                file.truncate(have)
                file.seek(have)
                for piece in answer.iter_raw(CHUNK_BYTES):
                    have += len(piece)
                    if have > num_bytes:
                        raise StoreCorrupt(
                            f"{self.url}{path} is longer than the {num_bytes} bytes that its manifest says; nothing of"
                            " it is published: tell whoever runs it"
                        )
                    file.write(piece)
                    meter.add(len(piece))
                    self._stop()
        return have

    def _small(self, path: str) -> bytes:
        """A manifest, read whole."""
        for tries in range(1, TRIES + 1):
            try:
                with self._http.stream("GET", self._base + path, extensions=self._sni) as answer:
                    self._hear(answer, path)
                    if answer.status_code not in _PASSING:
                        self._check(answer, path)
                        return self._whole(answer, path)
                    fault: Exception | str = f"it answers {answer.status_code}"
            except self._faults as error:
                fault = error
            self._wait(tries, fault)
        raise AssertionError("_wait raises at the last")

    def _whole(self, answer: httpx.Response, path: str) -> bytes:
        content = bytearray()
        for piece in answer.iter_raw(CHUNK_BYTES):
            content += piece
            if len(content) > MOST_MANIFEST_BYTES:
                raise StoreCorrupt(f"{self.url}{path} is longer than {MOST_MANIFEST_BYTES} bytes: no manifest is")
            self._stop()
        return bytes(content)

    def _hear(self, answer: httpx.Response, path: str) -> None:
        """Raises what a service says of its own store: asked again, it would say so again."""
        if not answer.headers.get("content-type", "").startswith(PROBLEM):
            return
        try:
            problem = json.loads(self._whole(answer, path))
        except ValueError:
            return
        told = _TOLD.get(str(problem.get("code"))) if isinstance(problem, dict) else None
        if told is not None:
            detail = str(problem.get("detail"))[:MOST_DETAIL]
            raise told(f"{self.url}{path} cannot be given: {detail}. So says the source: tell whoever runs it")

    def _check(self, answer: httpx.Response, path: str) -> None:
        """Raises where an answer is not what was asked for."""
        status = answer.status_code
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        if status == HTTPStatus.NOT_FOUND:
            raise NotFound(f"{self.url} has no {path}; it was deleted there, or was never there")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            refused = SourceRefused(
                f"{self.url} answers {status}: it wants a token of a reader; put one into the file that"
                " VLGLAB_PULL_TOKENS names on the worker's machine"
            )
            refused.wants_token = True
            raise refused
        more = f", which leads to {answer.headers['location']}" if "location" in answer.headers else ""
        raise SourceRefused(f"{self.url}{path} answers {status}{more}, expected 200 or 206; check the source's URL")

    def _wait(self, tries: int, fault: object) -> None:
        """Waits before another try.

        Raises:
            SourceUnreachable: there were enough of them.
        """
        if tries >= TRIES:
            raise SourceUnreachable(
                f"{self.url} does not go on ({fault}) after {tries} tries; what has come is kept: retry the run when it"
                " answers again"
            )
        until = time.monotonic() + min(FIRST_PAUSE_S * 2.0 ** max(0, tries - 1), LONGEST_PAUSE_S)
        while (left := until - time.monotonic()) > 0:
            self._stop()
            time.sleep(min(left, 0.2))

    def _path(self, part: str, name: str) -> str:
        return f"{self._root}/parts/{quote(part[:2], safe='')}/{quote(part, safe='')}/{quote(name)}"


_PASSING: frozenset[int] = frozenset({429, 500, 502, 503, 504})
"""Statuses of answers that pass."""
_TOLD: Mapping[str, type[StoreError]] = {error.code: error for error in (StoreCorrupt, FormatTooNew)}
"""Codes of problems that do not pass."""


def _digest_of(file: Path) -> str:
    """BLAKE3 of a file, by one thread: several are hashed at once."""
    return blake3.blake3().update_mmap(file).hexdigest() if file.stat().st_size else blake3.blake3(b"").hexdigest()

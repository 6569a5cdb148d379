"""Feature stores of another lab beside one's own, over HTTP: manifests, and a sample of rows, of both sides.

For the command line. The other lab's host must be one that VLGLAB_PULL_HOSTS allows, and is connected to at the address
that was checked; no redirect is followed and no proxy used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

from service.client import Client
from service.schemas import FeatureDiff
from service.store_folders import open_folder
from service.store_reading import STORE
from storage.artifacts import admission, comparing, copies
from storage.artifacts.manifests import decode_artifact
from storage.artifacts.sampled import SampledReader
from storage.artifacts.store import ArtifactManifest, PartEntry
from storage.errors import AccessDenied, NotFound, ServiceUnreachable, SourceRefused, SourceUnreachable, StoreCorrupt
from storage.targets import Address, Sources, Target

SCENES, ROWS = 8, 2048
"""Scenes, and rows of each, that are compared unless somebody says otherwise."""
ADJOINING = 128
"""Rows that are read side by side."""
MOST_BYTES = 4_000_000_000
"""Bytes of one store that a comparison reads at most."""
MOST_MANIFEST_BYTES = 256 * 2**20
"""Bytes of a manifest at most: an artifact of a million scenes."""


class RemoteStore:
    """What a comparison asks of a store (`comparing.Readable`), answered over HTTP."""

    def __init__(self, client: Client, folder: Path) -> None:
        """Asks for nothing yet.

        Args:
            client: of the service, or of the folder that a web server serves.
            folder: an empty one, for what is brought here.
        """
        self._client = client
        self._folder = folder
        self._left = MOST_BYTES
        self._root = STORE
        self._entries: dict[str, PartEntry] = {}

    def manifest(self, key: str) -> ArtifactManifest:
        """An artifact's manifest, of a service or of a folder; which of both it is, is found out here.

        Raises:
            NotFound: there is none of that key.
            StoreCorrupt, FormatTooNew: it is not what it should be.
            SourceRefused, AccessDenied, SourceUnreachable: it cannot be read.
        """
        content = self._manifest_of(key)
        manifest = decode_artifact(content, f"the manifest of {key} at {self._client.url}")
        if manifest.key != key:
            raise StoreCorrupt(f"the manifest of {key} at {self._client.url} is that of {manifest.key}; tell its owner")
        self._entries = {entry.key: entry for entry in manifest.parts}
        return manifest

    def part(self, key: str) -> SampledReader | None:
        """A part that the manifest names, which must have been read; None where it is gone.

        Raises:
            StoreCorrupt, FormatTooNew: its manifest is not the one that the artifact names, or its arrays do not fit.
            SourceRefused, AccessDenied, SourceUnreachable: as `manifest`.
        """
        if not admission.is_key(key):
            raise StoreCorrupt(f"{self._client.url} names a part {key[:200]!r}, which can be no part's key")
        base = f"{self._root}/parts/{key[:2]}/{key}"
        try:
            content = self._client.store_file(f"{base}/manifest.json", MOST_MANIFEST_BYTES)
        except NotFound:
            return None
        found = copies.part_manifest(content, self._entries[key], "embeddings", f"at {self._client.url}")
        try:
            admission.check_complete("embeddings", found.scene, found.arrays, (), found.attributes.get("num_points"))
        except StoreCorrupt as error:
            raise StoreCorrupt(f"at {self._client.url}: {error.message}", scene=error.scene) from error
        folder = Path(tempfile.mkdtemp(dir=self._folder))

        def bring(name: str, start: int, num_bytes: int) -> bytes:
            self._left -= num_bytes
            if self._left < 0:
                raise SourceRefused(
                    f"the sample of {self._client.url} is of more than {MOST_BYTES:,} bytes; ask for fewer scenes or"
                    " rows (--scenes, --rows), or pull it"
                )
            return self._client.store_piece(f"{base}/{quote(name)}", start, num_bytes)

        return SampledReader(folder, found, self._client.url, bring)

    def _manifest_of(self, key: str) -> bytes:
        """The bytes of an artifact's manifest."""
        refused: SourceRefused | AccessDenied | None = None
        for root in (STORE, ""):
            try:
                path = f"{root}/artifacts/{quote(key, safe='')}/manifest.json"
                content = self._client.store_file(path, MOST_MANIFEST_BYTES)
            except NotFound:
                continue
            except SourceRefused as error:
                if not error.wants_token:
                    raise
                refused = refused or error  # object storage says so too of what is not there
                continue
            if not content.startswith(b"{"):
                break  # a page for people
            self._root = root
            return content
        raise refused or NotFound(f"{self._client.url} has no artifact {key!r}")


def compare_with(
    ours: Client | Path, source: str, keys: tuple[str, str], sources: Sources, *, scenes: int = SCENES, rows: int = ROWS
) -> FeatureDiff:
    """A feature store of one's own beside one of another lab's, on a sample; of both little more than that is read.

    Args:
        ours: a client of the service, or the folder of a store on this machine.
        source: URL of the other lab's service, or of a folder that is a store.
        keys: ours and theirs; they may be one.
        sources: which hosts may be reached, with which tokens.
        scenes: most scenes that are opened.
        rows: most rows that are compared of a scene.

    Raises:
        InvalidInput: the URL or its host is not allowed, or the file of tokens cannot be read.
        NotFound: one of the two has no such artifact.
        SpecInvalid, StoreCorrupt, FormatTooNew: an artifact holds no embeddings, or cannot be read.
        SourceRefused, SourceUnreachable: the other lab's does not give it.
        AccessDenied, ServiceUnreachable: our service does not.
    """
    target, address = sources.look_up(source)
    limits = comparing.Limits(scenes, rows, adjoining=ADJOINING)
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        mine: comparing.Readable = RemoteStore(ours, folders[0]) if isinstance(ours, Client) else open_folder(ours)
        left = comparing.Side.of(mine, keys[0])
        client = _TheirClient(source, token=sources.token(target.authority), transport=_At(target, address))
        theirs = RemoteStore(stack.enter_context(client), folders[1])
        found = comparing.compare(left, comparing.Side.of(theirs, keys[1]), limits)
    return FeatureDiff.model_validate(found, from_attributes=True)


class _TheirClient(Client):
    """A client of another lab's store: what is wrong there is said as a pull says it."""

    def store_file(self, path: str, most: int) -> bytes:
        """As `StoreReading.store_file`."""
        with self._as_of_a_source():
            return super().store_file(path, most)

    def store_piece(self, path: str, start: int, num_bytes: int) -> bytes:
        """As `StoreReading.store_piece`."""
        with self._as_of_a_source():
            return super().store_piece(path, start, num_bytes)

    @contextmanager
    def _as_of_a_source(self) -> Iterator[None]:
        """Turns what is said of one's own service into what is said of a source."""
        try:
            yield
        except ServiceUnreachable as error:
            raise SourceUnreachable(f"{self.url} does not answer ({error.__cause__ or error.message})") from error
        except (AccessDenied, SourceRefused) as error:
            if isinstance(error, SourceRefused) and not error.wants_token:
                raise
            refused = SourceRefused(
                f"{self.url} wants a token of a reader; put one into the file that VLGLAB_PULL_TOKENS names on this"
                " machine"
            )
            refused.wants_token = True
            raise refused from error


class _At(httpx.HTTPTransport):
    """Connects to the address of a host that was checked, whatever its name points to a moment later."""

    def __init__(self, target: Target, address: Address) -> None:
        super().__init__()
        self._target, self._address = target, address

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host=str(self._address))
        request.extensions = {**request.extensions, "sni_hostname": self._target.host}
        return super().handle_request(request)

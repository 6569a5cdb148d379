"""Objects of a bucket by name, through obstore; errors of the storage are told as this project's.

Knows one bucket, or a prefix of one; what the objects mean is `object_store`'s matter.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import blake3
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError

from storage.artifacts.manifests import FileEntry
from storage.errors import StoreUnreachable

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

T = TypeVar("T")
U = TypeVar("U")

_CONNECTIONS = 8
"""Objects that are sent, or asked for, at a time."""
_PIECE = 8 << 20
"""Bytes of an object that are held at a time."""


class Objects:
    """Objects of a bucket by name; errors of the storage are told as this project's."""

    def __init__(self, bucket: Bucket, files: Bucket | None = None) -> None:
        """Holds the bucket, or a prefix of one.

        Args:
            bucket: asked for what is small, some of it while others wait for a lock: it should give up in seconds.
            files: the same, for whole files, which may take minutes; None: as `bucket`.
        """
        self._bucket = bucket
        self._files = bucket if files is None else files

    def get(self, name: str) -> bytes | None:
        """An object's bytes, or None where there is none."""
        with _told(name), contextlib.suppress(NotFoundError, FileNotFoundError):
            return bytes(obstore.get(self._bucket, name).bytes())
        return None

    def get_range(self, name: str, offset: int, num_bytes: int) -> bytes | None:
        """Some bytes of an object, which has that many from there on; None where there is no such object."""
        with _told(name), contextlib.suppress(NotFoundError, FileNotFoundError):
            return bytes(obstore.get_range(self._bucket, name, start=offset, length=num_bytes))
        return None

    def hashed(self, name: str) -> FileEntry | None:
        """BLAKE3 and length of an object, read a piece at a time, or None where there is none."""
        with _told(name), contextlib.suppress(NotFoundError, FileNotFoundError):
            hasher, size = blake3.blake3(), 0
            for piece in obstore.get(self._files, name).stream(min_chunk_size=_PIECE):
                hasher.update(piece)
                size += len(piece)
            return FileEntry(hasher.hexdigest(), size)
        return None

    def download(self, name: str, path: Path) -> bool:
        """Writes an object to a file, a piece at a time; False, and no file, where there is none."""
        with _told(name), contextlib.suppress(NotFoundError, FileNotFoundError):
            pieces = obstore.get(self._files, name).stream(min_chunk_size=_PIECE)
            with path.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
            return True
        return False

    def put(self, name: str, content: bytes | memoryview | Path) -> None:
        """Writes an object, over what is there, in one request, of which a client that dies leaves nothing.

        Uploads in several pieces would: storage keeps those of the dead, and shows them in no listing.

        Args:
            name: the object's name.
            content: something small; or a file, by its path or as `mapped` gives it.

        Raises:
            FileNotFoundError: the file to send is gone.
        """
        given = mapped(content) if isinstance(content, Path) else content
        bucket = self._bucket if isinstance(content, bytes) else self._files
        with _told(name):
            obstore.put(bucket, name, given, use_multipart=False)

    def create(self, name: str, content: bytes) -> bool:
        """Writes an object where there is none; False where there is one, which stays."""
        with _told(name):
            try:
                obstore.put(self._bucket, name, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def size(self, name: str) -> int | None:
        """An object's length in bytes, or None where there is none."""
        with _told(name), contextlib.suppress(NotFoundError, FileNotFoundError):
            return int(obstore.head(self._bucket, name)["size"])
        return None

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        return self.size(name) is not None

    def delete(self, *names: str) -> None:
        """Removes objects; those that are gone already are no error."""
        for name in names:
            with _told(name), contextlib.suppress(NotFoundError, FileNotFoundError):
                obstore.delete(self._bucket, name)

    def under(self, prefix: str) -> dict[str, datetime]:
        """Names of the objects under a prefix that ends in a slash, and when each was last written."""
        with _told(prefix):
            pages = obstore.list(self._bucket, prefix.rstrip("/"))
            return {meta["path"]: meta["last_modified"] for page in pages for meta in page}

    def sizes(self, prefix: str) -> dict[str, int]:
        """Names of the objects under a prefix that ends in a slash, and the bytes of each."""
        with _told(prefix):
            pages = obstore.list(self._bucket, prefix.rstrip("/"))
            return {meta["path"]: int(meta["size"]) for page in pages for meta in page}


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Errors of the storage as ours; what says that there is nothing, or something already, passes."""
    try:
        yield
    except (NotFoundError, AlreadyExistsError, FileNotFoundError):
        raise
    except (BaseError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreUnreachable(
            f"the object storage did not answer for {name}: {first}; check VLGLAB_STORE_URL, the AWS_* variables and "
            "whether the bucket may be read and written"
        ) from error


def mapped(file: Path) -> memoryview:
    """A file's bytes, which the disk's cache holds, also after the file was removed; an empty one cannot be mapped.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with file.open("rb") as opened:
        empty = not os.fstat(opened.fileno()).st_size
        return memoryview(b"") if empty else memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


def side_by_side(function: Callable[[T], U], given: Iterable[T]) -> list[U]:
    """What a function returns for each of the given, several at a time, in their order."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(pool.map(function, given))

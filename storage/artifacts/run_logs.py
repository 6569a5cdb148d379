"""The log of one attempt, read a piece at a time: as it lies on this host, or as it was sent to a bucket.

    logs/<run>/<attempt>.log            its first SEGMENT_BYTES; all of it, where an older vlglab sent it
    logs/<run>/<attempt>.log.<number>   the next SEGMENT_BYTES each, from 0001 on

A segment that is full changes no more. Knows files and objects; no run and no request.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from storage.artifacts.objects import Objects

SEGMENT_BYTES = 4 << 20
"""Bytes of a segment. Logs that were sent are read by it: who changes it no longer reads them."""


class Log(Protocol):
    """A log that may grow while it is read."""

    @property
    def num_bytes(self) -> int:
        """How long it was when it was opened; 0 where there is none."""

    def read(self, offset: int, num_bytes: int) -> bytes:
        """At most so many bytes from an offset on; fewer, or none, at its end.

        Raises:
            StoreUnreachable: it lies in a bucket, which does not answer.
        """


@dataclass(frozen=True, slots=True)
class LogHere:
    """A log on this host's disk."""

    path: Path

    @property
    def num_bytes(self) -> int:
        """Its length now; see `Log`."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, offset: int, num_bytes: int) -> bytes:
        """See `Log`."""
        try:
            with self.path.open("rb") as log:
                log.seek(offset)
                return log.read(num_bytes)
        except FileNotFoundError:
            return b""


@dataclass(frozen=True, slots=True)
class LogSent:
    """A log in a bucket, of which only the pieces that are read are fetched."""

    objects: Objects
    name: str
    """Of its first segment."""
    sizes: tuple[int, ...]
    """Bytes of each segment."""

    @classmethod
    def of(cls, objects: Objects, name: str) -> LogSent:
        """What was sent of a log until now.

        Raises:
            StoreUnreachable: the bucket does not answer.
        """
        lying, sizes = objects.sizes(name.rpartition("/")[0] + "/"), list[int]()
        while (size := lying.get(segment(name, len(sizes)), 0)) and size >= SEGMENT_BYTES:
            sizes.append(size)
            if size > SEGMENT_BYTES:  # all of it, as an older vlglab sent it
                return cls(objects, name, tuple(sizes))
        return cls(objects, name, (*sizes, size) if size else tuple(sizes))

    @property
    def num_bytes(self) -> int:
        """See `Log`."""
        return sum(self.sizes)

    def read(self, offset: int, num_bytes: int) -> bytes:
        """See `Log`."""
        pieces, begin = list[bytes](), 0
        for number, size in enumerate(self.sizes):
            first, last = max(offset - begin, 0), min(offset + num_bytes - begin, size)
            if first < last:
                pieces.append(self.objects.get_range(segment(self.name, number), first, last - first) or b"")
            begin += size
        return b"".join(pieces)


def send(objects: Objects, name: str, content: memoryview, num_sent: int) -> None:
    """Sends what was added to a log: segments that were full are not sent again.

    Args:
        objects: the bucket.
        name: of its first segment.
        content: all of the log.
        num_sent: how many bytes of it were sent by this function before; 0 where that is not known.

    Raises:
        StoreUnreachable: the bucket does not answer.
    """
    for number in range(num_sent // SEGMENT_BYTES, -(-len(content) // SEGMENT_BYTES)):
        begin = number * SEGMENT_BYTES
        objects.put(segment(name, number), content[begin : begin + SEGMENT_BYTES])


def segment(name: str, number: int) -> str:
    """Name of a segment of a log, counted from 0."""
    return f"{name}.{number:04d}" if number else name

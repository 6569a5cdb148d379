"""The benchmark of object storage measures what it says, here on small objects and the server of its own."""

from __future__ import annotations

import asyncio
import sys

from benchmarks import object_storage
from benchmarks.plain_s3 import unframed
from benchmarks.pull import ended, free_port


def test_objects_ranges_and_lists_come_back_and_every_step_is_timed() -> None:
    port = free_port()
    content = [bytes([number]) * size for number, size in enumerate((200_000, 6_000_000))]  # one is sent in parts
    with ended([sys.executable, "-m", "benchmarks.plain_s3", str(port)], port) as endpoint:
        asyncio.run(object_storage.fill(endpoint))
        took = asyncio.run(object_storage.measured(object_storage.by_obstore, endpoint, content, 0))
    assert set(took) == {"put", "get", "ranges", "list"}
    assert all(seconds > 0 for seconds, _ in took.values())


def test_a_body_in_pieces_is_put_together() -> None:
    assert unframed(b"3;chunk-signature=x\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:y\r\n\r\n") == b"abcde"

"""Reading a run's log in pieces, from an offset on or from near its end. Knows a log; no run and no request."""

from __future__ import annotations

from storage.artifacts.run_logs import Log

LOG_BYTES = 1 << 20
"""Most bytes of a log that one call reads."""


def read(log: Log, offset: int) -> bytes:
    """At most LOG_BYTES of a log from `offset` on, cut before a character that is not whole yet."""
    content = log.read(offset, LOG_BYTES)
    for cut in range(1, min(4, len(content)) + 1):
        byte = content[-cut]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return content[:-cut] if cut < needed else content
        if byte < 0x80:
            break
    return content


def tail_start(log: Log, num_bytes: int) -> int:
    """The offset from which on a log's last bytes are read.

    That is the start of the first line within the last `num_bytes`, or where none starts there (within LOG_BYTES, and
    before the end) of the first whole character; 0 where there is no log.
    """
    begin = log.num_bytes - num_bytes
    if begin <= 0:
        return 0
    content = log.read(begin - 1, min(num_bytes, LOG_BYTES) + 1)
    ahead = content.find(b"\n") + 1
    if 0 < ahead < len(content):
        return begin - 1 + ahead
    near = content[1:5]
    return begin + next((n for n, byte in enumerate(near) if byte & 0xC0 != 0x80), len(near))

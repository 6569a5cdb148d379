"""Stores of zarr v3 on object storage: obstore beside fsspec's s3fs, against two servers on loopback.

    python -m benchmarks.object_storage [--s3fs FOLDER] [--repeats 5] [--objects 24] [--megabytes 10]

s3fs is not among the project's dependencies: it pins a botocore that the tests' moto cannot have. To measure it,
`pip install --target FOLDER s3fs`; only this process, never the servers, then imports from FOLDER.

Each repeat has each library in turn put objects, get them whole, get 200 ranges of 64 KiB, and list 2,000 keys, by the
calls that zarr makes (`zarr.storage.ObjectStore`, `zarr.storage.FsspecStore`), ten at a time as zarr does. moto's
server is Python and takes most of the time; `benchmarks.plain_s3` does next to nothing, and shows more of the
libraries. Neither is far away, as a real bucket is. Seconds of processor are this process's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import os
import platform
import statistics
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, ObjectStore

from benchmarks.pull import ended, free_port

ACCESS = ("bench", "bench")
"""Key and secret; neither server looks at them."""
BUCKET, AT_ONCE, RANGES, RANGE_BYTES, KEYS = "bench", 10, 200, 64 << 10, 2_000
PROTOTYPE = default_buffer_prototype()
Opened = Callable[[str, str], Any]
Timed = dict[str, tuple[float, float]]
"""What was done -> seconds on the clock, and of the processor."""


@contextlib.asynccontextmanager
async def by_obstore(endpoint: str, prefix: str) -> AsyncIterator[Store]:
    """zarr's store over obstore, of a prefix of the bucket."""
    from obstore.store import S3Store

    yield ObjectStore(
        S3Store(
            BUCKET, prefix=prefix, endpoint=endpoint, region="us-east-1", access_key_id=ACCESS[0],
            secret_access_key=ACCESS[1], client_options={"allow_http": True},
        )
    )  # fmt: skip


@contextlib.asynccontextmanager
async def by_s3fs(endpoint: str, prefix: str) -> AsyncIterator[Store]:
    """zarr's store over s3fs, of a prefix of the bucket; listings are not cached."""
    import s3fs

    files = s3fs.S3FileSystem(
        key=ACCESS[0], secret=ACCESS[1], endpoint_url=endpoint, client_kwargs={"region_name": "us-east-1"},
        asynchronous=True, use_listings_cache=False, skip_instance_cache=True,
    )  # fmt: skip
    session = await files.set_session()
    try:
        yield FsspecStore(files, path=f"{BUCKET}/{prefix}")
    finally:
        await session.close()


async def all_of(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """What each call gives, ten at a time."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[Any]]) -> Any:
        async with free:
            return await call()

    return list(await asyncio.gather(*map(one, calls)))


async def keys_of(store: Store) -> list[str]:
    """Every key of a store."""
    return [key async for key in store.list()]


async def measured(opened: Opened, endpoint: str, content: list[bytes], turn: int) -> Timed:
    """One turn of one library: what it did is checked after its time is taken."""
    took: Timed = {}

    async def timed(what: str, run: Awaitable[Any]) -> Any:
        clock, used = time.perf_counter(), time.process_time()
        given = await run
        took[what] = time.perf_counter() - clock, time.process_time() - used
        return given

    names = [f"c/{number}/0" for number in range(len(content))]
    rng, size = np.random.default_rng(turn), len(content[0])
    wanted = [(int(rng.integers(len(names))), int(rng.integers(size - RANGE_BYTES))) for _ in range(RANGES)]
    async with opened(endpoint, "objects") as store:
        await store.get("absent", PROTOTYPE)  # connections and, of s3fs, the description of S3's calls
        buffers = [PROTOTYPE.buffer.from_bytes(one) for one in content]
        await timed("put", all_of([lambda n=n, b=b: store.set(n, b) for n, b in zip(names, buffers, strict=True)]))
        whole = await timed("get", all_of([lambda n=n: store.get(n, PROTOTYPE) for n in names]))
        ranges = [(names[i], RangeByteRequest(start, start + RANGE_BYTES)) for i, start in wanted]
        pieces = await timed("ranges", all_of([lambda n=n, r=r: store.get(n, PROTOTYPE, r) for n, r in ranges]))
    async with opened(endpoint, "keys") as store:
        await store.get("absent", PROTOTYPE)
        listed = await timed("list", keys_of(store))
    assert [one.to_bytes() for one in whole] == content and len(listed) == KEYS
    assert all(p.to_bytes() == content[i][s : s + RANGE_BYTES] for p, (i, s) in zip(pieces, wanted, strict=True))
    return took


async def fill(endpoint: str) -> None:
    """Puts the keys that are listed."""
    async with by_obstore(endpoint, "keys") as store:
        empty = PROTOTYPE.buffer.from_bytes(b"x")
        await all_of([lambda n=n: store.set(f"parts/{n % 64:02x}/{n:06}/zarr.json", empty) for n in range(KEYS)])


def show(server: str, took: dict[str, list[Timed]], megabytes: float) -> None:
    """Prints the medians of one server, and the shares of the first library."""
    (first, *_), steps = took, {"put": f"put {megabytes:.0f} MB", "get": f"get {megabytes:.0f} MB",
                                "ranges": f"{RANGES} ranges of 64 KiB", "list": f"list {KEYS:,} keys"}  # fmt: skip
    print(f"\n{server}\n{'':24}" + "".join(f"{name + ' s':>14}{'processor s':>14}" for name in took) + f"{'ratio':>8}")
    for step, words in steps.items():
        medians = {
            name: [statistics.median(one[step][i] for one in turns) for i in (0, 1)] for name, turns in took.items()
        }
        cells = "".join(f"{clock:14.3f}{used:14.3f}" for clock, used in medians.values())
        ratios = "".join(f"{medians[name][0] / medians[first][0]:8.1f}" for name in list(took)[1:])
        print(f"{words:24}{cells}{ratios}", flush=True)


def main() -> None:
    """Measures every library against every server and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3fs", default="", help="folder that s3fs was installed into; without it obstore is alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--objects", type=int, default=24)
    parser.add_argument("--megabytes", type=float, default=10.0)
    options = parser.parse_args()
    libraries: dict[str, Opened] = {"obstore": by_obstore}
    if options.s3fs:
        sys.path.insert(0, options.s3fs)
        libraries["s3fs"] = by_s3fs
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in [*libraries, "moto"])
    print(
        f"{options.objects} objects of {options.megabytes:g} MB; medians of {options.repeats}; {os.cpu_count()} cores,"
    )
    print(f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, zarr {zarr.__version__}, {versions}")
    rng = np.random.default_rng(0)
    content = [rng.bytes(int(options.megabytes * 1e6)) for _ in range(options.objects)]
    for server, module in {"a server that does next to nothing": "benchmarks.plain_s3", "moto": "moto.server"}.items():
        port = free_port()
        where = [str(port)] if module.startswith("benchmarks") else ["-H", "127.0.0.1", "-p", str(port)]
        with ended([sys.executable, "-m", module, *where], port) as endpoint:
            urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), timeout=10).close()
            asyncio.run(fill(endpoint))
            took: dict[str, list[Timed]] = {name: [] for name in libraries}
            for turn in range(options.repeats + 1):
                for name, opened in libraries.items():
                    found = asyncio.run(measured(opened, endpoint, content, turn))
                    if turn:  # the first warms the server
                        took[name].append(found)
            show(server, took, sum(map(len, content)) / 1e6)


if __name__ == "__main__":
    main()

"""`make bench-start`: seconds from the start of `vlglab serve` in a fresh home to the first answer of `/healthz`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.served import service

TIMES = 5
BAR_S = 2.0


def main() -> int:
    """Starts a service several times and prints how long each took."""
    print(f"/healthz after the start of `vlglab serve`, {TIMES} fresh homes each (bar {BAR_S:.0f} s):")
    for words, host in (("with its worker host", True), ("--no-host", False)):
        took = sorted(start_once(host=host) for _ in range(TIMES))
        print(f"  {words:<20}  " + "  ".join(f"{s:.2f}" for s in took) + f"  median {took[TIMES // 2]:.2f} s")
    return 0


def start_once(*, host: bool) -> float:
    """Seconds until `/healthz` answered 200."""
    with tempfile.TemporaryDirectory() as home:
        began = time.monotonic()
        with service(Path(home), host=host) as (address, _):
            while True:
                try:
                    httpx.get(address + "/healthz", timeout=5).raise_for_status()
                    return time.monotonic() - began
                except httpx.TransportError:
                    time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())

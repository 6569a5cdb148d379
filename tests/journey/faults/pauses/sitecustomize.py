"""Loaded by every Python process of the fault test (it lies on their PYTHONPATH), and by none elsewhere.

Makes a process wait at a named point of its work where the test has asked for it, so that a fault can be aimed. The
test asks by a file `armed/POINT` in the folder FAULTS_FOLDER; the first process that gets there moves it to
`reached/POINT@PID` and waits until the test removes it. Where `full` lies there, writing an array finds no space.
"""

import errno
import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("FAULTS_FOLDER", "/nonexistent"))
LONGEST_S = 120.0


def wait_at(point):
    """Waits if this point is armed."""
    reached = FOLDER / "reached" / f"{point}@{os.getpid()}"
    try:
        (FOLDER / "armed" / point).rename(reached)
    except OSError:
        return
    end = time.monotonic() + LONGEST_S
    while reached.exists() and time.monotonic() < end:
        time.sleep(0.01)


def around(module, name, before=None, after=None):
    """Puts a point before or after a function of a module; `after` may be a function of the call that names it."""
    inner = getattr(module, name)

    def outer(*args, **named):
        if before:
            wait_at(before)
        made = inner(*args, **named)
        if after:
            wait_at(after if isinstance(after, str) else after(made, *args))
        return made

    setattr(module, name, outer)


def of_claim(claim, *args):
    """The point after a claim: only one that found a run counts."""
    return "claim-committed" if claim is not None else "-"


def of_manifest(made, staging, target):
    """The point of a rename: only an artifact's counts."""
    return "renamed" if target.parent.name == "artifacts" else "-"


def full(module):
    """Makes writing an array fail as on a full disk, where the test says so."""
    inner = module.write_array

    def outer(*args, **named):
        if (FOLDER / "full").exists():
            raise OSError(errno.ENOSPC, "No space left on device (the fault test)")
        made = inner(*args, **named)
        wait_at("array-written")
        return made

    module.write_array = outer


WRAPS = {
    "storage.records.claims": lambda m: (
        around(m, "_open_attempt", after="claim-uncommitted"),
        around(m, "claim", after=of_claim),
    ),
    "storage.records.leases": lambda m: (
        around(m, "report", before="process-started"),
        around(m, "start", before="process-reported"),
        around(m, "set_key", after="key-set"),
        around(m, "record_artifact", before="row-to-write"),
        around(m, "succeed", before="run-to-end"),
    ),
    "storage.records.artifacts": lambda m: around(m, "insert", after="row-uncommitted"),
    "storage.artifacts.zarr_arrays": full,
    "storage.artifacts.zarr_writer": lambda m: around(m.ZarrPartWriter, "finish", after="part-complete"),
    "storage.artifacts.zarr_store": lambda m: around(m, "_publish", after=of_manifest),
}


class Wrapping(importlib.abc.MetaPathFinder):
    """Puts the points into a module when it is imported."""

    def find_spec(self, name, path, target=None):
        if name not in WRAPS:
            return None
        wrap = WRAPS.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            wrap(module)

        spec.loader.exec_module = exec_module
        return spec


if FOLDER.is_dir():
    sys.meta_path.insert(0, Wrapping())

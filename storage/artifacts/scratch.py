"""Where runs keep what they need to resume: beside the store's parts, so that they can go on at any host."""

from __future__ import annotations

from pathlib import Path


def scratch_root(store_root: Path, run_id: str) -> Path:
    """The folder with all that a run keeps to resume from."""
    return store_root / "resume" / run_id


def scratch_path(store_root: Path, run_id: str, anew_after: int) -> Path:
    """The folder that attempts of a run resume from.

    Args:
        store_root: the store's directory.
        run_id: the run.
        anew_after: number of the attempt after which it was to begin anew, 0 where it never was: attempts after it
            share a folder of their own, which no earlier one can write to, however late.
    """
    root = scratch_root(store_root, run_id)
    return root if anew_after == 0 else root / f"after-{anew_after:03d}"

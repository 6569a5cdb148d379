"""Logs and checkpoints of runs: files beside the store's parts, so that any host can read them and go on.

    logs/<run>/<attempt>.log        what an attempt's process printed; in a bucket, in segments (`run_logs`)
    resume/<run>/...                what a run keeps to resume from

On a disk that hosts share, a file is where it was written. Where the store is a bucket, each host has a folder of its
own, what others are to see is sent, and what they sent is brought. Knows no stage and no run but by its id.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from storage.artifacts import run_logs
from storage.artifacts.run_logs import Log, LogHere, LogSent

if TYPE_CHECKING:
    from storage.artifacts.objects import Objects

_LOGS, _RESUME = "logs", "resume"


class RunFiles:
    """Logs and checkpoints of runs, under a folder and, where there is one, in a bucket."""

    def __init__(self, root: Path, objects: Objects | None = None) -> None:
        """Holds both.

        Args:
            root: the folder; that of a local store, else one of this host's own.
            objects: the bucket that holds the store; None where the store is a folder.
        """
        self._root = root
        self._objects = objects

    @property
    def are_sent(self) -> bool:
        """Whether other hosts see only what is sent."""
        return self._objects is not None

    def log(self, run_id: str, attempt: int) -> Path:
        """The log file of one attempt of a run, UTF-8 text, as it lies here."""
        return self._root / _LOGS / run_id / f"{attempt:03d}.log"

    def open_log(self, run_id: str, attempt: int) -> Log:
        """The log of one attempt, to be read: as it lies here, or what was sent of it, whatever is more.

        Raises:
            StoreUnreachable: the bucket does not answer.
        """
        here = LogHere(self.log(run_id, attempt))
        if self._objects is None:
            return here
        sent = LogSent.of(self._objects, self._name(here.path))
        return sent if sent.num_bytes > here.num_bytes else here

    def send_log(self, path: Path, num_sent: int) -> int:
        """Lets other hosts see what was added to a log; returns how much of it they see.

        Args:
            path: the log, as it lies here.
            num_sent: what this returned before; 0 where nobody knows: then all of it is sent.

        Raises:
            FileNotFoundError: it is gone.
            StoreUnreachable: the bucket does not answer.
        """
        if self._objects is None or path.stat().st_size <= num_sent:
            return num_sent
        from storage.artifacts.objects import mapped

        content = mapped(path)
        run_logs.send(self._objects, self._name(path), content, num_sent)
        return len(content)

    def resume(self, run_id: str, anew_after: int) -> Path:
        """The folder that attempts of a run resume from.

        Args:
            run_id: the run.
            anew_after: number of the attempt after which it was to begin anew, 0 where it never was: attempts after it
                share a folder of their own, which no earlier one can write to, however late.
        """
        root = self._root / _RESUME / run_id
        return root if anew_after == 0 else root / f"after-{anew_after:03d}"

    def send(self, path: Path) -> None:
        """Lets other hosts see a file under the folder as it is now.

        Raises:
            StoreUnreachable: the bucket does not answer.
        """
        if self._objects is not None:
            self._objects.put(self._name(path), path)

    def bring(self, path: Path, into: Path) -> bool:
        """Writes what was last sent of a file; False, and nothing is written, where nothing was or nothing need be.

        Args:
            path: the file, as it would lie here.
            into: where to write it; its folder is made.

        Raises:
            StoreUnreachable: the bucket does not answer.
        """
        if self._objects is None:
            return False
        into.parent.mkdir(parents=True, exist_ok=True)
        return self._objects.download(self._name(path), into)

    def forget_resume(self, run_id: str) -> None:
        """Removes all that a run kept to resume from."""
        self._forget(_RESUME, run_id)

    def forget(self, run_id: str) -> None:
        """Removes all files of a run."""
        self._forget(_LOGS, run_id)
        self._forget(_RESUME, run_id)

    def runs_here(self) -> frozenset[str]:
        """Ids of the runs of which something lies under the folder."""
        folders = (self._root / _LOGS, self._root / _RESUME)
        return frozenset(path.name for folder in folders if folder.is_dir() for path in folder.iterdir())

    def sizes(self) -> dict[str, int]:
        """Run's id -> bytes of its files, of all runs of which something lies where every host sees it.

        Raises:
            StoreUnreachable: the bucket does not answer.
        """
        found: dict[str, int] = {}
        for what in (_LOGS, _RESUME):
            for name, size in self._lying(what).items():
                run_id = name.split("/")[1]
                found[run_id] = found.get(run_id, 0) + size
        return found

    def drop(self, gone: Collection[str], ended: Collection[str]) -> None:
        """Removes what lies under the folder and nobody needs there any more; what was sent stays as it is.

        Args:
            gone: runs of which nothing is needed.
            ended: runs that need nothing to resume from.
        """
        for run_id in gone:
            self._drop(_LOGS, run_id)
        for run_id in (*gone, *ended):
            self._drop(_RESUME, run_id)

    def _lying(self, what: str) -> dict[str, int]:
        """Names of the files of one sort -> bytes."""
        if self._objects is not None:
            return self._objects.sizes(f"{what}/")
        found: dict[str, int] = {}
        for path in (self._root / what).rglob("*"):
            with contextlib.suppress(OSError):  # it may go meanwhile
                if path.is_file() and path.parent != self._root / what:
                    found[self._name(path)] = path.stat().st_size
        return found

    def _forget(self, what: str, run_id: str) -> None:
        self._drop(what, run_id)
        if self._objects is not None:
            self._objects.delete(*self._objects.under(f"{what}/{run_id}/"))

    def _drop(self, what: str, run_id: str) -> None:
        shutil.rmtree(self._root / what / run_id, ignore_errors=True)

    def _name(self, path: Path) -> str:
        """The object's name: the path within the folder."""
        return path.relative_to(self._root).as_posix()

"""The seam between a host and where its runs run: processes here; other places in later steps."""

from __future__ import annotations

from typing import Protocol

from storage.records.claims import Claim


class Stoppable(Protocol):
    """A run's process, whoever started it."""

    def terminate(self) -> None:
        """Asks it to stop and to give its run back."""

    def kill(self) -> None:
        """Ends it at once, children included."""


class Started(Stoppable, Protocol):
    """A run that has been started somewhere."""

    @property
    def claim(self) -> Claim:
        """What was claimed."""

    def ended(self) -> bool:
        """True once it no longer runs; nothing that it started runs on then."""

    def outcome(self) -> str:
        """How it ended, in words, once it has."""

    def refused(self) -> bool:
        """True where it ended without a word in the records: its code is of another revision than the database."""

    def rss_bytes(self) -> int:
        """Resident memory of its processes now; 0 where it is not known."""


class Launcher(Protocol):
    """Starts claimed runs."""

    def start(self, claim: Claim) -> Started:
        """Starts one run; the fencing token travels with it."""

    def find(self, run_id: str) -> Stoppable | None:
        """A run that a host which has died started here; None where it is not found."""

"""The client's calls that act: plans beforehand, re-runs, deletions, hosts. A part of `service.client.Client`."""

from __future__ import annotations

from urllib.parse import quote

from service import schemas
from service.connection import Connection, new_key

DRY = {"dry_run": "true"}


class Acting(Connection):
    """Calls that act on runs, experiments and hosts, and what can be known of them beforehand."""

    def plan(self, body: schemas.ExperimentRequest | schemas.RunListRequest) -> schemas.DryRun:
        """What an experiment would compute and what it would take; nothing is submitted.

        Raises:
            UnknownName, SpecInvalid: as when it is submitted.
        """
        return self._post("/experiments", schemas.DryRun, body, params=DRY)

    def plan_run(self, body: schemas.RunRequest) -> schemas.DryRun:
        """The same for one run."""
        return self._post("/runs", schemas.DryRun, body, params=DRY)

    def rerun(self, run_id: str, body: schemas.RerunRequest, *, idempotency_key: str | None = None) -> schemas.Run:
        """Queues a new run of an old one's spec with changes.

        Raises:
            SpecInvalid: a field that its stage does not have, or a value out of range.
            NotFound: there is none of that id.
        """
        key = idempotency_key or new_key()
        return self._post(f"/runs/{quote(run_id, safe='')}/rerun", schemas.Run, body, idempotency_key=key)

    def delete_run(self, run_id: str, *, dry_run: bool = False, at_once: bool = False) -> schemas.Removal:
        """Deletes a run that has ended; the artifacts that only it used are marked, and go after the grace period.

        Args:
            run_id: the run.
            dry_run: only tell what that would be.
            at_once: let the artifacts go now; whoever reads one without a lease is not asked.

        Raises:
            IllegalMove: it has not ended, or another run waits for it.
            NotPermitted: it is somebody else's.
        """
        return self._delete(f"/runs/{quote(run_id, safe='')}", schemas.Removal, _how(dry_run, at_once))

    def delete_experiment(self, experiment_id: str, *, dry_run: bool = False, at_once: bool = False) -> schemas.Removal:
        """Deletes an experiment whose runs have ended, with them; the rest as `delete_run`."""
        how = _how(dry_run, at_once)
        return self._delete(f"/experiments/{quote(experiment_id, safe='')}", schemas.Removal, how)

    def delete_artifact(self, key: str, *, dry_run: bool = False, at_once: bool = False) -> schemas.Removal:
        """Deletes an artifact that no run gives or reads; arguments as `delete_run`.

        Raises:
            InUse: a run, a pin, a lease or another artifact needs it.
            NotPermitted: it is somebody else's.
        """
        return self._delete(f"/artifacts/{quote(key, safe='')}", schemas.Removal, _how(dry_run, at_once))

    def pause_host(self, host_id: str) -> schemas.Host:
        """Tells a host to claim nothing more.

        Raises:
            NotPermitted: the client's token is no admin's.
            IllegalMove: the host has ended.
        """
        return self._post(f"/hosts/{quote(host_id, safe='')}/pause", schemas.Host)

    def resume_host(self, host_id: str) -> schemas.Host:
        """Tells a host to claim runs again; errors as `pause_host`."""
        return self._post(f"/hosts/{quote(host_id, safe='')}/resume", schemas.Host)

    def drain_host(self, host_id: str) -> schemas.Host:
        """Tells a host to claim nothing more and to end with its runs; errors as `pause_host`."""
        return self._post(f"/hosts/{quote(host_id, safe='')}/drain", schemas.Host)


def _how(dry_run: bool, at_once: bool) -> dict[str, str] | None:
    """The parameters of a deletion."""
    return {**(DRY if dry_run else {}), **({"at_once": "true"} if at_once else {})} or None

"""What a client reads of many runs at once: lists, comparisons, lineage and attempts. Part of `client.Client`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Unpack

from service import schemas
from service.connection import Connection


class RunReading(Connection):
    """The calls that look at runs and experiments without touching them."""

    def runs(self, **wanted: Unpack[schemas.RunWanted]) -> Iterator[schemas.Run]:
        """Runs, newest first unless `sort` says otherwise; each argument that is given narrows the list.

        Args:
            **wanted: as the API's parameters: state, stage, experiment, dataset, owner, tag, text, created_after,
                created_before, finished_after, finished_before (datetimes), metric (bounds such as "loss<0.5"), sort.

        Raises:
            InvalidInput: a bound, a sort or a state that there is none of.
        """
        return self._pages("/runs", schemas.RunPage, _parameters(wanted))

    def run_parts(self, fields: Sequence[str], **wanted: Unpack[schemas.RunWanted]) -> Iterator[schemas.RunPart]:
        """Runs with some of their fields; as `runs`, and less to read and to send.

        Raises:
            UnknownName: a field that runs do not have.
        """
        return self._pages("/runs", schemas.RunPartPage, {**_parameters(wanted), "fields": ",".join(fields)})

    def compare(self, run_ids: Sequence[str]) -> schemas.Comparison:
        """2 to 100 runs side by side.

        Raises:
            InvalidInput: fewer or more.
            NotFound: there is none of one of those ids.
        """
        return self._get("/runs/compare", schemas.Comparison, {"id": list(run_ids)})

    def lineage(self, run_id: str, *, depth: int = 10, limit: int = 200) -> schemas.Lineage:
        """What a run was made from and what was made from it, at most `depth` steps and `limit` runs.

        Raises:
            NotFound: there is none of that id.
        """
        return self._get(f"/runs/{run_id}/lineage", schemas.Lineage, {"depth": str(depth), "limit": str(limit)})

    def attempts(self, run_id: str) -> Sequence[schemas.Attempt]:
        """The attempts at a run, first to last.

        Raises:
            NotFound: there is none of that id.
        """
        return self._get(f"/runs/{run_id}/attempts", schemas.AttemptList).items

    def experiments(self, **wanted: Unpack[schemas.ExperimentWanted]) -> Iterator[schemas.Experiment]:
        """Experiments, newest first unless `sort` says otherwise.

        Args:
            **wanted: as the API's parameters: owner, recipe, text, created_after, created_before (datetimes), sort.
        """
        return self._pages("/experiments", schemas.ExperimentPage, _parameters(wanted))


def _parameters(wanted: Mapping[str, object]) -> dict[str, str | list[str] | None]:
    """What was asked for, as it stands in a URL; what was not is left out."""
    found: dict[str, str | list[str] | None] = {}
    for name, value in wanted.items():
        if isinstance(value, datetime):
            found[name] = value.astimezone(UTC).isoformat()
        elif isinstance(value, str):
            found[name] = value
        elif isinstance(value, Sequence) and value:
            found[name] = [str(item) for item in value]
    return found

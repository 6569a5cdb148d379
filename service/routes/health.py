"""Whether the service lives and can work, and what it is: health, readiness, version."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from fastapi import APIRouter, Response

from migrations import upgrade
from service import examples, problems
from service.dependencies import TheDatabase, TheMeasures, TheSettings
from service.schemas import Health, Ready, Version

probes = APIRouter(tags=["service"], responses=problems.RESPONSES)
router = APIRouter(tags=["service"], responses=problems.RESPONSES)


@probes.get("/healthz", summary="Whether the service answers")
def healthz() -> Health:
    """Answers without asking the database: for whoever restarts the process."""
    return Health(version=version())


@probes.get("/readyz", summary="Whether the service can work")
def readyz(db: TheDatabase) -> Ready:
    """Asks the database, and checks that it has this version's tables; 503 where it cannot work."""
    upgrade.check(db)
    return Ready(schema_revision=upgrade.HEAD)


@probes.get(
    "/metrics",
    summary="What Prometheus reads",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus's text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": examples.PROMETHEUS}},
        }
    },
)
def read_measures(measures: TheMeasures) -> Response:
    """Requests by route and status since the start, and the lab now: runs by state, hosts, what is published."""
    return Response(measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/version", summary="Version of the service and commit of its code")
def read_version(settings: TheSettings) -> Version:
    """The version; the commit where it runs from a checkout; and where artifacts lie."""
    commit, dirty = _commit()
    return Version(version=version(), commit=commit, dirty=dirty, store=settings.store_address)


@lru_cache(maxsize=1)
def version() -> str:
    """The installed version; "unknown" where vlglab is not installed."""
    try:
        return metadata.version("vlglab")
    except metadata.PackageNotFoundError:
        return "unknown"


@lru_cache(maxsize=1)
def _commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that this runs from and whether files of it were changed; None without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *words: str) -> str:
    """What git answers."""
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

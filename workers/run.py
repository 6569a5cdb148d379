"""One run in one process: hold the lease, compute the key, run the stage, publish, report.

What this process writes it writes under its fencing token; once fenced off it writes nothing more.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from storage import keys, log_format
from storage.artifacts import checking, choose
from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.errors import (
    DatabaseError,
    LeaseLost,
    NotFound,
    PartGone,
    RunCancelled,
    RunStopped,
    StoreCorrupt,
    StoreError,
    VlglabError,
    WrongRevision,
)
from storage.records import artifacts, datasets, leases, lost_attempts, revision, runs
from storage.records.artifacts import ArtifactRow
from storage.records.database import Database
from storage.records.evaluations import EvaluationRow
from storage.records.features import PULLED_FROM, Finding
from storage.settings import Settings
from storage.specs import stages
from storage.targets import Sources
from workers.context import Context, Machine, RawDataset
from workers.line import Line
from workers.stages import table

log = logging.getLogger("vlglab.run")

CHECKOUT = Path(__file__).resolve().parent.parent
"""Where this code lies."""

WRONG_REVISION_STATUS = 4
"""Exit status of a process whose code is of another revision than the database: it has written nothing."""

RECORDED_PACKAGES = (
    "torch", "numpy", "scipy", "zarr", "numcodecs", "safetensors", "pillow", "tensorflow", "tensorflow-cpu",
    "transformers", "tokenizers", "MinkowskiEngine",
)  # fmt: skip
"""Distributions whose versions results may depend on; what is recorded is what is installed, used or not."""


def run_once(run_id: str, token: str, config: Settings) -> int:
    """Runs a claimed run to its end.

    Returns:
        The process's exit status: 0 when the run ended well or was given back, 1 when it failed, 3 when it was
        stopped or fenced off, WRONG_REVISION_STATUS where this code must not touch the database: the host gives the
        run back then.
    """
    log_format.about_process(run_id=run_id)
    db = Database.open(config.resolved_database_url)
    try:
        with db.read() as session:
            revision.check(session)
        return _run(run_id, token, db, config)
    except WrongRevision as error:
        log.error("%s", error)
        return WRONG_REVISION_STATUS
    finally:
        db.close()


def _run(run_id: str, token: str, db: Database, config: Settings) -> int:
    """The same, with the database open."""
    try:
        leases.report(db, token, pid=os.getpid(), lease_s=config.lease_s)
    except LeaseLost as error:
        log.warning("fenced off: %s", error)
        return 3
    store = choose.open_store(config)
    run = runs.get(db, run_id)
    log_format.about_process(attempt=run.attempt)
    line = Line(db, token, config, run.time_limit_s)
    signal.signal(signal.SIGTERM, lambda *_: line.stop("its host is stopping"))
    device = os.environ.get("VLGLAB_DEVICE", "cpu")
    log.info("attempt %d at the run %s (%s) begins", run.attempt, run_id, run.stage)
    try:
        with line:  # its heart beats before anything that may take long: git, and whatever the stage imports
            leases.start(
                db, token, pid=os.getpid(), host=socket.gethostname(), device=device, code=code_version(),
                environment=environment(), lease_s=config.lease_s,
            )  # fmt: skip
            _work(run, db, store, line, device, config)
        log.info("the run %s has ended well", run_id)
    except LeaseLost as error:
        log.warning("fenced off: %s", error)
        return 3
    except RunCancelled:
        leases.cancelled(db, token)
        return 3
    except RunStopped as error:
        leases.release(db, token, error.message)
        return 3
    except DatabaseError as error:
        return _lost(db, token, error, config)
    except Exception as error:  # noqa: BLE001
        return _failed(db, token, error)
    return 0


def _lost(db: Database, token: str, error: DatabaseError, config: Settings) -> int:
    """Lets the run go on in another attempt: that the database was away says nothing about the run."""
    log.error("this attempt is lost: %s", error.message)
    lost_attempts.abandon(db, token, error.message, config.max_attempts)
    return 1


def _failed(db: Database, token: str, error: Exception) -> int:
    """Records why the run failed, in words for its users; the traceback goes to its log."""
    log.exception("the run failed")
    known = isinstance(error, VlglabError)
    code = error.code if isinstance(error, VlglabError) else "internal_error"
    message = str(error) if known else f"{type(error).__name__}: {error}"
    try:
        leases.fail(db, token, code, message, getattr(error, "scene", None))
    except LeaseLost as lost:
        log.warning("fenced off: %s", lost)
    return 1


def _work(run: runs.Run, db: Database, store: ArtifactStore, line: Line, device: str, config: Settings) -> None:
    """Computes the key, and the stage where nothing of that key is published."""
    spec = stages.parse(run.spec)
    stage = table.load(spec.stage)
    files = choose.open_run_files(config)
    context = Context(
        spec=spec,
        store=store,
        token=line.token,
        inputs=_inputs(run, store, db, line.token),
        reporter=line,
        machine=Machine(
            device,
            _threads(config),
            files.resume(run.id, run.anew_after),
            config.home_path / "cache",
            config.weights_path,
            files,
            Sources(tuple(config.pull_hosts), config.pull_tokens),
        ),
        dataset=_dataset(run, db),
        recorded=_recorded(run, db),
    )
    context.external = stage.external_inputs(context)
    holder = leases.set_key(db, line.token, keys.artifact_key(spec, "", context.input_keys()))
    if holder is not None:
        raise RunStopped(f"{holder} is computing the same artifact; waiting for it")
    outputs = stage.output_keys(context)
    if outputs and artifacts.exists(db, outputs.values()) == set(outputs.values()):
        stage.found(context)
        line.flush()
        with _deleted_meanwhile():
            leases.succeed(db, line.token, outputs, cached=True)
        return
    stage.run(context)
    line.flush()
    with _deleted_meanwhile():
        for name, manifest in context.published.items():
            _record(db, line.token, run, manifest, context.digests[name], store, context.pulled_from)
        leases.succeed(db, line.token, {name: m.key for name, m in context.published.items()}, cached=False)
    files.forget_resume(run.id)


@contextmanager
def _deleted_meanwhile() -> Iterator[None]:
    """An artifact that was recorded a moment ago and is not found was deleted: the run begins again."""
    try:
        yield
    except NotFound as error:
        raise PartGone(error.message) from error


def _record(
    db: Database,
    token: str,
    run: runs.Run,
    manifest: ArtifactManifest,
    digest: str,
    store: ArtifactStore,
    pulled_from: Mapping[str, str],
) -> None:
    """Makes a published artifact visible; where it came from stands in its row, for its manifest is as it was there."""
    attributes = {k: v for k, v in manifest.attributes.items() if k not in ("scores", PULLED_FROM)}
    if pulled_from:
        attributes[PULLED_FROM] = dict(pulled_from)
    leases.record_artifact(
        db,
        token,
        ArtifactRow(
            key=manifest.key,
            kind=manifest.kind,
            stage=manifest.stage,
            output=manifest.output,
            run_id=run.id,
            manifest_digest=digest,
            num_bytes=sum(part.num_bytes for part in manifest.parts),
            num_scenes=len(manifest.scenes),
            num_points=sum(part.num_points for part in manifest.parts),
            attributes=attributes,
        ),
        partial(store.is_whole, manifest),
        manifest.inputs,
    )
    scores = manifest.attributes.get("scores")
    if scores:
        leases.record_evaluations(db, token, manifest.key, [EvaluationRow(**row) for row in scores])


def _inputs(run: runs.Run, store: ArtifactStore, db: Database, token: str) -> dict[str, ArtifactManifest]:
    """Input name -> manifest. Of embeddings whose manifest cannot be read it is recorded that they do not verify.

    Raises:
        NotFound: an input's artifact is no longer in the store.
        StoreCorrupt, FormatTooNew: its manifest cannot be read.
    """
    found = {}
    for name, state in run.inputs.items():
        key = state["artifact_key"]
        manifest = None if key is None else _manifest(key, store, db, token)
        if manifest is None:
            raise NotFound(
                f"the input {name!r} (artifact {key}) is not in the store; run the stage that makes it again"
            )
        found[name] = manifest
    return found


def _manifest(key: str, store: ArtifactStore, db: Database, token: str) -> ArtifactManifest | None:
    """An artifact's manifest, or None where there is none; one that was damaged is recorded as such."""
    try:
        return store.manifest(key)
    except StoreError as error:
        faults = checking.manifest_faults(store, key, artifacts.digests(db, [key]).get(key))
        if not faults:
            raise  # it is as it was published: a newer vlglab wrote it
        leases.record_finding(db, token, key, Finding.of(faults))
        raise StoreCorrupt(f"{faults[0]}; {error.message}") from error


def _recorded(run: runs.Run, db: Database) -> dict[str, str]:
    """Input name -> digest of its manifest as it was recorded; an artifact that was deleted meanwhile has none.

    An artifact that the spec names itself stands here as "artifact".
    """
    keys_of = {name: state["artifact_key"] for name, state in run.inputs.items() if state["artifact_key"] is not None}
    if "artifact" in run.spec:
        keys_of["artifact"] = run.spec["artifact"]
    known = artifacts.digests(db, keys_of.values())
    return {name: known[key] for name, key in keys_of.items() if key in known}


def _dataset(run: runs.Run, db: Database) -> RawDataset | None:
    if run.dataset is None:
        return None
    row = datasets.get(db, run.dataset)
    return RawDataset(row.name, row.kind, Path(row.path), row.options)


def _threads(config: Settings) -> int:
    return config.threads or len(os.sched_getaffinity(0))


def code_version(root: Path = CHECKOUT) -> dict[str, Any]:
    """The version of vlglab, and where `root` is a checkout, its commit and whether a file of it was changed."""
    found: dict[str, Any] = {"commit": None, "dirty": None}
    try:
        found["version"] = metadata.version("vlglab")
    except metadata.PackageNotFoundError:
        found["version"] = "unknown"
    if not (root / ".git").exists():
        return found
    try:
        found["commit"] = _git(root, "rev-parse", "HEAD")
        found["dirty"] = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError) as error:
        log.info("git does not answer: %s", error)
    return found


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def environment() -> dict[str, Any]:
    """What the results may depend on besides the code: Python, platform, threads, versions of packages.

    Versions are read from the distributions' metadata: no package is imported, and one that is not installed is
    "absent".
    """
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "packages": versions,
    }

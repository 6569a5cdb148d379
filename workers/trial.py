"""One stage in this process, without service or database: for trials in a notebook, and for tests.

Uses the same stage code, keys and store contract as a run; only the records are missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import keys
from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.errors import QuotaExceeded
from storage.specs.spec import StageSpec
from storage.specs.stages import check_inputs
from workers.context import Context, Machine, RawDataset
from workers.stages import table


@dataclass(slots=True)
class Recorder:
    """A reporter that keeps what it is told."""

    metrics: list[tuple[str, int, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last_progress: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, tuple[list[str], int | None]] = field(default_factory=dict)
    """Artifact -> what its verification found: faults, points covered."""
    room: dict[str, int] = field(default_factory=dict)
    """Part's key -> bytes, of what a stage asked room for."""
    quota_bytes: int | None = None
    """What it may ask for at most; None: all."""
    stop: Exception | None = None
    """Raised at the next check, where it is set: how a test cancels a stage."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Keeps one point."""
        self.metrics.append((name, step, value))

    def progress(self, **progress: Any) -> None:
        """Keeps the latest progress."""
        self.last_progress = progress

    def note(self, message: str) -> None:
        """Keeps a note."""
        self.notes.append(message)

    def verified(self, key: str, faults: Sequence[str], num_covered: int | None) -> None:
        """Keeps what a verification found."""
        self.findings[key] = list(faults), num_covered

    def keep_room(self, parts: Mapping[str, int]) -> None:
        """Keeps what room was asked for; refuses more than `quota_bytes`, for here are no records of what is used."""
        self.room = dict(parts)
        if self.quota_bytes is not None and sum(parts.values()) > self.quota_bytes:
            raise QuotaExceeded(f"{sum(parts.values()):,} more bytes do not fit: {self.quota_bytes:,} are free")

    def check(self) -> None:
        """Raises `stop`, where it is set."""
        if self.stop is not None:
            raise self.stop


@dataclass(frozen=True, slots=True)
class Trial:
    """What a stage did: its published artifacts by output name, and what it reported."""

    artifacts: Mapping[str, ArtifactManifest]
    recorder: Recorder


def run_stage(
    spec: StageSpec,
    store: ArtifactStore,
    inputs: Mapping[str, ArtifactManifest] | None = None,
    *,
    dataset: RawDataset | None = None,
    machine: Machine | None = None,
    recorder: Recorder | None = None,
    recorded: Mapping[str, str] | None = None,
    reuse: bool = False,
) -> Trial:
    """Runs one stage to its end.

    Args:
        spec: what to do.
        store: where inputs lie and outputs go.
        inputs: input name -> manifest.
        dataset: the raw dataset, for stages that read one.
        machine: device, threads, scratch folder; by default the CPU, one thread, a temporary folder.
        recorded: input name -> digest of its manifest as records would have it.
        reuse: whether nothing is computed where the store has all that the stage would make, as a lab's runs do.
        recorder: takes what the stage reports; by default a new one.

    Raises:
        SpecInvalid: the inputs do not fit the stage.
        VlglabError: whatever the stage raises.
    """
    given = dict(inputs or {})
    check_inputs(spec, {name: manifest.kind for name, manifest in given.items()})
    heard = recorder or Recorder()
    stage = table.load(spec.stage)
    with tempfile.TemporaryDirectory() as scratch:
        context = Context(
            spec=spec,
            store=store,
            token=keys.new_token(),
            inputs=given,
            reporter=heard,
            machine=machine or Machine(scratch=Path(scratch), cache=Path(scratch)),
            dataset=dataset,
            recorded=recorded or {},
        )
        context.external = stage.external_inputs(context)
        if reuse and (found := _published(stage.output_keys(context), store)):
            stage.found(context)
            return Trial(found, heard)
        stage.run(context)
    return Trial(context.published, heard)


def _published(keys_of: Mapping[str, str], store: ArtifactStore) -> dict[str, ArtifactManifest]:
    """Output -> manifest where all of them are published, else nothing."""
    found = {name: store.manifest(key) for name, key in keys_of.items()}
    return {name: manifest for name, manifest in found.items() if manifest} if all(found.values()) else {}

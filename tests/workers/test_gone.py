"""A run that counts on what somebody deletes at that moment begins again; it neither fails nor publishes half of it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from storage import keys
from storage.artifacts.store import WHOLE
from storage.artifacts.zarr_store import ZarrStore
from storage.records import artifacts, claims, events, hosts, runs
from storage.records.database import Database
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.moving_runs import make_ready
from workers import run as one_run
from workers.context import Context

SPEC = stages.EmbedLabels(label_set="s3dis13")
PART, ARTIFACT = keys.artifact_key(SPEC, "text_embeddings/part", {}), keys.artifact_key(SPEC, "text_embeddings", {})
Delete = Callable[[ZarrStore], None]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A run sets its own handler of SIGTERM; the tests' process gets back what it had."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def write(context: Context) -> None:
    """Writes the part where it is not there."""
    with context.scene_part("text_embeddings", WHOLE, {}) as part:
        if part is not None:
            part.write("embeddings", np.ones((13, 4), np.float32))


def delete(store: ZarrStore) -> None:
    store.withdraw(ARTIFACT, [PART])


@pytest.mark.parametrize("moment", ["while it is found", "while it is read", "before it is published", "after"])
def test_a_run_whose_part_is_deleted_begins_again(
    db: Database, settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = ZarrStore(settings.store_path)
    attempts: list[int] = []

    def work(context: Context) -> None:
        attempts.append(1)
        first = len(attempts) == 1
        write(context)
        if first and moment == "while it is found":
            with context.scene_part("text_embeddings", WHOLE, {}) as part:
                assert part is None
                delete(store)
        if first and moment in ("while it is read", "before it is published"):
            delete(store)
        if moment == "while it is read":
            context.latest("text_embeddings")
        context.publish("text_embeddings")
        if first and moment == "after":
            delete(store)

    stage = SimpleNamespace(external_inputs=lambda context: {}, output_keys=one_run.table.computed_keys, run=work)
    monkeypatch.setattr(one_run.table, "load", lambda name: stage)
    config = settings.model_copy(update={"database_url": database_url})
    made = runs.create(db, [PlannedRun("text", SPEC)])[0]
    host = hosts.register(db, "here", 1, 1, [])
    for state, status in (("queued", 3), ("succeeded", 0)):
        make_ready(db, made.id)
        claim = claims.claim(db, host, 60.0)
        assert claim is not None
        assert one_run.run_once(claim.run_id, claim.token, config) == status
        assert runs.get(db, made.id).state == state
        assert (artifacts.exists(db, [ARTIFACT]) == {ARTIFACT}) == (state == "succeeded")
    assert store.verify(ARTIFACT) == []
    assert any("deleted" in event.message for event in events.after(db, made.id))

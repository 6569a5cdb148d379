"""A service that runs forgets old Idempotency-Keys by itself."""

from __future__ import annotations

from datetime import timedelta

from fastapi.testclient import TestClient
from sqlalchemy import update

from migrations.upgrade import upgrade
from service.app import create_app
from storage.records.database import Database, now
from storage.records.idempotency import KEPT, Once
from storage.records.submissions import Submission
from storage.records.tables import IdempotencyRow
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.single_runs import create_one
from tests.fixtures.waiting import wait_until
from tests.service.conftest import ADDRESS, HERE


def test_a_service_that_runs_forgets_old_keys(settings: Settings) -> None:
    upgrade(settings.resolved_database_url)
    db = Database.open(settings.resolved_database_url)
    once = Once("ada", "k", "x")
    create_one(db, PlannedRun("text", stages.EmbedLabels(label_set="s3dis13")), Submission("ada", once=once))
    with db.write() as session:
        session.execute(update(IdempotencyRow).values(created_at=now(session) - KEPT - timedelta(days=1)))
    with TestClient(create_app(settings), ADDRESS, client=HERE):
        wait_until(lambda: once.made(db) is None, 20)
    db.close()

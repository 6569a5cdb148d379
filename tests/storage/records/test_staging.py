from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.artifacts.zarr_store import ZarrStore
from storage.records import claims, leases, staging
from storage.records.claims import Claim
from storage.records.database import Database

Claimed = Callable[..., Claim]


def stage(store: ZarrStore, token: str) -> Path:
    """What a writer of this token leaves when it is killed."""
    path = store.root / "staging" / token / "ab12" / "zarr.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return path


def test_what_attempts_that_are_over_left_is_swept_and_what_living_ones_write_is_not(
    db: Database, store: ZarrStore, claimed: Claimed
) -> None:
    living, over = claimed(), claimed()
    leases.fail(db, over.token, "c", "m")
    paths = {token: stage(store, token) for token in (living.token, over.token, "never-claimed")}
    assert staging.sweep(db, store) == 2
    assert [token for token, path in paths.items() if path.exists()] == [living.token]
    assert store.staged() == {living.token}
    leases.succeed(db, living.token, {}, cached=False)
    assert staging.sweep(db, store) == 1
    assert store.staged() == frozenset()


def test_a_run_that_is_claimed_while_the_sweep_looks_keeps_what_it_stages(
    db: Database, store: ZarrStore, claimed: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(store, "dead")
    ask = claims.living_tokens
    late: list[Path] = []

    def claimed_just_after(db: Database) -> frozenset[str]:
        living = ask(db)
        late.append(stage(store, claimed().token))
        return living

    monkeypatch.setattr(claims, "living_tokens", claimed_just_after)
    assert staging.sweep(db, store) == 1
    assert late[0].exists()

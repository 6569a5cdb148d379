from __future__ import annotations

import pytest

from storage.errors import IllegalMove
from storage.records.states import DONE, FINAL, LEGAL, LIVE, STATES, check_move


def test_every_state_has_its_moves() -> None:
    assert set(LEGAL) == set(STATES)
    assert {to for ways in LEGAL.values() for to in ways} <= set(STATES)


def test_a_state_without_a_way_on_is_final_and_no_other() -> None:
    assert {state for state in STATES if not LEGAL[state]} == FINAL
    assert DONE < FINAL
    assert LIVE.isdisjoint(FINAL)


def test_every_state_can_be_reached_and_can_end() -> None:
    reached, todo = {"queued"}, ["queued"]
    while todo:
        for to in LEGAL[todo.pop()] - reached:  # type: ignore[index]
            reached.add(to)
            todo.append(to)
    assert reached == set(STATES)
    assert all(LEGAL[state] & FINAL or state == "ready" or state in FINAL for state in STATES)


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("to", STATES)
def test_a_final_state_never_changes(state: str, to: str) -> None:
    with pytest.raises(IllegalMove, match="final"):
        check_move("r1", state, to)  # type: ignore[arg-type]


def test_a_run_cannot_run_before_it_is_ready() -> None:
    with pytest.raises(IllegalMove, match="can become: cached, cancelled, ready"):
        check_move("r1", "queued", "running")

"""Rooms: which classes stand in them, their names, and that equal arguments give equal rooms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.errors import UnknownName
from storage.labels import S3DIS13
from workers.scenes.rooms.plan import ALWAYS, classes_of
from workers.scenes.rooms.render import render_view
from workers.scenes.rooms.room import make_room, room_id

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("seed", range(20))
def test_a_block_of_five_rooms_shows_every_class_and_a_room_four_to_ten(seed: int) -> None:
    for block in range(3):
        rooms = [classes_of([seed], 5 * block + k) for k in range(5)]
        assert all(4 <= len(set(room)) <= 10 and set(ALWAYS) <= set(room) for room in rooms)
        assert set().union(*rooms) == set(S3DIS13.classes)


def test_every_class_stands_in_several_training_rooms_and_not_in_all() -> None:
    rooms = [classes_of([0], k) for k in range(20)]
    for name in set(S3DIS13.classes) - set(ALWAYS):
        assert 4 <= sum(name in room for room in rooms) < 20


@pytest.mark.parametrize("style", ["site", "studio"])
def test_the_classes_of_the_plan_are_those_of_the_solids(style: str) -> None:
    for seed, index in [(seed, index) for seed in range(5) for index in range(20)]:
        room = make_room("offices", style, seed, "test", index)  # type: ignore[arg-type]
        assert {S3DIS13.classes[solid.label] for solid in room.solids} == set(room.classes)
        assert 2.9 < room.size_m[0] < 5.5 and 2.9 < room.size_m[1] < 5.1 and 2.4 <= room.size_m[2] <= 2.8


def test_training_rooms_spread_over_five_areas_and_test_rooms_over_a_sixth() -> None:
    train = [room_id("train", index) for index in range(20)]
    assert len(set(train)) == 20
    assert {name.split("_office")[0] for name in train} == {f"area_{k}" for k in range(1, 6)}
    assert {room_id("test", index).split("_office")[0] for index in range(5)} == {"area_6"}


def test_an_unknown_style_or_domain_is_an_error_that_names_the_known() -> None:
    with pytest.raises(UnknownName, match="studio"):
        make_room("offices", "studios", 0, "train", 0)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="offices"):
        make_room("office", "site", 0, "train", 0)  # type: ignore[arg-type]


def test_splits_styles_seeds_and_places_give_other_rooms() -> None:
    rooms = [
        make_room("offices", "site", 0, "train", 0),
        make_room("offices", "site", 0, "test", 0),
        make_room("offices", "studio", 0, "train", 0),
        make_room("offices", "site", 1, "train", 0),
        make_room("offices", "site", 0, "train", 1),
    ]
    assert len({room.size_m for room in rooms}) == len(rooms)


def test_nothing_that_stands_on_the_floor_runs_into_the_walls() -> None:
    for index in range(10):
        room = make_room("offices", "site", 5, "train", index)
        for solid in room.solids:
            name = S3DIS13.classes[solid.label]
            if name in ("table", "chair", "sofa", "bookcase", "clutter"):
                low, high = solid.bounds
                assert (low > -0.08).all() and (high[:2] < np.array(room.size_m[:2]) + 0.08).all()


def test_another_process_draws_the_same_room() -> None:
    code = """
import hashlib
from workers.scenes.rooms.cameras import viewpoints
from workers.scenes.rooms.render import render_view
from workers.scenes.rooms.room import make_room
from workers.scenes.rooms.surface import sample_surface
room = make_room("offices", "site", 2, "train", 3)
view = render_view(room, viewpoints(room, 1, room.rng("cameras"))[0], 64, 48, room.rng("view"))
points = sample_surface(room, 800, room.rng("points"))
parts = (view.rgb, view.depth_m, view.labels, points.points_m, points.colours, points.labels)
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""
    prints = set()
    for threads in ("1", "3"):
        environment = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        prints.add(done.stdout)
    assert len(prints) == 1


def test_a_room_is_lit_neither_black_nor_white() -> None:
    from workers.scenes.rooms.cameras import viewpoints

    for style in ("site", "studio"):
        for index in range(3):
            room = make_room("offices", style, 9, "train", index)  # type: ignore[arg-type]
            view = render_view(room, viewpoints(room, 1, room.rng("cameras"))[0], 64, 48, room.rng("view"))
            assert 25 < view.rgb.mean() < 235
            assert view.rgb.std() > 8

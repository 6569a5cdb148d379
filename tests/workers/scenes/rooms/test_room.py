"""Rooms: which classes stand in them, their names, and that equal arguments give equal rooms."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from storage.errors import UnknownName
from storage.labels import IGNORE, S3DIS13, SCANNET20, LabelSet
from storage.specs.parts import Split
from workers.scenes.rooms.domains import DomainName
from workers.scenes.rooms.plan import ALWAYS, classes_of
from workers.scenes.rooms.render import render_view
from workers.scenes.rooms.room import Room, make_room, room_id
from workers.scenes.rooms.styles import StyleName

ROOT = Path(__file__).resolve().parents[4]
ROOMS: tuple[tuple[Split, int], ...] = (("train", 0), ("train", 1), ("train", 2), ("test", 0))


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


@pytest.mark.parametrize(("domain", "label_set", "least_m"), [("offices", S3DIS13, 2.9), ("homes", SCANNET20, 2.2)])
@pytest.mark.parametrize("style", ["site", "studio"])
def test_the_classes_of_the_plan_are_those_of_the_solids(
    style: StyleName, domain: DomainName, label_set: LabelSet, least_m: float
) -> None:
    for seed, index in [(seed, index) for seed in range(5) for index in range(0, 20, 1 if domain == "offices" else 2)]:
        room = make_room(domain, style, seed, "test", index)
        assert room.label_set is label_set
        shown = {label_set.classes[solid.label] for solid in room.solids if solid.label != IGNORE}
        assert shown == set(room.classes)
        assert least_m < room.size_m[0] < 5.5 and least_m < room.size_m[1] < 5.1 and 2.4 <= room.size_m[2] <= 2.8


def test_training_rooms_spread_over_five_areas_and_test_rooms_over_a_sixth() -> None:
    train = [room_id("train", index) for index in range(20)]
    assert len(set(train)) == 20
    assert {name.split("_office")[0] for name in train} == {f"area_{k}" for k in range(1, 6)}
    assert {room_id("test", index).split("_office")[0] for index in range(5)} == {"area_6"}


def test_an_unknown_style_or_domain_is_an_error_that_names_the_known() -> None:
    with pytest.raises(UnknownName, match="studio"):
        make_room("offices", "studios", 0, "train", 0)  # type: ignore[arg-type]
    for wrong, nearest in (("office", "offices"), ("house", "homes")):
        with pytest.raises(UnknownName, match=nearest):
            make_room(wrong, "site", 0, "train", 0)  # type: ignore[arg-type]


def test_splits_styles_seeds_and_places_give_other_rooms() -> None:
    rooms = [
        make_room("offices", "site", 0, "train", 0),
        make_room("offices", "site", 0, "test", 0),
        make_room("offices", "studio", 0, "train", 0),
        make_room("offices", "site", 1, "train", 0),
        make_room("offices", "site", 0, "train", 1),
        *(make_room("homes", "site", seed, "train", 0) for seed in (0, 1)),
        make_room("homes", "site", 0, "test", 0),
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


@pytest.mark.parametrize("domain", ["offices", "homes"])
def test_another_process_draws_the_same_room(domain: str) -> None:
    code = """
import hashlib
from workers.scenes.rooms.cameras import viewpoints
from workers.scenes.rooms.render import render_view
from workers.scenes.rooms.room import make_room
from workers.scenes.rooms.surface import sample_surface
room = make_room(DOMAIN, "site", 2, "train", 3)
view = render_view(room, viewpoints(room, 1, room.rng("cameras"))[0], 64, 48, room.rng("view"))
points = sample_surface(room, 800, room.rng("points"))
parts = (view.rgb, view.depth_m, view.labels, points.points_m, points.colours, points.labels)
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""
    prints = set()
    for threads in ("1", "3"):
        environment = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        done = subprocess.run(
            [sys.executable, "-c", code.replace("DOMAIN", repr(domain))],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        prints.add(done.stdout)
    assert len(prints) == 1


@pytest.mark.parametrize("domain", ["offices", "homes"])
def test_a_room_is_lit_neither_black_nor_white(domain: DomainName) -> None:
    from workers.scenes.rooms.cameras import viewpoints

    for style in ("site", "studio"):
        for index in range(3):
            room = make_room(domain, style, 9, "train", index)
            view = render_view(room, viewpoints(room, 1, room.rng("cameras"))[0], 64, 48, room.rng("view"))
            assert 25 < view.rgb.mean() < 235
            assert view.rgb.std() > 8


def described(room: Room) -> str:
    """All that a room is made of, lengths to a hundredth of a millimetre: last bits differ between machines."""

    def rounded(values: npt.ArrayLike) -> str:
        return str((np.round(np.asarray(values, np.float64), 5) + 0.0).tolist())

    lines: list[object] = [room.id, room.classes, rounded(room.size_m)]
    for solid in room.solids:
        look = solid.finish
        numbers = (*look.colour, *look.accent, look.scale_m, look.contrast, *look.shift, look.glow)
        shape = rounded([*solid.centre, *solid.axes.ravel(), *solid.half])
        lines.append([solid.kind, shape, solid.label, solid.instance, solid.bare_below, look.pattern, rounded(numbers)])
    light = room.light
    lines += [[rounded(low), rounded(high)] for low, high in room.air]
    lines += [rounded(part) for part in (light.lamps, light.colours, light.ambient, light.daylight, light.direction)]
    return "\n".join(map(str, lines))


@pytest.mark.parametrize(
    ("style", "digest"),
    [
        ("site", "07d728ad54ec8958f441206e72e3e13b"),
        ("studio", "6214e30ea9ba1fb5b38af8e858be4e10"),
    ],
)
def test_offices_are_those_that_the_frozen_encoder_and_all_published_figures_rest_on(
    style: StyleName, digest: str
) -> None:
    rooms = [make_room("offices", style, seed, split, k) for seed in (0, 1001) for split, k in ROOMS]
    assert hashlib.sha256("\n".join(map(described, rooms)).encode()).hexdigest()[:32] == digest

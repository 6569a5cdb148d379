"""Points sampled from surfaces: on them, uniform by area, nothing hidden."""

from __future__ import annotations

import numpy as np
import pytest

from storage.labels import IGNORE, SCANNET20
from tests.oracles.ray_oracle import Shape, distance_to_surfaces, signed_distance
from workers.scenes.rooms.room import Room, make_room
from workers.scenes.rooms.surface import sample_surface


@pytest.fixture(scope="module", params=[("offices", k) for k in (0, 1, 4)] + [("homes", k) for k in range(5)], ids=str)
def room(request: pytest.FixtureRequest) -> Room:
    domain, index = request.param
    return make_room(domain, "site", 21, "train", index)


def shapes_of(room: Room) -> list[Shape]:
    return [(s.kind, s.centre.tolist(), s.axes.T.tolist(), s.half.tolist()) for s in room.solids]


def test_points_lie_on_their_solid_and_in_no_other(room: Room) -> None:
    shapes = shapes_of(room)
    cloud = sample_surface(room, 300, room.rng("points"), noise=False)
    for point, number in zip(cloud.points_m.tolist(), cloud.solid.tolist(), strict=True):
        assert abs(signed_distance(point, shapes[number])) < 1e-5
        assert min(signed_distance(point, s) for k, s in enumerate(shapes) if k != number) > -1e-5


def test_noise_is_at_most_two_millimetres(room: Room) -> None:
    shapes = shapes_of(room)
    cloud = sample_surface(room, 300, room.rng("points"))
    gaps = [distance_to_surfaces(point, shapes) for point in cloud.points_m.tolist()]
    assert np.mean(gaps) > 0 and max(gaps) < 2.01e-3


def test_shapes_dtypes_and_labels(room: Room) -> None:
    cloud = sample_surface(room, 5000, room.rng("points"))
    assert cloud.points_m.shape == (5000, 3) and cloud.points_m.dtype == np.float32
    assert cloud.colours.shape == (5000, 3) and cloud.colours.dtype == np.uint8
    known = np.unique(cloud.labels[cloud.labels != IGNORE])
    assert {room.label_set.classes[label] for label in known} == set(room.classes)
    assert all(cloud.labels[k] == room.solids[cloud.solid[k]].label for k in range(0, 5000, 50))


def test_a_free_floor_is_sampled_uniformly(room: Room) -> None:
    """Squares of floor that nothing stands on hold as many points as their area says, within five deviations."""
    cloud = sample_surface(room, 30_000, room.rng("points"), noise=False)
    floor = next(s for s in room.solids if s.label == room.label_set.index("floor"))
    standing = [s for s in room.solids if s is not floor and abs(s.bounds[0][2]) < 2e-3]
    on_floor = cloud.points_m[cloud.labels == room.label_set.index("floor")]
    counts, side = [], 0.25
    for x in np.arange(0.2, room.size_m[0] - 0.2 - side, side):
        for y in np.arange(0.2, room.size_m[1] - 0.2 - side, side):
            clear = all(
                s.bounds[0][0] > x + side or s.bounds[1][0] < x or s.bounds[0][1] > y + side or s.bounds[1][1] < y
                for s in standing
            )
            inside = (on_floor[:, 0] >= x) & (on_floor[:, 0] < x + side)
            inside &= (on_floor[:, 1] >= y) & (on_floor[:, 1] < y + side)
            counts += [int(inside.sum())] if clear else []
    assert len(counts) > 8
    mean = np.mean(counts)
    assert mean > 20
    assert np.abs(np.array(counts) - mean).max() < 5 * np.sqrt(mean)


def test_a_room_has_about_twenty_thousand_voxels_of_five_centimetres(room: Room) -> None:
    cloud = sample_surface(room, 30_000, room.rng("points"))
    voxels = np.unique(np.floor(cloud.points_m / 0.05).astype(int), axis=0)
    assert 14_000 < len(voxels) < 24_000


def test_nothing_of_the_outside_is_sampled(room: Room) -> None:
    cloud = sample_surface(room, 5000, room.rng("points"), noise=False)
    deepest = 0.21
    assert (cloud.points_m > -deepest).all()
    assert (cloud.points_m < np.array(room.size_m) + deepest).all()
    floor = cloud.points_m[cloud.labels == room.label_set.index("floor")]
    assert len(floor) and (np.abs(floor[:, 2]) < 1e-4).all()
    walls = cloud.points_m[cloud.labels == room.label_set.index("wall")]
    assert (walls > -deepest).all()


def test_a_ceiling_is_sampled_where_the_label_set_has_one_and_nowhere_else(room: Room) -> None:
    cloud = sample_surface(room, 5000, room.rng("points"), noise=False)
    overhead = np.abs(cloud.points_m[:, 2] - room.size_m[2]) < 1e-4
    if room.label_set is SCANNET20:
        assert not overhead.any()
        assert (cloud.labels == IGNORE).mean() < 0.05
    else:
        assert (cloud.labels[overhead] == room.label_set.index("ceiling")).all() and overhead.mean() > 0.05
        assert not (cloud.labels == IGNORE).any()

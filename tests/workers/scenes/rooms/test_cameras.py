"""Cameras stand in the room, upright, and together see most of it."""

from __future__ import annotations

import numpy as np
import pytest

from workers.scenes.rooms.cameras import look_at, viewpoints
from workers.scenes.rooms.domains import DomainName
from workers.scenes.rooms.render import render_view
from workers.scenes.rooms.room import make_room
from workers.scenes.rooms.styles import StyleName
from workers.scenes.rooms.surface import sample_surface


@pytest.mark.parametrize(("domain", "indices"), [("offices", range(6)), ("homes", range(5))])
def test_eight_views_see_most_points_within_a_quarter_of_their_depth(domain: DomainName, indices: range) -> None:
    """Coverage as lifting counts it: 10 border pixels cut, |z - depth| <= 0.25 depth, nearest pixel; a loop a view."""
    shares = []
    for index in indices:
        room = make_room(domain, "site", 0, "train", index)
        points = sample_surface(room, 3000, room.rng("points")).points_m.astype(np.float64)
        seen = np.zeros(len(points), bool)
        for camera in viewpoints(room, 8, room.rng("cameras")):
            depth = render_view(room, camera, 320, 240, np.random.default_rng(0), noise=False).depth_m
            k = camera.intrinsics(320, 240)
            inverse = np.linalg.inv(camera.camera_to_world)
            for n, point in enumerate(points):
                x, y, z = inverse[:3, :3] @ point + inverse[:3, 3]
                if z <= 0:
                    continue
                u, v = round(x / z * k[0, 0] + k[0, 2]), round(y / z * k[1, 1] + k[1, 2])
                if 10 <= u < 310 and 10 <= v < 230 and abs(z - depth[v, u]) <= 0.25 * depth[v, u]:
                    seen[n] = True
        shares.append(seen.mean())
    assert min(shares) > 0.7
    assert 0.75 < np.mean(shares) < 0.97


@pytest.mark.parametrize("domain", ["offices", "homes"])
@pytest.mark.parametrize("style", ["site", "studio"])
def test_cameras_stand_upright_at_eye_height_in_the_room(style: StyleName, domain: DomainName) -> None:
    room = make_room(domain, style, 4, "train", 1)
    cameras = viewpoints(room, 8, room.rng("cameras"))
    assert len(cameras) == 8
    assert len({camera.focal for camera in cameras}) == 1
    for camera in cameras:
        pose = camera.camera_to_world
        assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
        assert abs(pose[2, 0]) < 1e-12 and pose[2, 1] < -0.5
        assert 1.3 < pose[2, 3] < 1.8
        assert 0.2 < pose[0, 3] < room.size_m[0] - 0.2 and 0.2 < pose[1, 3] < room.size_m[1] - 0.2


def test_the_target_is_in_the_middle_of_the_picture() -> None:
    position, target = np.array([1.0, 2.0, 1.5]), np.array([3.0, 0.5, 0.3])
    pose = look_at(position, target)
    local = np.linalg.inv(pose) @ np.append(target, 1.0)
    assert np.allclose(local[:3], [0, 0, np.linalg.norm(target - position)])

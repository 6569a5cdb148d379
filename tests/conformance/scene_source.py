"""What every source of scenes does: inherit the class, and give it a source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from storage.errors import InvalidInput
from workers.scenes.frames import describe_frames, frame_matrices, frames_from, read_depth_m, read_image
from workers.scenes.scene import Scene, SceneSource


class SceneSourceConformance:
    """Subclasses override `open_again` with a fixture: a function that opens the same source anew."""

    @pytest.fixture
    def open_again(self) -> Callable[[], SceneSource]:
        raise NotImplementedError

    @pytest.fixture
    def loaded(self, open_again: Callable[[], SceneSource]) -> list[Scene]:
        source = open_again()
        return [source.load(ref.id) for ref in source.scenes()]

    def test_scenes_are_sorted_and_have_splits(self, open_again: Callable[[], SceneSource]) -> None:
        refs = open_again().scenes()
        assert refs
        assert [ref.id for ref in refs] == sorted({ref.id for ref in refs})
        assert {ref.split for ref in refs} <= {"train", "test"}
        assert len({ref.fingerprint for ref in refs}) == len(refs)

    def test_two_openings_agree(self, open_again: Callable[[], SceneSource]) -> None:
        one, other = open_again(), open_again()
        assert list(one.scenes()) == list(other.scenes())
        first = one.scenes()[0].id
        a, b = one.load(first), other.load(first)
        assert np.array_equal(a.points_m, b.points_m)
        assert np.array_equal(a.colours, b.colours)
        assert describe_frames(a.frames) == describe_frames(b.frames)

    def test_arrays_fit_together(self, loaded: list[Scene]) -> None:
        for scene in loaded:
            n = len(scene.points_m)
            assert n > 0
            assert scene.points_m.shape == (n, 3) and scene.points_m.dtype == np.float32
            assert scene.colours.shape == (n, 3) and scene.colours.dtype == np.uint8
            assert np.isfinite(scene.points_m).all()
            assert list(scene.scene_labels) == sorted(set(scene.scene_labels))
            if scene.labels is not None:
                assert scene.labels.shape == (n,) and scene.labels.dtype == np.int16
                assert set(scene.scene_labels) == set(scene.labels.tolist()) - {-1}

    def test_frames_can_be_read_and_are_where_they_are_said_to_be(
        self, open_again: Callable[[], SceneSource], loaded: list[Scene]
    ) -> None:
        root = open_again().root
        for scene in loaded:
            assert scene.frames
            for frame in scene.frames:
                image, depth = read_image(root, frame), read_depth_m(root, frame)
                assert image.shape == (frame.image_size[1], frame.image_size[0], 3) and image.dtype == np.uint8
                assert depth.ndim == 2 and depth.dtype == np.float32 and 0 < depth.max() < 60
                turn = frame.camera_to_world[:3, :3]
                assert np.allclose(turn.T @ turn, np.eye(3), atol=1e-3)
                assert np.linalg.det(turn) > 0

    def test_frames_survive_being_described(self, loaded: list[Scene]) -> None:
        for scene in loaded:
            back = frames_from(describe_frames(scene.frames), *frame_matrices(scene.frames))
            for one, other in zip(scene.frames, back, strict=True):
                assert (one.name, one.image, one.depth, one.image_size) == (
                    other.name,
                    other.image,
                    other.depth,
                    other.image_size,
                )
                assert (one.image_digest, one.depth_digest, one.depth_scale) == (
                    other.image_digest,
                    other.depth_digest,
                    other.depth_scale,
                )
                assert np.array_equal(one.intrinsics, other.intrinsics)
                assert np.array_equal(one.camera_to_world, other.camera_to_world)

    def test_points_lie_on_what_the_depth_maps_show(
        self, open_again: Callable[[], SceneSource], loaded: list[Scene]
    ) -> None:
        """Most readings of a frame, back-projected, have a point of the cloud within 15 cm: poses and points agree."""
        root = open_again().root
        for scene in loaded:
            frame = scene.frames[0]
            depth = read_depth_m(root, frame)
            rows, columns = np.nonzero(depth)
            pick = np.random.default_rng(0).choice(len(rows), min(60, len(rows)), replace=False)
            k = frame.intrinsics
            scale = frame.image_size[0] / depth.shape[1]
            near = 0
            for v, u in zip(rows[pick], columns[pick], strict=True):
                z = float(depth[v, u])
                ray = np.array([(u * scale - k[0, 2]) / k[0, 0], (v * scale - k[1, 2]) / k[1, 1], 1.0]) * z
                world = frame.camera_to_world[:3, :3] @ ray + frame.camera_to_world[:3, 3]
                near += bool(np.sqrt(((scene.points_m - world) ** 2).sum(axis=1)).min() < 0.15)
            assert near > 0.85 * len(pick)

    def test_an_unknown_scene_is_an_error_that_names_it(self, open_again: Callable[[], SceneSource]) -> None:
        with pytest.raises(InvalidInput, match="no-such-scene"):
            open_again().load("no-such-scene")

"""A small world for the stages: two training rooms, one held out, three classes, embeddings that nearly tell them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from storage import keys
from storage.artifacts.store import WHOLE, ArtifactManifest, ArtifactStore, PartEntry, PartReader, PartWriter
from storage.specs.spec import ArtifactKind

DIMENSION = 16
CLASSES = (0, 1, 2)  # ceiling, floor, wall of S3DIS-13
SCENES = {"room_a": "train", "room_b": "train", "room_c": "test"}


def box(seed: int, count: int = 900) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points on the ceiling, floor and one wall of a box, their colours and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int16)
    points = rng.random((count, 3)) * [2.0, 1.6, 1.4]
    points[labels == 0, 2] = 1.4
    points[labels == 1, 2] = 0.0
    points[labels == 2, 0] = 0.0
    colours = np.clip(rng.normal(120 + 20 * labels[:, None], 30, (count, 3)), 0, 255)
    return points.astype(np.float32), colours.astype(np.uint8), labels


@dataclass
class World:
    """Artifacts by name, in a store."""

    store: ArtifactStore
    artifacts: dict[str, ArtifactManifest] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    covered: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self,
        name: str,
        kind: ArtifactKind,
        parts: dict[str, tuple[dict[str, np.ndarray], dict[str, object]]],
        salt: str = "",
        **attributes: object,
    ) -> ArtifactManifest:
        """Publishes an artifact made by hand: scene -> (arrays, attributes)."""
        entries: list[PartEntry] = []
        for scene, (arrays, about) in parts.items():
            key = keys.digest([name, scene, salt])
            with self.store.write_part(key, kind=kind, scene=scene, token="test") as part:
                for array, values in arrays.items():
                    part.write(array, values)
                part.set(**about)
            entry = self.store.entry(key)
            assert entry is not None
            entries.append(entry)
        splits = {scene: SCENES[scene] for scene in parts if scene != WHOLE}
        manifest = ArtifactManifest(
            keys.digest([name, salt]), kind, "by_hand", name, {}, {}, tuple(entries), {"splits": splits, **attributes}
        )
        self.store.publish(manifest, token="test")
        self.artifacts[name] = manifest
        return manifest


def build(store: ArtifactStore, *, garbled: bool = False) -> World:
    """The world; with `garbled` its ground truth is shuffled after the scene-level labels were derived."""
    world = World(store)
    rng = np.random.default_rng(0)
    text = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0][:13].astype(np.float32)
    scenes, truth, embeddings = {}, {}, {}
    for index, (scene, split) in enumerate(SCENES.items()):
        points, colours, labels = box(index)
        about = {"num_points": len(points), "point_order": keys.point_order(points), "split": split}
        about |= {"label_set": "s3dis13"}
        seen = np.sort(rng.choice(len(points), 700, replace=False))
        noisy = 6 * text[labels[seen]] + rng.normal(0, 1.0, (700, DIMENSION))
        views = np.bincount(seen, minlength=len(points)).astype(np.uint16)
        cameras = {"intrinsics": np.zeros((0, 3, 3)), "camera_to_world": np.zeros((0, 4, 4))}
        scenes[scene] = (
            {"points": points, "colours": colours, **cameras},
            {**about, "scene_labels": list(CLASSES), "frames": [], "has_ground_truth": True},
        )
        shown = rng.permutation(labels) if garbled else labels
        truth[scene] = ({"labels": shown.astype(np.int16)}, about)
        embeddings[scene] = (
            {"embeddings": noisy.astype(np.float16), "point_index": seen.astype(np.int64), "views": views}, about,
        )  # fmt: skip
        world.labels[scene], world.covered[scene] = labels, seen
        rng = np.random.default_rng(index + 10)
    world.add("scenes", "scenes", scenes, label_set="s3dis13", dataset="boxes")
    world.add("ground_truth", "ground_truth", truth, salt=str(garbled), label_set="s3dis13")
    world.add("embeddings", "embeddings", embeddings, dimension=DIMENSION)
    named = {WHOLE: ({"embeddings": text}, {"label_set": "s3dis13"})}
    world.add("text_embeddings", "text_embeddings", named, label_set="s3dis13")
    return world


class WatchedStore:
    """A store that passes everything on and remembers which scenes were opened."""

    def __init__(self, inner: ArtifactStore) -> None:
        self.inner = inner
        self.opened: set[str] = set()

    def part(self, key: str) -> PartReader | None:
        """Opens a part and remembers its scene."""
        found = self.inner.part(key)
        if found is not None:
            self.opened.add(found.scene)
        return found

    def write_part(self, key: str, *, kind: ArtifactKind, scene: str, token: str) -> AbstractContextManager[PartWriter]:
        """Passes on."""
        return self.inner.write_part(key, kind=kind, scene=scene, token=token)

    def entry(self, key: str) -> PartEntry | None:
        """Passes on."""
        return self.inner.entry(key)

    def publish(self, manifest: ArtifactManifest, *, token: str) -> str:
        """Passes on."""
        return self.inner.publish(manifest, token=token)

    def manifest(self, key: str) -> ArtifactManifest | None:
        """Passes on."""
        return self.inner.manifest(key)

    def verify(self, key: str) -> list[str]:
        """Passes on."""
        return list(self.inner.verify(key))

    def artifacts(self) -> Iterator[str]:
        """Passes on."""
        return self.inner.artifacts()

    def staged(self) -> frozenset[str]:
        """As the store."""
        return self.inner.staged()

    def sweep(self, tokens: frozenset[str], among: frozenset[str] | None = None) -> int:
        """Passes on."""
        return self.inner.sweep(tokens, among)

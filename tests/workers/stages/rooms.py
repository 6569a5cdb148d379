"""Rooms of S3DIS on disk with a picture each, ingested into a store and embedded by the mini encoder."""

from __future__ import annotations

from pathlib import Path

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import ArtifactStore
from storage.specs.parts import Lifting
from storage.specs.stages import Extract, Ingest
from tests.fixtures.s3dis_writer import RELEASE, write_picture, write_room
from workers import trial
from workers.context import RawDataset

HERE, ELSEWHERE = (-12.5, 30.25, 0.0), (-30.25, -12.5, 0.0)
SEES, BLIND = "Area_1_office_1", "Area_1_office_2"
REFUSE = Extract(lifting=Lifting(width=108, height=108, border_px=2))
LEAVE_OUT = REFUSE.model_copy(update={"blind_scenes": "leave_out"})


class Rooms:
    """Rooms of S3DIS on disk, ingested into a store."""

    def __init__(self, root: Path, store: ArtifactStore | None = None) -> None:
        self.root, self.store = root, store or MemoryStore()
        self.dataset = RawDataset("s3dis", "s3dis", root, {})

    def add(self, room: str, origin: tuple[float, float, float] | None) -> None:
        """Writes a room, and one picture whose pose says that the room is at `origin`."""
        write_room(self.root / RELEASE, 1, room, origin=HERE)
        if origin is not None:
            write_picture(self.root, "area_1", room, int(room[-1]), origin=origin)

    def extract(self, spec: Extract) -> trial.Trial:
        scenes = trial.run_stage(Ingest(label_set="s3dis13"), self.store, dataset=self.dataset).artifacts["scenes"]
        return trial.run_stage(spec, self.store, {"scenes": scenes}, dataset=self.dataset)

"""What a stage sees of the world: its spec, its inputs by port, outputs to publish, and a line back to whoever asked.

A stage reads and writes only through its context. The context knows the store; it knows neither SQL nor HTTP, and
nothing of where the run runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import keys
from storage.artifacts import kinds
from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import (
    WHOLE,
    ArtifactManifest,
    ArtifactStore,
    PartEntry,
    PartReader,
    PartWriter,
    scene_of,
)
from storage.errors import NotFound, PartGone, PointOrderMismatch, SpecInvalid, StoreCorrupt, naming_scene
from storage.specs import label_sets
from storage.specs.parts import Split
from storage.specs.spec import StageSpec
from storage.targets import Sources
from workers.reporting import Reporter


@dataclass(frozen=True, slots=True)
class RawDataset:
    """A registered dataset, as a stage that reads raw scenes needs it."""

    name: str
    kind: str
    root: Path
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run may use of the machine it is on."""

    device: str = "cpu"
    """A torch device, such as `cpu` or `cuda:0`."""
    threads: int = 1
    scratch: Path = Path("scratch")
    """Where this run keeps what it needs to resume; it outlives the process."""
    cache: Path = Path("cache")
    """Where anything may be kept that can be computed again, such as file digests."""
    weights: Path = Path("weights")
    """The folder of encoders' weights."""
    files: RunFiles = field(default_factory=lambda: RunFiles(Path()))
    """Lets other hosts see what lies in `scratch`, and brings what they kept."""
    sources: Sources = field(default_factory=Sources)
    """Where artifacts may be pulled from."""


@dataclass(slots=True)
class Context:
    """One run, as its stage sees it.

    Raises:
        SpecInvalid: its inputs are of different label sets.
    """

    spec: StageSpec
    store: ArtifactStore
    token: str
    inputs: Mapping[str, ArtifactManifest]
    """Input name -> manifest of the artifact behind it; the dict holds `predictions.<name>` for a port of several."""
    reporter: Reporter
    machine: Machine
    dataset: RawDataset | None = None
    external: Mapping[str, str] = field(default_factory=dict)
    """Digests of inputs that lie outside the store; they enter the keys."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """Input name, or "artifact" for one that the spec names -> digest of its manifest, where there are records."""
    pulled_from: Mapping[str, str] = field(default_factory=dict)
    """Where what this run publishes was made: the source's URL and the key there; empty where it is made here."""
    published: dict[str, ArtifactManifest] = field(default_factory=dict)
    """Output -> manifest, of what this run has published."""
    digests: dict[str, str] = field(default_factory=dict)
    """Output -> digest of its manifest."""
    _parts: dict[str, list[PartEntry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses inputs of different label sets, before anything is computed."""
        sets = {name: manifest.attributes.get("label_set") for name, manifest in self.inputs.items()}
        label_sets.check_agreement(self.spec.stage, sets)

    # ---- inputs

    def artifact(self, port: str) -> ArtifactManifest:
        """The artifact behind a port.

        Raises:
            NotFound: the run was given none.
        """
        if port not in self.inputs:
            raise NotFound(f"the run has no input {port!r}; it has: {', '.join(sorted(self.inputs)) or 'none'}")
        return self.inputs[port]

    def named(self, port: str) -> dict[str, ArtifactManifest]:
        """Name -> artifact, for a port that takes several."""
        return {k.partition(".")[2]: v for k, v in self.inputs.items() if k.partition(".")[0] == port and "." in k}

    def scenes(self, port: str, splits: Sequence[Split]) -> list[str]:
        """Ids of an input's scenes that are in one of the splits. Opens none of them."""
        of = self.artifact(port).attributes.get("splits", {})
        return [scene for scene in self.artifact(port).scenes if of.get(scene) in splits]

    def chosen_scenes(self, port: str, splits: Sequence[Split]) -> list[str]:
        """As `scenes`, for a stage that has nothing to do without one.

        Raises:
            SpecInvalid: the input has no scene in these splits; says which splits it has.
        """
        chosen = self.scenes(port, splits)
        if not chosen:
            raise SpecInvalid(
                f"the input {port!r} has no scene in the splits {', '.join(splits)}; it holds "
                f"{_holdings(self.artifact(port))}; name a split that it has in the field `splits`"
            )
        return chosen

    def in_every(self, port: str, scenes: Sequence[str], splits: Sequence[Split]) -> list[str]:
        """Those of some scenes of these splits that every artifact behind a port of several has.

        Raises:
            NotFound: there is none; says what each artifact holds.
        """
        found = self._held(port, scenes)
        return self._some(port, [scene for scene, all_have in found.items() if all_have], scenes, splits, "every one")

    def in_some(self, port: str, scenes: Sequence[str], splits: Sequence[Split]) -> list[str]:
        """Those of some scenes of these splits that at least one artifact behind a port of several has.

        Raises:
            NotFound: there is none; says what each artifact holds.
        """
        return self._some(port, list(self._held(port, scenes)), scenes, splits, "any one")

    def _held(self, port: str, scenes: Sequence[str]) -> dict[str, bool]:
        """Scene -> whether all artifacts behind a port have it, of those scenes that one has."""
        named = self.named(port).values()
        held = {scene: [scene_of(one, scene) is not None for one in named] for scene in scenes}
        return {scene: all(have) for scene, have in held.items() if any(have)}

    def _some(
        self, port: str, found: list[str], scenes: Sequence[str], splits: Sequence[Split], where: str
    ) -> list[str]:
        """What was found; raises where that is nothing."""
        if not found:
            held = "; ".join(f"{name!r} holds {_holdings(one)}" for name, one in sorted(self.named(port).items()))
            raise NotFound(
                f"none of the {len(scenes)} scenes in the splits {', '.join(splits)} ({few(scenes)}) is in {where} of "
                f"the {port}: {held}; make them for these splits, or name another split in the field `splits`"
            )
        return found

    def open(self, manifest: ArtifactManifest, scene: str = WHOLE) -> PartReader:
        """One scene of an artifact, or its only part.

        Raises:
            NotFound: the artifact has no such scene, or its part is gone from the store.
            FormatTooNew, StoreCorrupt: the part cannot be read; the error names the scene.
        """
        entry = scene_of(manifest, scene)
        with naming_scene(scene):
            part = None if entry is None else self.store.part(entry.key)
        if part is None:
            raise NotFound(
                f"the {manifest.kind} artifact {manifest.key} has no part for scene {scene!r}; "
                "run the stage that makes it for this split",
                scene=scene or None,
            )
        return part

    def open_for(self, port: str, scene: str, points: PartReader) -> PartReader:
        """One scene of an input that is stored per point, checked against the points it will be read with.

        Raises:
            PointOrderMismatch: it was made for other points, or for these in another order.
        """
        part = self.open(self.artifact(port), scene)
        check_order(part, points)
        return part

    def text_embeddings(self, dimension: int, whose: str) -> NDArray[np.float32]:
        """(K,D) the input `text_embeddings`, which must lie in the space of what it is multiplied with.

        Args:
            dimension: D of the other side.
            whose: what that is, for the error.

        Raises:
            SpecInvalid: the class names were embedded in another number of dimensions.
        """
        text: NDArray[np.float32] = self.open(self.artifact("text_embeddings")).array("embeddings")
        if text.shape[1] != dimension:
            raise SpecInvalid(
                f"{whose} has {dimension} values, the text embeddings have {text.shape[1]}; the image encoder of "
                "`extract` and the text encoder of `embed_labels` must share a space"
            )
        return text

    # ---- outputs

    @contextmanager
    def scene_part(
        self, output: str, scene: str, inputs: Mapping[str, str], *, num_points: int | None = None
    ) -> Iterator[PartWriter | None]:
        """A part to write one scene of an output to, or None where the store has it already.

        Args:
            output: name of the output.
            scene: scene id, or WHOLE where the kind is not scene-wise.
            inputs: what this scene is made from: port -> part key or content digest.
            num_points: points of the scene, for the manifest.
        """
        self.reporter.check()
        kind = self.spec.outputs[output]
        if kinds.KINDS[kind].scene_wise:
            key = keys.scene_key(self.spec, output, {**inputs, "scene": scene})
        else:
            key = keys.artifact_key(self.spec, f"{output}/part", inputs)
        with naming_scene(scene):
            there = self.store.entry(key) is not None
        if not there:
            with self.store.write_part(key, kind=kind, scene=scene, token=self.token) as part:
                if num_points is not None:
                    part.set(num_points=num_points)
                yield part
        else:
            yield None
        entry = self.store.entry(key)
        if entry is None:
            raise PartGone(f"the part {key} (scene {scene or 'none'}) was deleted while the run counted on it")
        self._parts.setdefault(output, []).append(entry)

    def latest(self, output: str) -> PartReader:
        """The part of an output that `scene_part` saw to last, whether this run wrote it or found it."""
        entry = self._parts[output][-1]
        part = self.store.part(entry.key)
        if part is None:
            raise PartGone(f"the part {entry.key} (scene {entry.scene or 'none'}) was deleted while the run read it")
        return part

    def publish(self, output: str, **attributes: Any) -> str:
        """Publishes an output from the parts written so far and returns its key.

        Raises:
            PartGone: a part that was there when this run came to it was deleted meanwhile.
            StoreCorrupt: what is published does not read back.
        """
        manifest = ArtifactManifest(
            key=keys.artifact_key(self.spec, output, self.input_keys()),
            kind=self.spec.outputs[output],
            stage=self.spec.stage,
            output=output,
            spec=self.spec.model_dump(mode="json"),
            inputs=self.input_keys(),
            parts=tuple(self._parts.get(output, ())),
            attributes=attributes,
        )
        self._publish(output, manifest)
        return manifest.key

    def adopt(self, output: str, manifest: ArtifactManifest) -> None:
        """Publishes an artifact that was made elsewhere, under its own key, as an output.

        Raises:
            PartGone, StoreCorrupt: as `publish`.
        """
        self._publish(output, manifest)

    def _publish(self, output: str, manifest: ArtifactManifest) -> None:
        self.reporter.check()
        try:
            self.digests[output] = self.store.publish(manifest, token=self.token)
        except StoreCorrupt as error:
            if any(self.store.entry(part.key) is None for part in manifest.parts):
                raise PartGone(f"the artifact {manifest.key} misses a part that was deleted meanwhile") from error
            raise
        self.published[output] = manifest

    def input_keys(self) -> dict[str, str]:
        """Input name -> artifact key, or content digest for what lies outside the store."""
        return {**{name: manifest.key for name, manifest in self.inputs.items()}, **self.external}

    # ---- chance and time

    def rng(self, *purpose: int | str) -> np.random.Generator:
        """A generator that depends on the spec's seed and on what it is for, and on nothing else.

        Raises:
            SpecInvalid: the stage has no seed, so it may not draw.
        """
        seed = getattr(self.spec, "seed", None)
        if seed is None:
            raise SpecInvalid(f"the stage {self.spec.stage!r} draws random numbers but its spec has no seed")
        words = [int(keys.digest(str(p))[:8], 16) for p in purpose]
        return np.random.default_rng([int(seed), *words])

    def check(self) -> None:
        """Raises RunCancelled or LeaseLost when the run must stop; cheap enough to call every step."""
        self.reporter.check()


def _holdings(manifest: ArtifactManifest) -> str:
    """The splits and scenes of an artifact, in words."""
    of: Mapping[str, str] = manifest.attributes.get("splits", {})
    by_split: dict[str, list[str]] = {}
    for scene in manifest.scenes:
        by_split.setdefault(of.get(scene, "no split"), []).append(scene)
    return ", ".join(f"{split} ({few(scenes)})" for split, scenes in sorted(by_split.items())) or "no scene"


def few(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def check_order(part: PartReader, points: PartReader) -> None:
    """Checks that what is stored per point belongs to these points, in this order.

    Raises:
        PointOrderMismatch: it does not; the error names the scene.
    """
    got, expected = part.attributes.get("point_order"), points.attributes.get("point_order")
    if got != expected:
        raise PointOrderMismatch(
            f"scene {points.scene}: part {part.key} was made for points with order digest {got}, the scene's points "
            f"have {expected}; compute it again from this scene",
            scene=points.scene,
        )

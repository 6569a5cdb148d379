"""Again: what a published artifact would be made into now, by its stage, from its inputs, into a store aside.

An artifact's manifest has its spec and the keys of its inputs. Where these are at hand, and what lies outside the store
too (the raw dataset, the encoder's weights), parts can be made anew and held against those that were published.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from storage.artifacts.kinds import KINDS
from storage.artifacts.store import ArtifactManifest, ArtifactStore, PartReader, of_scenes
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound, SpecInvalid
from storage.specs import stages
from storage.specs.spec import StageSpec
from workers.context import Context
from workers.stages import table


class Aside(ZarrStore):
    """A store on the local disk that reads from another what it has not itself."""

    def __init__(self, root: Path, behind: ArtifactStore) -> None:
        super().__init__(root)
        self._behind = behind

    def part(self, key: str) -> PartReader | None:
        """The part of that key, of this store or the one behind; errors as `ArtifactStore.part`."""
        return super().part(key) or self._behind.part(key)

    def own_part(self, key: str) -> PartReader | None:
        """The part of that key of this store alone."""
        return super().part(key)


def make_again(context: Context, made: ArtifactManifest, scenes: Collection[str], folder: Path) -> Aside:
    """Runs the stage that made an artifact once more; nothing of it enters the lab's store.

    Args:
        context: the run that asks; its dataset and machine are used.
        made: the artifact.
        scenes: those whose parts are wanted; an artifact that is not scene-wise is made whole.
        folder: where to; what an earlier attempt has left there is gone on with.

    Returns:
        The store in `folder`, with the wanted parts under their own keys.

    Raises:
        SpecInvalid: it cannot be made here: its spec is of another version, dataset or weights are missing or others.
        NotFound: an input is no longer in the store.
        VlglabError: whatever the stage raises.
    """
    spec = _spec(made)
    stage = table.load(spec.stage)
    if spec.needs_dataset and context.dataset is None:
        name = made.attributes.get("dataset") or "its name is not known"
        raise SpecInvalid(
            f"{made.key} was made from a raw dataset ({name}); name it in the run's field `dataset` (`--dataset`)"
        )
    inputs, outside = {}, {}
    for name, key in made.inputs.items():
        if name.partition(".")[0] in spec.inputs:
            given = _input(context, made, name, key)
            both_scene_wise = KINDS[made.kind].scene_wise and KINDS[given.kind].scene_wise
            inputs[name] = of_scenes(given, scenes) if both_scene_wise else given
        else:
            outside[name] = key
    store = Aside(folder, context.store)
    within = Context(
        spec=spec,
        store=store,
        token=context.token,
        inputs=inputs,
        reporter=context.reporter,
        machine=replace(context.machine, scratch=folder / "scratch"),
        dataset=context.dataset,
    )
    within.external = stage.external_inputs(within)
    others = sorted(name for name in outside if within.external.get(name) != outside[name])
    if others:
        raise SpecInvalid(
            f"{made.key} was made from another {others[0]} ({outside[others[0]]}) than is at hand "
            f"({within.external.get(others[0], 'none')}); what is at hand makes another artifact"
        )
    stage.run(within)
    missing = [part.scene for part in made.parts if part.scene in scenes and store.entry(part.key) is None]
    if missing:
        raise SpecInvalid(
            f"this version of vlglab makes no such part of {made.key} any more (scene {missing[0] or 'none'}): the "
            "algorithm, or what the scene is made from, is another; run its recipe again"
        )
    return store


def _spec(made: ArtifactManifest) -> StageSpec:
    """The spec of the stage that made an artifact."""
    try:
        return stages.parse(dict(made.spec))
    except SpecInvalid as error:
        raise SpecInvalid(f"{made.key} cannot be made again here, its spec is none of ours: {error.message}") from error


def _input(context: Context, made: ArtifactManifest, name: str, key: str) -> ArtifactManifest:
    """An input of an artifact."""
    found = context.store.manifest(key)
    if found is None:
        raise NotFound(f"the input {name!r} of {made.key}, the artifact {key}, is not in the store; pull or make it")
    return found

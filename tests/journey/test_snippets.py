"""The Python of docs/feature-stores.md on stores of every type: features as vlglab reads them, never raw numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import served
from migrations.upgrade import upgrade
from storage.artifacts.scaled import encode
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.records import artifacts
from storage.records.database import Database
from storage.settings import Settings
from tests.conformance.artifact_store import TOKEN, Arrays, artifact, embeddings, put
from tests.fixtures.publishing import row_of
from tests.journey.test_feature_stores_page import written

TYPES = ("float16", "int8", "float32")
SNIPPETS = ("folder", "http", "tensorstore", "torch")
KEEP = "\nimport numpy, os\nnumpy.save(os.environ['OUT'], numpy.asarray(values))\n"


def of_type(dtype: str, seed: int) -> Arrays:
    made = embeddings(seed, dimension=40)
    if dtype == "int8":
        numbers, scales = encode(made["embeddings"])
        return {**made, "embeddings": numbers, "scales": scales}
    return {**made, "embeddings": made["embeddings"].astype(dtype)}


SPLITS = {"room_0": "test", "room_1": "train"}


def add_clouds(store: ZarrStore) -> None:
    """Publishes points of both scenes as the artifact `clouds`."""
    lines = []
    for number, scene in enumerate(SPLITS):
        generator = np.random.default_rng(number)
        made = {
            "points": generator.standard_normal((300, 3)).astype(np.float32),
            "colours": generator.integers(0, 256, (300, 3)).astype(np.uint8),
            "intrinsics": np.zeros((0, 3, 3)),
            "camera_to_world": np.zeros((0, 4, 4)),
        }
        with store.write_part(f"cloud{number}", kind="scenes", scene=scene, token=TOKEN) as part:
            for name, values in made.items():
                part.write(name, values)
            part.set(num_points=300, split=SPLITS[scene], point_order="abc")
        line = store.entry(f"cloud{number}")
        assert line is not None
        lines.append(line)
    store.publish(artifact("clouds", *lines, kind="scenes"), token=TOKEN)


def published(store: ZarrStore, dtype: str) -> tuple[ArtifactManifest, str]:
    """An artifact of two scenes, one of them held out, and the digest of its manifest; its key is the type's name."""
    block = {"scale_block": 32} if dtype == "int8" else {}
    lines = [put(store, f"{dtype}{number}", f"room_{number}", of_type(dtype, number), **block) for number in range(2)]
    about = {"dtype": dtype, "splits": SPLITS}
    manifest = replace(artifact(dtype, *lines), attributes=about, inputs={"scenes": "clouds"})
    return manifest, store.publish(manifest, token=TOKEN)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ZarrStore, str]]:
    """A service with a store of each type, and its address."""
    home = tmp_path_factory.mktemp("home")
    config = Settings(home=home)
    store = ZarrStore(config.store_path)
    upgrade(config.resolved_database_url)
    db = Database.open(config.resolved_database_url)
    for dtype in TYPES:
        manifest, digest = published(store, dtype)
        with db.write() as session:
            artifacts.insert(session, "r0", row_of(manifest, digest, "r0"))
    add_clouds(store)
    db.close()
    with served.service(home) as (url, _):
        yield store, url


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SNIPPETS)
def test_what_the_page_reads_are_features_of_every_type(
    lab: tuple[ZarrStore, str], tmp_path: Path, name: str, dtype: str
) -> None:
    store, url = lab
    snippet = dict(zip(SNIPPETS, written(tmp_path), strict=True))[name]
    own = {"STORE": str(store.root), "SOURCE": url, "EMBEDDINGS": dtype, "OUT": str(tmp_path / "values.npy")}
    done = subprocess.run(
        [sys.executable, "-c", snippet + KEEP], env=os.environ | own, cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    some, last = store.part(f"{dtype}0"), store.part(f"{dtype}1")
    assert some is not None and last is not None
    expected = some.array("embeddings")[100:110] if name in ("http", "tensorstore") else last.array("embeddings")
    values = np.load(tmp_path / "values.npy")
    assert values.dtype == expected.dtype == ("float32" if dtype == "float32" else "float16")
    np.testing.assert_array_equal(values, expected)


def test_the_data_set_gives_the_training_scenes_alone_each_with_the_points_and_colours_of_its_rows(
    lab: tuple[ZarrStore, str], tmp_path: Path
) -> None:
    store, url = lab
    keep = "\nnumpy.savez(os.environ['OUT'], points=points.numpy(), colours=colours.numpy(), scenes=len(scenes))\n"
    snippet = dict(zip(SNIPPETS, written(tmp_path), strict=True))["torch"]
    own = {"STORE": str(store.root), "SOURCE": url, "EMBEDDINGS": "float16", "OUT": str(tmp_path / "seen.npz")}
    subprocess.run(
        [sys.executable, "-c", f"import numpy\n{snippet}{keep}"],
        env=os.environ | own,
        cwd=tmp_path,
        timeout=120,
        check=True,
    )
    seen, cloud = np.load(tmp_path / "seen.npz"), store.part("cloud1")
    assert cloud is not None and seen["scenes"] == 1, "room_0 is held out"
    covered = embeddings(1, dimension=40)["point_index"]
    np.testing.assert_array_equal(seen["points"], cloud.array("points")[covered])
    np.testing.assert_allclose(seen["colours"], cloud.array("colours")[covered] / 255, rtol=1e-6)

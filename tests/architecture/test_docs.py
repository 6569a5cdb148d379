"""What the documents show works, and what they list is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from service.cli.scripting import Exit
from storage import keys
from storage.artifacts import scaled
from storage.artifacts.kinds import KINDS
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.settings import Settings
from storage.specs.recipes import RECIPES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_store_s_snippet_reads_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ZarrStore(tmp_path)
    key = keys.digest("part")
    with store.write_part(key, kind="embeddings", scene="room_1", token="writer") as part:
        part.write("embeddings", np.ones((5, 4), np.float16))
        part.write("point_index", np.arange(5))
        part.write("views", np.ones(7, np.uint16))
        part.set(num_points=7, point_order="abc")
    entry = store.entry(key)
    assert entry is not None
    manifest = ArtifactManifest(keys.digest("artifact"), "embeddings", "extract", "embeddings", {}, {}, (entry,))
    store.publish(manifest, token="writer")
    snippet, _, training = re.findall(r"```python\n(.*?)```", (DOCS / "store.md").read_text(), re.DOTALL)
    exec(snippet.replace("STORE", str(tmp_path)).replace("KEY", manifest.key), {})
    assert capsys.readouterr().out == "room_1 (5, 4) abc\n"
    program = training.replace("STORE", str(tmp_path)).replace("KEY", manifest.key)
    command = [sys.executable, "-c", program]  # a process of its own: its loaders fork
    told = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=True)
    assert told.stdout == "0 room_1 (5, 4)\n1 room_1 (5, 4)\n"


def test_the_store_s_snippet_decodes_int8_as_our_reader_does(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((50, 70)).astype(np.float16)
    numbers, scales = scaled.encode(values)
    with ZarrStore(tmp_path).write_part("ab12", kind="embeddings", scene="room_1", token="writer") as part:
        for name, array in {"embeddings": numbers, "scales": scales, "point_index": np.arange(50)}.items():
            part.write(name, array)
        part.write("views", np.ones(50, np.uint16))
    _, snippet, _ = re.findall(r"```python\n(.*?)```", (DOCS / "store.md").read_text(), re.DOTALL)
    known = {"np": np, "group": zarr.open_group(ZarrStore(tmp_path).part_path("ab12"), mode="r")}
    exec(snippet, known)
    ours = ZarrStore(tmp_path).part("ab12")
    assert ours is not None
    np.testing.assert_array_equal(known["values"], ours.array("embeddings"))


def test_the_store_s_document_lists_every_array() -> None:
    text = (DOCS / "store.md").read_text()
    for kind, layout in KINDS.items():
        for name in layout.arrays:
            assert f"`{name}`" in text, f"docs/store.md does not list {kind}'s array {name}"


def test_every_setting_is_documented() -> None:
    text = (DOCS / "settings.md").read_text()
    for name in Settings.model_fields:
        assert f"`VLGLAB_{name.upper()}`" in text, f"docs/settings.md does not list VLGLAB_{name.upper()}"


def test_every_exit_status_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", (DOCS / "submitting.md").read_text(), re.MULTILINE)
    assert {name: int(status) for status, name in rows} == {one.name: one.value for one in Exit}


def test_every_recipe_says_its_command_and_what_it_takes() -> None:
    for name, recipe in RECIPES.items():
        said = " ".join((recipe.__doc__ or "").split())
        assert f"`vlglab experiments submit {name} " in said, f"the recipe {name!r} does not say its command"
        assert "GPU hours: " in said, f"the recipe {name!r} does not say its GPU hours, or that nobody measured them"


def test_the_files_that_documents_name_exist() -> None:
    written_by_the_reader = ("workers/encoders/lseg.py", "tests/workers/encoders/test_lseg.py")
    pattern = r"(?<![\w/.-])(?:tests|docs|storage|workers|service|tools)/[\w/-]+\.(?:py|md)\b"
    for document in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for name in set(re.findall(pattern, document.read_text())) - set(written_by_the_reader):
            assert (DOCS.parent / name).exists(), f"{document.name} names {name}, which does not exist"

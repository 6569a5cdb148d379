"""What a pull believes of its source: manifests against records and digests, what it says of itself, where it looks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import keys
from storage.artifacts.manifests import digest
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import FormatTooNew, NotFound, SourceRefused, SpecInvalid, StoreCorrupt
from storage.specs import stages
from storage.targets import Sources
from tests.fixtures.lab_artifact import KEY, ROWS, SCENES, embeddings, files
from tests.fixtures.lab_source import LabSource
from workers import trial
from workers.context import Machine

Run = Callable[..., trial.Trial]
STORE = "/api/v1/store"


@pytest.fixture
def here(tmp_path: Path) -> ZarrStore:
    return ZarrStore(tmp_path / "here")


@pytest.fixture
def run(source: LabSource, here: ZarrStore, tmp_path: Path) -> Run:
    machine = Machine(scratch=tmp_path / "here" / "resume" / "r1", sources=Sources(("127.0.0.1",)))

    def made(stage: str = "pull", *, recorded: str | None = None, reuse: bool = False, **fields: Any) -> trial.Trial:
        spec = stages.parse({"stage": stage, "source": source.url, "artifact": KEY, **fields})
        known = {} if recorded is None else {"artifact": recorded}
        return trial.run_stage(spec, here, machine=machine, recorded=known, reuse=reuse)

    return made


@pytest.fixture
def service(source: LabSource, there: ZarrStore) -> LabSource:
    """The source as a vlglab service, whose records have the manifest as it was published."""
    source.under = STORE
    source.answers = {f"/api/v1/artifacts/{KEY}": {"manifest_digest": digest_of(there)}}
    return source


def digest_of(store: ZarrStore) -> str:
    return digest(store.manifest_file(KEY) or b"")


def respec(store: ZarrStore, before: int = 1, after: int = 2) -> None:
    """One character of the spec in the manifest is another."""
    path = store.artifact_path(KEY)
    whole = path.read_bytes()
    assert b'"x":%d}' % before in whole
    path.write_bytes(whole.replace(b'"x":%d}' % before, b'"x":%d}' % after))


def test_a_manifest_that_is_not_the_one_in_the_source_s_records_is_refused(
    run: Run, service: LabSource, there: ZarrStore, here: ZarrStore
) -> None:
    respec(there)
    recorded = service.answers[f"/api/v1/artifacts/{KEY}"]["manifest_digest"]
    with pytest.raises(StoreCorrupt, match=f"{digest_of(there)}.*records have {recorded}"):
        run()
    assert files(here.root) == {}
    respec(there, 2, 1)
    service.asked.clear()
    run()
    assert here.verify(KEY) == [] and (f"/api/v1/artifacts/{KEY}", None) in service.asked


@pytest.mark.parametrize("scenes", [None, ["room_a"]])
def test_a_manifest_of_another_digest_than_the_run_names_is_refused(
    run: Run, there: ZarrStore, here: ZarrStore, scenes: list[str] | None
) -> None:
    named = digest_of(there)
    respec(there)
    fields = {"manifest_digest": named} | ({} if scenes is None else {"scenes": scenes})
    with pytest.raises(StoreCorrupt, match=f"this run names {named}"):
        run(**fields)
    assert files(here.root) == {}
    assert run(**fields | {"manifest_digest": digest_of(there)}).artifacts["embeddings"].spec == {"x": 2}
    with pytest.raises(SpecInvalid):
        run(manifest_digest="beef")


def test_a_named_digest_changes_no_key_of_a_pull_that_names_none() -> None:
    plain = stages.parse({"stage": "pull", "source": "http://x", "artifact": KEY})
    assert "manifest_digest" not in plain.keyed()
    assert plain.digest() != plain.model_copy(update={"manifest_digest": "a" * 64}).digest()


def test_what_is_published_here_with_other_bytes_stays_and_is_told_of(
    run: Run, there: ZarrStore, here: ZarrStore
) -> None:
    run()
    assert run(reuse=True).recorder.notes == []
    respec(there)
    kept = files(here.root)
    for recorded in (None, digest_of(here)):
        (note,) = run(reuse=True, recorded=recorded).recorder.notes
        assert "other bytes" in note and digest_of(here)[:16] in note and digest_of(there)[:16] in note
    assert files(here.root) == kept
    damaged = here.artifact_path(KEY)
    respec(here)
    (note,) = run(reuse=True, recorded=digest(kept[damaged.relative_to(here.root).as_posix()])).recorder.notes
    assert "other bytes" in note, "what was published counts, not what lies there now"


def test_some_scenes_that_are_here_with_other_bytes_are_told_of(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    wanted = {"scenes": ["room_a", "room_b"], "reuse": True}
    run(**wanted)
    assert run(**wanted).recorder.notes == []
    respec(there)
    (note,) = run(**wanted).recorder.notes
    assert "other bytes" in note


def test_repair_says_that_the_source_has_other_bytes(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    run()
    kept = files(here.root)
    respec(there)
    told, mended = run("repair", recorded=digest_of(here)).recorder.notes
    assert "other bytes" in told and digest_of(here)[:16] in told and digest_of(there)[:16] in told
    assert mended == "nothing was damaged" and files(here.root) == kept


def test_the_coverage_of_some_scenes_is_theirs(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    path = there.artifact_path(KEY)
    path.write_bytes(path.read_bytes().replace(b'"dimension":128', b'"dimension":128,"num_covered":%d' % (3 * ROWS)))
    some = run(scenes=["room_b"]).artifacts["embeddings"]
    assert some.attributes["num_covered"] == ROWS == sum(part.num_points for part in some.parts)
    manifest = here.manifest(some.key)
    assert manifest is not None and manifest.attributes["num_covered"] == ROWS
    assert run().artifacts["embeddings"].attributes["num_covered"] == 3 * ROWS


@pytest.mark.parametrize(("code", "error"), [("store_corrupt", StoreCorrupt), ("format_too_new", FormatTooNew)])
@pytest.mark.parametrize("end", ["embeddings/c/1/0", "manifest.json"])
def test_what_the_source_says_of_its_own_damage_ends_the_run_at_once(
    run: Run, service: LabSource, here: ZarrStore, code: str, error: type[Exception], end: str
) -> None:
    service.problems = {end: (code, "embeddings/c/1/0 of the part x (scene room_a) is gone")}
    began = time.monotonic()
    with pytest.raises(error, match="embeddings/c/1/0 of the part x"):
        run(connections=1)
    assert len([path for path, _ in service.asked if path.endswith(end)]) <= 1 + (end == "manifest.json")
    assert time.monotonic() - began < 5 and list(here.artifacts()) == []


def test_a_problem_that_passes_is_waited_out(run: Run, service: LabSource, here: ZarrStore) -> None:
    service.fail = {"embeddings/c/1/0": 2}
    run()
    assert here.verify(KEY) == []


@pytest.mark.parametrize("status", [401, 403])
def test_object_storage_that_refuses_what_is_missing_is_read(
    run: Run, source: LabSource, here: ZarrStore, status: int
) -> None:
    source.status = {STORE: status}
    run()
    assert here.verify(KEY) == []
    source.status = {STORE: status, "/artifacts": status}
    with pytest.raises(SourceRefused, match=f"{status}.*VLGLAB_PULL_TOKENS"):
        run()
    source.status = {STORE: status, "/artifacts": 404}
    with pytest.raises(SourceRefused, match=str(status)):
        run()
    source.status = {"/artifacts": 404}
    with pytest.raises(NotFound):
        run()


def test_a_page_for_people_is_no_manifest(run: Run, source: LabSource) -> None:
    source.status = {STORE: 401}
    source.root.joinpath("artifacts", KEY, "manifest.json").write_text("<html>log in</html>")
    with pytest.raises(SourceRefused, match="401"):
        run()


def test_an_artifact_that_was_made_here_too_is_told_of_with_its_scene(run: Run, here: ZarrStore) -> None:
    lines = []
    for scene in SCENES:
        part_key = keys.digest([KEY, scene])
        with here.write_part(part_key, kind="embeddings", scene=scene, token="t1") as part:
            part.write("embeddings", embeddings(scene) * np.float16(1.001))
            part.write("point_index", np.arange(ROWS))
            part.write("views", np.ones(ROWS, np.uint16))
            part.set(num_points=ROWS, point_order="abc", split="train")
        lines.append(here.entry(part_key))
    own = ArtifactManifest(KEY, "embeddings", "extract", "embeddings", {"x": 1}, {}, tuple(filter(None, lines)))
    recorded = here.publish(own, token="t1")
    notes = run(reuse=True, recorded=recorded).recorder.notes
    assert len(notes) == 1 and re.search(f"{KEY} with other bytes.*{recorded[:16]}", notes[0])

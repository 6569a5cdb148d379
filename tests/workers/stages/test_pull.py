"""Artifacts pulled from a folder on the web, and mended from it: what comes, what does not, and what is refused."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pytest
import zarr

from storage import keys
from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import (
    FormatTooNew,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    RunCancelled,
    SourceRefused,
    SourceUnreachable,
    SpecInvalid,
    StoreCorrupt,
    StoreUnwritable,
    VlglabError,
)
from storage.specs import stages
from storage.targets import Sources
from tests.fixtures.lab_artifact import KEY, ROWS, WIDTH, embeddings, files
from tests.fixtures.lab_source import LabSource
from workers import sources, trial
from workers.context import Machine


@pytest.fixture
def here(tmp_path: Path) -> ZarrStore:
    return ZarrStore(tmp_path / "here")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(scratch=tmp_path / "here" / "resume" / "r1", sources=Sources(("127.0.0.1",)))


Run = Callable[..., trial.Trial]


@pytest.fixture
def run(source: LabSource, here: ZarrStore, machine: Machine) -> Run:
    def made(
        stage: str = "pull",
        *,
        recorder: trial.Recorder | None = None,
        recorded: dict[str, str] | None = None,
        **fields: Any,
    ) -> trial.Trial:
        spec = stages.parse({"stage": stage, "source": source.url, "artifact": KEY, **fields})
        return trial.run_stage(spec, here, machine=machine, recorder=recorder, recorded=recorded)

    return made


def test_what_was_pulled_is_what_was_there_byte_for_byte(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    done = run()
    assert done.artifacts["embeddings"].key == KEY
    assert files(here.root) == files(there.root)
    assert here.verify(KEY) == []
    part = here.part_path(keys.digest([KEY, "room_b"]))
    assert np.array_equal(zarr.open_group(part, mode="r")["embeddings"][...], embeddings("room_b"))  # type: ignore[index]
    last = done.recorder.last_progress
    assert (last["unit"], last["done"]) == ("MB", last["total"]) and "3 of 3 parts" in last["message"]


def test_what_is_here_is_not_fetched(run: Run, source: LabSource) -> None:
    run()
    source.asked.clear()
    run(connections=1)
    assert {path for path, _ in source.asked} == {
        f"/api/v1/store/artifacts/{KEY}/manifest.json",
        f"/artifacts/{KEY}/manifest.json",
    }


def test_some_scenes_alone_are_an_artifact_of_their_own(run: Run, here: ZarrStore, source: LabSource) -> None:
    made = run(scenes=["room_c", "room_a"]).artifacts["embeddings"]
    assert made.scenes == ("room_a", "room_c") and made.key != KEY
    assert made.attributes["splits"] == {"room_a": "train", "room_c": "train"}
    assert here.verify(made.key) == [] and here.manifest(KEY) is None
    assert not [path for path, _ in source.asked if keys.digest([KEY, "room_b"]) in path]
    whole = run().artifacts["embeddings"]
    assert whole.key == KEY and here.verify(KEY) == []
    with pytest.raises(NotFound, match="room_x.*room_a"):
        run(scenes=["room_x"])


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_that_breaks_off_is_taken_up_again(
    run: Run, here: ZarrStore, source: LabSource, ranges: bool
) -> None:
    source.ranges = ranges
    source.cut = {"embeddings/c/0/0": 2, "embeddings/c/1/0": 1}
    source.fail = {"zarr.json": 3, "manifest.json": 2}
    run()
    assert here.verify(KEY) == []
    half = (8192 * WIDTH * 2 + 4) // 2
    resumed = [int(given[6:-1]) for path, given in source.asked if path.endswith("embeddings/c/0/0") and given]
    assert resumed and 0 < max(resumed) <= half + half // 2


def test_a_run_that_died_goes_on_where_it_was(run: Run, here: ZarrStore, source: LabSource) -> None:
    recorder = trial.Recorder()

    class Dies(trial.Recorder):
        def check(self) -> None:
            if len(source.asked) > 12:
                raise RunCancelled("killed")

    with pytest.raises(RunCancelled):
        run(connections=1, recorder=Dies())
    before = {path for path, _ in source.asked}
    assert here.manifest(KEY) is None
    source.asked.clear()
    run(connections=1, recorder=recorder)
    assert here.verify(KEY) == []
    again = {path for path, given in source.asked if given is None} & before
    assert not [path for path in again if "/c/" in path][1:], "at most the file on its way is begun again"


def test_a_source_that_is_away_keeps_what_has_come(run: Run, here: ZarrStore, source: LabSource) -> None:
    source.cut = {"embeddings/c/2/0": 1}
    source.fail = {"point_index/c/0": 100}
    with pytest.raises(SourceUnreachable, match="retry the run"):
        run(connections=1)
    assert here.manifest(KEY) is None and not list(here.artifacts())
    source.fail = {}
    run()
    assert here.verify(KEY) == []


def change(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def part_of(store: ZarrStore, scene: str = "room_b") -> Path:
    return store.part_path(keys.digest([KEY, scene]))


def relist(store: ZarrStore, change_document: Callable[[dict[str, Any]], None], scene: str = "room_b") -> None:
    """A source that lies: a part's manifest is changed, and the artifact's line made to fit."""
    path = part_of(store, scene) / "manifest.json"
    document = json.loads(path.read_bytes())
    change_document(document)
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(content)
    whole = store.artifact_path(KEY)
    artifact = json.loads(whole.read_bytes())
    for line in artifact["parts"]:
        if line["scene"] == scene:
            line["digest"] = blake3.blake3(content).hexdigest()
            line["bytes"] = sum(max(0, f["bytes"]) for f in document["files"].values())
    whole.write_text(json.dumps(artifact))


def redigest(store: ZarrStore, name: str) -> Callable[[dict[str, Any]], None]:
    """Makes the manifest's line of a file fit what lies there now."""

    def made(document: dict[str, Any]) -> None:
        content = (part_of(store) / name).read_bytes()
        document["files"][name] = {"blake3": blake3.blake3(content).hexdigest(), "bytes": len(content)}

    return made


def test_a_file_that_was_changed_at_the_source_is_refused(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    change(part_of(there) / "embeddings/c/1/0")
    with pytest.raises(StoreCorrupt, match="embeddings/c/1/0.*another BLAKE3") as caught:
        run()
    assert caught.value.scene == "room_b"
    assert list(here.artifacts()) == []
    assert here.entry(keys.digest([KEY, "room_b"])) is None


def longer(document: dict[str, Any]) -> None:
    document["files"]["embeddings/c/0/0"]["bytes"] -= 2


def escape(document: dict[str, Any]) -> None:
    document["files"]["../../../evil"] = document["files"].pop("zarr.json")


def stranger(document: dict[str, Any]) -> None:
    document["files"]["embeddings/run.py"] = document["files"]["zarr.json"]


def other_scene(document: dict[str, Any]) -> None:
    document["scene"] = "room_a"


def huge(document: dict[str, Any]) -> None:
    document["arrays"]["embeddings"]["shape"] = [10**12, 16]


def other_type(document: dict[str, Any]) -> None:
    document["arrays"]["embeddings"]["dtype"] = "object"


@pytest.mark.parametrize(
    ("lie", "fault"),
    [
        (longer, "longer than"),
        (escape, r"\.\./\.\./\.\./evil"),
        (stranger, "embeddings/run.py"),
        (other_scene, "room_a"),
        (huge, "1000000000000"),
        (other_type, "object"),
    ],
)
def test_a_manifest_that_lies_is_refused(
    run: Run, there: ZarrStore, here: ZarrStore, tmp_path: Path, lie: Callable[[dict[str, Any]], None], fault: str
) -> None:
    relist(there, lie)
    with pytest.raises(StoreCorrupt, match=fault):
        run()
    assert list(here.artifacts()) == [] and here.entry(keys.digest([KEY, "room_b"])) is None
    assert not list(tmp_path.rglob("evil"))


def test_a_chunk_that_would_unfold_is_refused(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    path = part_of(there) / "embeddings/zarr.json"
    document = json.loads(path.read_bytes())
    document["codecs"].append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    path.write_text(json.dumps(document))
    relist(there, redigest(there, "embeddings/zarr.json"))
    with pytest.raises(StoreCorrupt, match="zstd"):
        run()
    assert list(here.artifacts()) == []


def test_a_checksum_that_is_wrong_in_a_manifest_that_agrees_is_refused(run: Run, there: ZarrStore) -> None:
    change(part_of(there) / "embeddings/c/1/0", 7)
    relist(there, redigest(there, "embeddings/c/1/0"))
    with pytest.raises(StoreCorrupt, match="embeddings"):
        run()


def test_a_store_of_a_newer_format_says_so(run: Run, there: ZarrStore) -> None:
    there.artifact_path(KEY).write_text('{"format_version": 99}')
    with pytest.raises(FormatTooNew, match="upgrade vlglab"):
        run()


def another(document: dict[str, Any]) -> None:
    document["key"] = "b" * 32


def no_kind(document: dict[str, Any]) -> None:
    document["kind"] = "evaluation"


def bad_part(document: dict[str, Any]) -> None:
    document["parts"][0]["key"] = "../../x"


@pytest.mark.parametrize(("lie", "error"), [(another, StoreCorrupt), (no_kind, SpecInvalid), (bad_part, VlglabError)])
def test_an_artifact_s_manifest_that_lies_is_refused(
    run: Run, there: ZarrStore, here: ZarrStore, lie: Callable[[dict[str, Any]], None], error: type[VlglabError]
) -> None:
    path = there.artifact_path(KEY)
    document = json.loads(path.read_bytes())
    lie(document)
    path.write_text(json.dumps(document))
    with pytest.raises(error):
        run()
    assert not list(here.artifacts()) and not list((here.root / "artifacts").glob("*/x"))


def test_only_hosts_that_are_allowed_are_asked(source: LabSource, here: ZarrStore, tmp_path: Path) -> None:
    spec = stages.parse({"stage": "pull", "source": source.url, "artifact": KEY})
    for hosts in ((), ("lab.example.org",), ("*",)):
        machine = Machine(scratch=tmp_path / "scratch", sources=Sources(hosts))
        with pytest.raises(InvalidInput, match="VLGLAB_PULL_HOSTS"):
            trial.run_stage(spec, here, machine=machine)
    assert source.asked == []


def test_a_redirect_is_not_followed(run: Run, source: LabSource) -> None:
    source.redirect = "http://169.254.169.254/latest"
    with pytest.raises(SourceRefused, match=r"169\.254\.169\.254"):
        run()


def test_tokens_come_from_a_file_of_the_deployment(source: LabSource, here: ZarrStore, tmp_path: Path) -> None:
    source.token = "s3cret"
    tokens = tmp_path / "tokens.json"
    spec = stages.parse({"stage": "pull", "source": source.url, "artifact": KEY})
    machine = Machine(scratch=here.root / "resume", sources=Sources(("127.0.0.1",), tokens))
    with pytest.raises(SourceRefused, match="VLGLAB_PULL_TOKENS"):
        trial.run_stage(spec, here, machine=machine)
    tokens.write_text(json.dumps({f"127.0.0.1:{source.port}": "s3cret"}))
    made = trial.run_stage(spec, here, machine=machine).artifacts["embeddings"]
    assert "s3cret" not in (here.artifact_path(KEY)).read_text() and made.key == KEY
    tokens.write_text("[]")
    with pytest.raises(InvalidInput, match="VLGLAB_PULL_TOKENS"):
        trial.run_stage(spec, here, machine=machine)


def test_a_part_that_this_store_made_otherwise_stays_and_is_told_of(run: Run, here: ZarrStore) -> None:
    key = keys.digest([KEY, "room_a"])
    with here.write_part(key, kind="embeddings", scene="room_a", token="t1") as part:
        part.write("embeddings", embeddings("room_a") * np.float16(1.001))
        part.write("point_index", np.arange(ROWS))
        part.write("views", np.ones(ROWS, np.uint16))
        part.set(num_points=ROWS, point_order="abc", split="train")
    own = here.entry(key)
    done = run()
    assert here.entry(key) == own and here.verify(KEY) == []
    assert any("room_a" in note and "other bytes" in note for note in done.recorder.notes)


def test_a_full_disk_is_named_and_half_of_nothing_is_published(
    run: Run, here: ZarrStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sources.Source._some

    def full(self: Any, path: str, *more: Any) -> int:
        if "c/1/0" in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(sources.Source, "_some", full)
        with pytest.raises(StoreUnwritable, match="make room"):
            run()
    assert list(here.artifacts()) == []
    run()
    assert here.verify(KEY) == []


def parts_asked(source: LabSource) -> list[str]:
    return [path for path, _ in source.asked if "/parts/" in path]


def test_a_quota_without_room_is_heard_of_before_anything_is_fetched(
    run: Run, there: ZarrStore, here: ZarrStore, source: LabSource
) -> None:
    sizes = {path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file() and f.name != "manifest.json")
             for path in (there.root / "parts").glob("*/*")}  # fmt: skip
    with pytest.raises(QuotaExceeded):
        run(recorder=trial.Recorder(quota_bytes=sum(sizes.values()) - 1))
    assert parts_asked(source) == [] and list(here.artifacts()) == []
    run(recorder=trial.Recorder(quota_bytes=max(sizes.values())), scenes=["room_a"])
    recorder = trial.Recorder(quota_bytes=sum(sizes.values()))
    run(recorder=recorder)
    assert recorder.room == sizes, "what an earlier try has brought takes room too, until it is published"


class SmallDisk(ZarrStore):
    """A store on a disk with so much free."""

    free = 0

    def free_bytes(self) -> int:
        return self.free


def test_a_disk_without_room_is_heard_of_before_anything_is_fetched(
    run: Run, there: ZarrStore, source: LabSource, machine: Machine, tmp_path: Path
) -> None:
    assert 0 < there.free_bytes() < 2**60
    size = sum(part.num_bytes for part in there.manifest(KEY).parts)  # type: ignore[union-attr]
    small = SmallDisk(tmp_path / "here")
    small.free = size - 1
    spec = stages.parse({"stage": "pull", "source": source.url, "artifact": KEY, "connections": 1})
    with pytest.raises(StoreUnwritable, match=rf"{size:,} bytes are to be fetched.*has {size - 1:,} free"):
        trial.run_stage(spec, small, machine=machine)
    assert parts_asked(source) == []
    small.free = size
    source.fail = {"point_index/c/0": 100}
    with pytest.raises(SourceUnreachable):
        trial.run_stage(spec, small, machine=machine)
    lying = sum(path.stat().st_size for path in (machine.scratch / "parts").rglob("*") if path.is_file())
    assert lying > 1
    small.free, source.fail = size - lying, {}
    trial.run_stage(spec, small, machine=machine)
    assert small.verify(KEY) == []


def test_a_store_in_memory_takes_no_copies(source: LabSource, machine: Machine) -> None:
    spec = stages.parse({"stage": "pull", "source": source.url, "artifact": KEY})
    with pytest.raises(SpecInvalid, match="in a bucket"):
        trial.run_stage(spec, MemoryStore(), machine=machine)


def test_every_damaged_file_is_mended_and_no_other_is_touched(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    run()
    whole = files(here.root)
    untouched = {path: path.stat().st_mtime_ns for path in part_of(here, "room_c").rglob("*")}
    spoil = part_of(here)
    change(spoil / "embeddings/c/1/0")
    change(spoil / "zarr.json")
    (spoil / "views/zarr.json").unlink()
    (spoil / "point_index/c/0").write_bytes(b"")
    change(part_of(here, "room_a") / "manifest.json")
    here.artifact_path(KEY).write_bytes(b"{")
    done = run("repair")
    assert files(here.root) == whole
    assert here.verify(KEY) == []
    assert untouched == {path: path.stat().st_mtime_ns for path in part_of(here, "room_c").rglob("*")}
    assert done.recorder.notes == ["5 files were not what was published and are now"]
    assert run("repair").recorder.notes == ["nothing was damaged"]


def test_what_was_never_published_mends_nothing(run: Run, there: ZarrStore, here: ZarrStore) -> None:
    run()
    change(part_of(here) / "embeddings/c/1/0")
    damaged = files(here.root)
    change(part_of(there) / "embeddings/c/1/0", 5)
    with pytest.raises(StoreCorrupt):
        run("repair")
    assert files(here.root) == damaged
    shutil.rmtree(here.root)
    with pytest.raises(NotFound, match="features pull"):
        run("repair")


@pytest.mark.parametrize("flipped", [b'"dimension":128', b'"format_version":1'])
def test_an_artifact_s_manifest_is_mended_by_the_bytes_that_were_recorded_alone(
    run: Run, there: ZarrStore, here: ZarrStore, flipped: bytes
) -> None:
    run()
    path, theirs = here.artifact_path(KEY), there.artifact_path(KEY)
    whole = path.read_bytes()
    recorded = {"artifact": blake3.blake3(whole).hexdigest()}
    assert flipped in whole
    changed = whole.replace(flipped, flipped[:-1] + b"9")
    path.write_bytes(changed)
    theirs.write_bytes(whole.replace(b'"stage":"extract"', b'"stage":"another"'))
    with pytest.raises(StoreCorrupt, match="another than was published"):
        run("repair", recorded=recorded)
    assert path.read_bytes() == changed
    theirs.write_bytes(whole)
    run("repair", recorded=recorded)
    assert path.read_bytes() == whole

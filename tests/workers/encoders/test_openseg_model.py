"""OpenSeg's SavedModel on disk: its digest, folders that hold none, wrong signatures, damaged files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.errors import ExtraMissing, NotFound, SpecInvalid, StoreCorrupt
from tests.fixtures import openseg_model as fixture
from workers.encoders.openseg_model import load_model, prepare, weights_digest


@pytest.fixture
def sketch(tmp_path: Path) -> Path:
    """A folder with the names of a SavedModel; nothing in it is one."""
    path = tmp_path / "sketch"
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables" / "variables.index").write_bytes(b"index")
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(bytes(3 * 2**20))
    return path


# -------------------------------------------------------------------------------------------------- without TensorFlow


def test_the_digest_follows_content_and_names_and_no_place(sketch: Path, tmp_path: Path) -> None:
    first = weights_digest(sketch)
    assert len(first) == 32
    moved = tmp_path / "elsewhere"
    shutil.copytree(sketch, moved)
    assert weights_digest(moved) == first
    data = moved / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    changed = weights_digest(moved)
    (moved / "variables" / "variables.index").rename(moved / "variables" / "index")
    renamed = weights_digest(moved)
    (moved / "assets").mkdir()
    assert weights_digest(moved) == renamed
    assert len({first, changed, renamed}) == 3


def test_the_digest_follows_links(sketch: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "saved_model.pb").symlink_to(sketch / "saved_model.pb")
    (linked / "variables").symlink_to(sketch / "variables")
    assert weights_digest(linked) == weights_digest(sketch)
    (sketch / "variables" / "variables.index").unlink()
    (sketch / "variables" / "variables.index").symlink_to(tmp_path / "gone")
    with pytest.raises(StoreCorrupt, match=r"variables\.index cannot be read"):
        weights_digest(linked)


def test_the_digest_needs_no_tensorflow(sketch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert weights_digest(sketch)


def test_tensorflow_s_absence_names_the_extra(sketch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as Python marks a module that cannot be imported
    with pytest.raises(ExtraMissing, match=r"pip install vlglab\[openseg\]"):
        load_model(sketch)


@pytest.mark.parametrize("act", [weights_digest, load_model], ids=["digest", "load"])
def test_a_folder_without_a_model_is_refused(act: Any, sketch: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere does not exist; expected .*saved_model\.pb"):
        act(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="is no folder"):
        act(sketch / "saved_model.pb")
    with pytest.raises(NotFound, match="holds no SavedModel.*one lies in its folder sketch"):
        act(tmp_path)
    with pytest.raises(NotFound, match="holds no SavedModel.*download it again"):
        act(sketch / "variables")


# ----------------------------------------------------------------------------------------------------- with TensorFlow


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install vlglab[openseg]")


@pytest.fixture
def whole(tf: Any, tmp_path: Path) -> Path:
    path = tmp_path / "whole"
    fixture.write_model(path)
    return path


@pytest.mark.slow
def test_openseg_s_own_signature_is_taken(tf: Any, tmp_path: Path) -> None:
    fixture.write_signature(tmp_path / "model", fixture.inputs(), fixture.outputs())
    assert load_model(tmp_path / "model").dimension == 768


@pytest.mark.slow
def test_settings_that_come_too_late_are_logged_and_the_model_is_loaded(
    tf: Any, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started = tf.constant(1) + 1
    other = tf.config.threading.get_intra_op_parallelism_threads() + 1
    with caplog.at_level("WARNING", logger="vlglab.run"):
        assert load_model(whole, threads=other).dimension == 8
    assert started == 2
    assert "TensorFlow had started before the OpenSeg model was loaded" in caplog.text


@pytest.mark.slow
def test_dimensions_that_a_signature_leaves_open_are_taken(tf: Any, tmp_path: Path) -> None:
    given = {"inp_image_bytes": ("string", None), "inp_text_emb": ("float32", (None, 1, 32))}
    made = {
        "ppixel_ave_feat": ("float32", (1, None, None, None)),
        "image_embedding_feat": ("float32", None),
        "image_info": ("float32", (4, 2)),
        "image": ("uint8", (4, 4, 3)),
    }
    fixture.write_signature(tmp_path / "model", given, made)
    assert load_model(tmp_path / "model").dimension == 32


def _without(shapes: fixture.Shapes, name: str) -> fixture.Shapes:
    return {key: shape for key, shape in shapes.items() if key != name}


INPUTS, OUTPUTS = fixture.inputs(16), fixture.outputs(16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "made", "fault"),
    [
        (_without(INPUTS, "inp_text_emb"), OUTPUTS, "the input inp_text_emb is missing"),
        (
            {**INPUTS, "inp_image_bytes": ("uint8", (None, None, 3))},
            OUTPUTS,
            r"the input inp_image_bytes is uint8 \(\?,\?,3\), expected string \(\)",
        ),
        (
            {**INPUTS, "inp_text_emb": ("float32", (1, 16))},
            OUTPUTS,
            r"the input inp_text_emb is float32 \(1,16\), expected float32 \(1,1,",
        ),
        ({**INPUTS, "threshold": ("float32", ())}, OUTPUTS, "the input threshold is not OpenSeg's"),
        (INPUTS, _without(OUTPUTS, "image_embedding_feat"), "the output image_embedding_feat is missing"),
        (INPUTS, _without(OUTPUTS, "ppixel_ave_feat"), "the output ppixel_ave_feat is missing"),
        (
            INPUTS,
            {**OUTPUTS, "ppixel_ave_feat": ("float64", (1, 640, 640, 16))},
            r"the output ppixel_ave_feat is float64 \(1,640,640,16\), expected float32 \(1,H,W,16\)",
        ),
        (
            INPUTS,
            {**OUTPUTS, "image_embedding_feat": ("float32", (1, 640, 640, 12))},
            r"image_embedding_feat is float32 \(1,640,640,12\), expected float32 \(1,640,640,16\)",
        ),
        (
            INPUTS,
            {**OUTPUTS, "image_info": ("float32", (1, 4, 2))},
            r"the output image_info is float32 \(1,4,2\), expected float32 \(4,2\)",
        ),
        (
            {**INPUTS, "inp_text_emb": ("float32", None)},
            {**OUTPUTS, "ppixel_ave_feat": ("float32", None), "image_embedding_feat": ("float32", None)},
            "no shape says how long an embedding is",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_signature_is_refused(
    tf: Any, tmp_path: Path, given: fixture.Shapes, made: fixture.Shapes, fault: str
) -> None:
    fixture.write_signature(tmp_path / "model", given, made)
    with pytest.raises(SpecInvalid, match=rf"{fault}.*Got inputs .*Expected inputs .*Give the folder"):
        load_model(tmp_path / "model")


@pytest.mark.slow
def test_a_model_without_the_serving_signature_is_refused(tf: Any, tmp_path: Path) -> None:
    fixture.write_signature(tmp_path / "model", INPUTS, OUTPUTS, name="embed")
    with pytest.raises(SpecInvalid, match="has the signatures embed, expected serving_default"):
        load_model(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_a_truncated_file_is_named_as_damage(whole: Path, name: str, share: float) -> None:
    file = whole / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreCorrupt, match=r"whole cannot be loaded \(.+\); expected a whole SavedModel.*copy or"):
        load_model(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001", ""], ids=["index", "data", "all"])
def test_missing_weights_are_named_as_damage(whole: Path, name: str) -> None:
    if name:
        (whole / "variables" / name).unlink()
    else:
        shutil.rmtree(whole / "variables")
    with pytest.raises(StoreCorrupt, match="cannot be loaded"):
        load_model(whole)


@pytest.mark.slow
def test_weights_that_were_changed_on_disk_are_found(whole: Path) -> None:
    file = whole / "variables" / "variables.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[5] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="cannot be loaded"):
        load_model(whole)


class FakeTensorFlow:
    """As much of TensorFlow as is asked about the machine."""

    __version__ = "2.21.0"

    def __init__(self, gpus: int, *, started: bool = False) -> None:
        self.grown: list[str] = []
        self.threads = 0

        def grow(gpu: str, grows: bool) -> None:
            if started:
                raise RuntimeError("Physical devices cannot be modified after being initialized")
            if grows:
                self.grown.append(gpu)

        def set_threads(threads: int) -> None:
            self.threads = threads

        self.config = SimpleNamespace(
            list_physical_devices=lambda kind: [f"{kind}:{n}" for n in range(gpus)],
            experimental=SimpleNamespace(set_memory_growth=grow),
            threading=SimpleNamespace(
                get_intra_op_parallelism_threads=lambda: self.threads, set_intra_op_parallelism_threads=set_threads
            ),
        )


def test_memory_of_every_gpu_grows_and_threads_are_bounded() -> None:
    tf = FakeTensorFlow(gpus=2)
    prepare(tf, 3, "cuda:0")
    assert tf.grown == ["GPU:0", "GPU:1"] and tf.threads == 3


def test_a_run_that_was_given_a_gpu_does_not_embed_on_the_cpu_without_a_word() -> None:
    with pytest.raises(ExtraMissing, match=r"GPU cuda:0, and TensorFlow 2\.21\.0 sees none.*VLGLAB_STAGES"):
        prepare(FakeTensorFlow(gpus=0), 1, "cuda:0")
    prepare(FakeTensorFlow(gpus=0), 1, "cpu")


def test_a_tensorflow_that_has_started_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    prepare(FakeTensorFlow(gpus=1, started=True), 1, "cuda:0")
    assert "stay as they were" in caplog.text

"""Loading through `transformers`: what is damaged or does not belong together is refused, never made up."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from storage.errors import StoreCorrupt
from tests.workers.encoders import tiny_models
from workers.encoders.clip_text import ClipTextEncoder
from workers.encoders.sentence_text import SentenceTextEncoder

pytestmark = pytest.mark.slow
pytest.importorskip("transformers", reason="the extra `text` is not installed: pip install 'vlglab[text]'")

NAMES = ["wall", "shower curtain"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def copy(clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip, tmp_path / "copy"))


def tensors_of(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "model.safetensors"))


def rewrite(folder: Path, tensors: dict[str, Any]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_weights_cut_at_any_place_are_refused(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (copy / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(
            StoreCorrupt, match=rf"model.safetensors in the folder copy is no whole .*\({length} bytes\)"
        ):
            ClipTextEncoder(copy)


@pytest.mark.parametrize("name", ["text_projection.weight", "text_model.encoder.layers.1.mlp.fc1.bias"])
def test_a_missing_tensor_is_named_not_drawn_at_random(copy: Path, name: str) -> None:
    tensors = tensors_of(copy)
    del tensors[name]
    rewrite(copy, tensors)
    with pytest.raises(StoreCorrupt, match=rf"folder copy lack tensors: {name} \(1 in all\)"):
        ClipTextEncoder(copy)


def test_a_layer_too_many_is_named_not_left_out(copy: Path, bert: Path, tmp_path: Path) -> None:
    for folder, encoder, layers in (
        (copy, ClipTextEncoder, "text_model.encoder.layers"),
        (Path(shutil.copytree(bert, tmp_path / "bert")), SentenceTextEncoder, "encoder.layer"),
    ):
        tensors = tensors_of(folder)
        more = {k.replace(f"{layers}.1.", f"{layers}.2."): v.copy() for k, v in tensors.items() if f"{layers}.1." in k}
        rewrite(folder, tensors | more)
        with pytest.raises(StoreCorrupt, match=rf"have surplus tensors: {layers}.2.*\({len(more)} in all\)"):
            encoder(folder)


def test_a_tensor_of_another_shape_is_refused(copy: Path) -> None:
    tensors = tensors_of(copy)
    tensors["text_projection.weight"] = tensors["text_projection.weight"][:20].copy()
    rewrite(copy, tensors)
    with pytest.raises(
        StoreCorrupt, match=r"misshapen tensors: text_projection.weight \(20, 32\), expected \(24, 32\)"
    ):
        ClipTextEncoder(copy)


def test_weights_that_are_not_finite_are_refused_when_used(copy: Path) -> None:
    tensors = tensors_of(copy)
    tensors["text_projection.weight"][3, 3] = np.nan
    rewrite(copy, tensors)
    with pytest.raises(StoreCorrupt, match="'wall' an embedding of norm nan"):
        ClipTextEncoder(copy).embed_texts(["wall"])


def test_parts_for_other_tasks_may_lie_beside_a_sentence_encoder(bert: Path, tmp_path: Path) -> None:
    """A checkpoint of BERT's own training: under a prefix, with its head, with no pooler, with old position ids."""
    folder = Path(shutil.copytree(bert, tmp_path / "headed"))
    tensors = {f"bert.{k}": v for k, v in tensors_of(bert).items() if not k.startswith("pooler.")}
    tensors["bert.embeddings.position_ids"] = np.arange(24)[None]
    tensors["cls.predictions.bias"] = np.zeros(100, np.float32)
    rewrite(folder, tensors)
    assert np.array_equal(SentenceTextEncoder(folder).embed_texts(NAMES), SentenceTextEncoder(bert).embed_texts(NAMES))
    tensors["bert.encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
    rewrite(folder, tensors)
    with pytest.raises(StoreCorrupt, match=r"surplus tensors: .*encoder.layer.2.output.dense.bias \(1 in all\)"):
        SentenceTextEncoder(folder)


def test_half_precision_weights_are_computed_with_in_single(copy: Path, bert: Path, tmp_path: Path) -> None:
    for folder, encoder in (
        (copy, ClipTextEncoder),
        (Path(shutil.copytree(bert, tmp_path / "b")), SentenceTextEncoder),
    ):
        halves = {name: tensor.astype(np.float16) for name, tensor in tensors_of(folder).items()}
        rewrite(folder, {name: tensor.astype(np.float32) for name, tensor in halves.items()})
        expected = encoder(folder).embed_texts(NAMES)
        rewrite(folder, halves)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
        assert np.array_equal(encoder(folder).embed_texts(NAMES), expected)


def test_split_and_pickled_weights_are_the_same_model(clip: Path, tmp_path: Path) -> None:
    import torch

    expected = ClipTextEncoder(clip).embed_texts(NAMES)
    tensors = tensors_of(clip)
    split = Path(shutil.copytree(clip, tmp_path / "split", ignore=shutil.ignore_patterns("model.safetensors")))
    names = {name: f"model-{row % 2}.safetensors" for row, name in enumerate(tensors)}
    for file in set(names.values()):
        save_file({k: v for k, v in tensors.items() if names[k] == file}, split / file, {"format": "pt"})
    (split / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert np.array_equal(ClipTextEncoder(split).embed_texts(NAMES), expected)
    pickled = Path(shutil.copytree(clip, tmp_path / "pickled", ignore=shutil.ignore_patterns("model.safetensors")))
    torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, pickled / "pytorch_model.bin")
    assert np.array_equal(ClipTextEncoder(pickled).embed_texts(NAMES), expected)


def test_pickled_code_is_never_run(copy: Path, tmp_path: Path) -> None:
    import torch

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "run"),)

    (copy / "model.safetensors").unlink()
    for write in (
        lambda path: torch.save({"text_projection.weight": Payload()}, path),
        lambda path: path.write_bytes(pickle.dumps(Payload(), protocol=2)),
        lambda path: path.write_bytes(b"PK\x03\x04 cut"),
        lambda path: path.write_bytes(b""),
    ):
        write(copy / "pytorch_model.bin")
        with pytest.raises(StoreCorrupt, match="weights in the folder copy cannot be read"):
            ClipTextEncoder(copy)
    assert not (tmp_path / "run").exists()


def test_code_beside_a_model_is_never_run(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "remote"))
    expected = SentenceTextEncoder(bert).embed_texts(NAMES)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "code.Model", "AutoConfig": "code.Config", "AutoTokenizer": ["code.T", None]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'run')!r})\n")
    assert np.array_equal(SentenceTextEncoder(folder).embed_texts(NAMES), expected)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["", "{", '{"model": {"type": "BPE"}}', '{"version": "1.0"}'])
def test_a_damaged_tokenizer_is_refused(copy: Path, content: str) -> None:
    (copy / "tokenizer.json").write_text(content)
    with pytest.raises(StoreCorrupt, match="tokenizer in the folder copy cannot be read"):
        ClipTextEncoder(copy)


def test_nothing_is_fetched(clip: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert ClipTextEncoder(clip).embed_texts(NAMES).shape == (2, 24)
    assert SentenceTextEncoder(bert).embed_texts(NAMES).shape == (2, 32)


def test_loading_says_nothing_and_leaves_the_library_s_voice_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import transformers

    whole = tiny_models.write_whole_clip(tmp_path)
    transformers.logging.set_verbosity_info()
    capfd.readouterr()
    caplog.clear()
    try:
        ClipTextEncoder(whole)
        assert capfd.readouterr() == ("", "")
        assert not caplog.records
        assert transformers.logging.get_verbosity() == transformers.logging.INFO
        assert transformers.logging.is_progress_bar_enabled()
    finally:
        transformers.logging.set_verbosity_warning()

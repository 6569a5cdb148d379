"""CLIP's text tower from a folder: against an oracle that pools and projects by itself, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from storage.errors import ExtraMissing, SpecInvalid, StoreCorrupt, UnknownClass
from tests.conformance.encoder import TextEncoderConformance
from tests.workers.encoders import tiny_models
from workers.encoders.clip_text import ClipTextEncoder, weights_digest
from workers.encoders.encoder import TextEncoder

ROOT = Path(__file__).resolve().parents[3]
NAMES = ["wall", "shower curtain", "otherfurniture", "bed"]


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text tower alone; whoever changes it copies it."""
    pytest.importorskip("transformers", reason="the extra `text` is not installed: pip install 'vlglab[text]'")
    return tiny_models.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole CLIP."""
    pytest.importorskip("transformers", reason="the extra `text` is not installed: pip install 'vlglab[text]'")
    return tiny_models.write_whole_clip(tmp_path_factory.mktemp("whole"))


def oracle(folder: Path, prompts: list[str]) -> NDArray[np.float64]:
    """(P,24) unit rows: words looked up in the vocabulary, one padded batch, raw states pooled and projected here."""
    import torch
    from transformers import CLIPModel, CLIPTextModelWithProjection

    vocabulary = json.loads((folder / "vocab.json").read_text())
    start, end = vocabulary[tiny_models.START], vocabulary[tiny_models.END]
    rows = [[start, *(vocabulary[f"{word}</w>"] for word in prompt.split()), end] for prompt in prompts]
    width = max(map(len, rows)) + 3
    ids = torch.tensor([row + [end] * (width - len(row)) for row in rows])
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model = (CLIPModel if kind == "clip" else CLIPTextModelWithProjection).from_pretrained(folder).eval()
    with torch.no_grad():
        states = model.text_model(input_ids=ids).last_hidden_state.double().numpy()
    pooled = np.stack([states[i, len(row) - 1] for i, row in enumerate(rows)])
    projected = pooled @ load_file(folder / "model.safetensors")["text_projection.weight"].astype(np.float64).T
    unit: NDArray[np.float64] = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    return unit


@pytest.mark.slow
class TestClipTextEncoder(TextEncoderConformance):
    @pytest.fixture
    def encoder(self, tower: Path) -> TextEncoder:
        return ClipTextEncoder(tower, ["{}"])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tower", "whole"])
def test_agrees_with_states_pooled_at_the_end_token_and_projected(which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)
    encoder = ClipTextEncoder(folder)
    assert encoder.dimension == 24
    expected = oracle(folder, [f"a {name} in a scene" for name in NAMES])
    assert np.abs(encoder.embed_texts(NAMES) - expected).max() < 1e-5


@pytest.mark.slow
def test_prompts_are_averaged_and_brought_to_unit_norm(tower: Path) -> None:
    prompts = ["a photo of a {}", "{}", "the {} in the scene"]
    mean = np.mean([oracle(tower, [prompt.replace("{}", name) for name in NAMES]) for prompt in prompts], axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    got = ClipTextEncoder(tower, prompts).embed_texts(NAMES)
    assert np.abs(got - expected).max() < 1e-5
    assert np.abs(got - ClipTextEncoder(tower, prompts[:1]).embed_texts(NAMES)).max() > 1e-2


@pytest.mark.slow
def test_configurations_of_old_name_no_end_token_and_are_read_as_they_were_meant(tower: Path, tmp_path: Path) -> None:
    tiny_models.write_clip(tmp_path, eos_token_id=2)
    got = ClipTextEncoder(tmp_path).embed_texts(NAMES)
    assert np.array_equal(got, ClipTextEncoder(tower).embed_texts(NAMES))


@pytest.mark.slow
def test_capital_letters_and_outer_spaces_do_not_matter(tower: Path) -> None:
    one, other = ClipTextEncoder(tower).embed_texts(["Shower  CURTAIN", "shower curtain"])
    assert np.array_equal(one, other)


@pytest.mark.slow
def test_says_what_to_record(tower: Path) -> None:
    about = ClipTextEncoder(tower, ["a {}"]).about
    assert about["weights"] == weights_digest(tower)
    assert about["prompts"] == ["a {}"]
    assert json.loads(json.dumps(about)) == about


@pytest.mark.slow
def test_a_prompt_longer_than_the_model_takes_is_refused_not_cut(tower: Path) -> None:
    encoder = ClipTextEncoder(tower, ["{}"])
    encoder.embed_texts(["bed " * 18])
    with pytest.raises(SpecInvalid, match="21 tokens, expected at most 20"):
        encoder.embed_texts(["bed " * 19])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["b\N{LATIN SMALL LETTER E WITH ACUTE}d", f"bed {tiny_models.END} wall"])
def test_a_name_that_the_tokenizer_cannot_spell_is_refused(tower: Path, name: str) -> None:
    with pytest.raises(UnknownClass, match="no token for"):
        ClipTextEncoder(tower).embed_texts([name])


@pytest.mark.slow
def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `text` is not installed: pip install 'vlglab[text]'")
    vocabulary = tiny_models.byte_pairs()[0]
    folder = tiny_models.write_clip(tmp_path / "end", eos_token_id=vocabulary["bed</w>"])
    with pytest.raises(StoreCorrupt, match=r"config.json says .*take both from one model"):
        ClipTextEncoder(folder).embed_texts(["wall"])
    folder = tiny_models.write_clip(tmp_path / "larger")
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"wall</w>": len(vocabulary)}))
    with pytest.raises(
        StoreCorrupt, match=f"the token {len(vocabulary)}, the model has embeddings for {len(vocabulary)}"
    ):
        ClipTextEncoder(folder).embed_texts(["wall"])


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"hidden_size": "many"}, {"hidden_size": 30, "num_attention_heads": 4}])
def test_a_configuration_that_describes_no_clip_is_refused(tower: Path, tmp_path: Path, changed: Any) -> None:
    for file in tower.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tower / "config.json").read_text()) | changed
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(StoreCorrupt, match=r"config.json in the folder .* cannot be read: .*hidden.size"):
        ClipTextEncoder(tmp_path)


# what follows needs no transformers


def folder_of_nothing(path: Path, model_type: str = "clip_text_model") -> Path:
    """The files of a text tower, with nothing in them that could be loaded."""
    tiny_models.write_clip_tokenizer(path)
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'vlglab\[text\]'"):
        ClipTextEncoder(folder_of_nothing(tmp_path))


def test_a_bad_prompt_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid, match=r"'a photo'.*exactly one"):
        ClipTextEncoder(tmp_path / "none", ["a photo"])


@pytest.mark.parametrize("model_type", ["bert", "clip_vision_model", "siglip", None])
def test_another_kind_of_model_is_refused(tmp_path: Path, model_type: Any) -> None:
    folder = folder_of_nothing(tmp_path, model_type)
    for call in (weights_digest, ClipTextEncoder):
        with pytest.raises(SpecInvalid, match=f"of type {model_type!r}, expected one of: clip, clip_text_model"):
            call(folder)


def test_the_digest_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workers.encoders import clip_text, sentence_text; "
        "clip_text.weights_digest(Path(sys.argv[1])); sentence_text.weights_digest(Path(sys.argv[2])); "
        "print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    paths = [folder_of_nothing(tmp_path / kind, kind) for kind in ("clip", "bert")]
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

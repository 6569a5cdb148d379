"""A sentence encoder from a folder: against an oracle that pools a padded batch by itself, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import SpecInvalid, UnknownClass
from tests.conformance.encoder import TextEncoderConformance
from tests.workers.encoders import tiny_models
from workers.encoders.encoder import TextEncoder
from workers.encoders.sentence_text import SentenceTextEncoder, weights_digest

NAMES = ["wall", "shower curtain", "otherfurniture", "bed"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small BERT; whoever changes it copies it."""
    pytest.importorskip("transformers", reason="the extra `text` is not installed: pip install 'vlglab[text]'")
    return tiny_models.write_bert(tmp_path_factory.mktemp("bert"))


def oracle(folder: Path, prompts: list[str]) -> NDArray[np.float64]:
    """(P,32) unit rows: words looked up in the vocabulary, one padded batch, states averaged under the mask here."""
    import torch
    from transformers import BertModel

    vocabulary = {word: row for row, word in enumerate((folder / "vocab.txt").read_text().split("\n"))}
    rows = [
        [vocabulary["[CLS]"], *(vocabulary[word] for word in prompt.split()), vocabulary["[SEP]"]] for prompt in prompts
    ]
    width = max(map(len, rows)) + 3
    ids = torch.tensor([row + [vocabulary["[PAD]"]] * (width - len(row)) for row in rows])
    mask = (ids != vocabulary["[PAD]"]).long()
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state.double().numpy()
    weight = mask.numpy()[:, :, None].astype(np.float64)
    mean = (states * weight).sum(axis=1) / weight.sum(axis=1)
    unit: NDArray[np.float64] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit


@pytest.mark.slow
class TestSentenceTextEncoder(TextEncoderConformance):
    @pytest.fixture
    def encoder(self, folder: Path) -> TextEncoder:
        return SentenceTextEncoder(folder)


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [["{}"], ["a photo of a {}", "the {}"]])
def test_agrees_with_the_mean_under_the_mask_of_a_padded_batch(folder: Path, prompts: list[str]) -> None:
    encoder = SentenceTextEncoder(folder, prompts)
    assert encoder.dimension == 32
    mean = np.mean([oracle(folder, [prompt.replace("{}", name) for name in NAMES]) for prompt in prompts], axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    assert np.abs(encoder.embed_texts(NAMES) - expected).max() < 1e-5


@pytest.mark.slow
def test_says_what_to_record(folder: Path) -> None:
    about = SentenceTextEncoder(folder, ["a {}"]).about
    assert about["weights"] == weights_digest(folder)
    assert (about["prompts"], about["dimension"]) == (["a {}"], 32)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "refused"), [("b\N{SNOWMAN}", True), ("bed \N{SNOWMAN}", True), ("xyzzy", False)])
def test_a_name_that_the_tokenizer_cannot_spell_is_refused(folder: Path, name: str, refused: bool) -> None:
    encoder = SentenceTextEncoder(folder)
    if refused:
        with pytest.raises(UnknownClass, match="no token for"):
            encoder.embed_texts([name])
    else:
        assert encoder.embed_texts([name]).shape == (1, 32)


@pytest.mark.slow
def test_a_prompt_longer_than_the_model_takes_is_refused_not_cut(folder: Path) -> None:
    encoder = SentenceTextEncoder(folder)
    encoder.embed_texts(["bed " * 22])
    with pytest.raises(SpecInvalid, match="25 tokens, expected at most 24"):
        encoder.embed_texts(["bed " * 23])


@pytest.mark.slow
def test_roberta_takes_as_many_tokens_as_its_positions_past_padding(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `text` is not installed: pip install 'vlglab[text]'")
    from transformers import RobertaConfig, RobertaModel

    tokens = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *"abdelorw"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: row for row, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    config = RobertaConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, pad_token_id=1,
    )  # fmt: skip
    tiny_models.randomised(RobertaModel(config)).save_pretrained(tmp_path)
    encoder = SentenceTextEncoder(tmp_path)
    assert encoder.embed_texts(["bedrolel"]).shape == (1, 16), "8 letters and 2 ends"
    with pytest.raises(SpecInvalid, match="11 tokens, expected at most 10"):
        encoder.embed_texts(["bedrolela"])


# what follows needs no transformers


def folder_of_nothing(path: Path, model_type: str = "bert") -> Path:
    """The files of a sentence encoder, with nothing in them that could be loaded."""
    tiny_models.write_bert_tokenizer(path)
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


@pytest.mark.parametrize("model_type", ["clip", "t5", "gpt2"])
def test_another_kind_of_model_is_refused(tmp_path: Path, model_type: str) -> None:
    folder = folder_of_nothing(tmp_path, model_type)
    for call in (weights_digest, SentenceTextEncoder):
        with pytest.raises(SpecInvalid, match=f"of type '{model_type}', expected one of: albert, bert"):
            call(folder)


@pytest.mark.parametrize(
    ("modules", "pooling", "error"),
    [
        (["Transformer", "Pooling", "Normalize"], {"pooling_mode_mean_tokens": True}, None),
        (["Transformer", "Pooling"], {"pooling_mode": "mean"}, None),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True}, "Dense"),
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls_token"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, "max_tokens"),
        (["Transformer", "Pooling"], {"pooling_mode": "lasttoken"}, "lasttoken"),
    ],
)
def test_an_encoder_that_was_trained_to_pool_otherwise_is_refused(
    tmp_path: Path, modules: list[str], pooling: dict[str, Any], error: str | None
) -> None:
    folder = folder_of_nothing(tmp_path)
    (folder / "modules.json").write_text(json.dumps([{"type": f"sentence_transformers.models.{m}"} for m in modules]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if error is None:
        assert weights_digest(folder)
    else:
        with pytest.raises(SpecInvalid, match=f"trained with: {error}; expected mean pooling"):
            weights_digest(folder)
    shutil.rmtree(folder / "1_Pooling")

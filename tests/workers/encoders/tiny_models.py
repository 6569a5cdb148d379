"""Tiny random language models in folders, as `transformers` saves them, with vocabularies written here.

Their weights are random but for one thing: `couch` is almost `sofa`, so that likeness means something.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from storage.labels import LABEL_SETS

WORDS = sorted(
    {word for labels in LABEL_SETS.values() for name in labels.classes for word in name.split()}
    | {"couch", "a", "in", "scene", "photo", "of", "the"}
)
"""Each is one token."""

START, END = "<|startoftext|>", "<|endoftext|>"


def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's kind of vocabulary and merges, in which every one of WORDS, ended by `</w>`, is one token."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    ranks: dict[tuple[str, str], int] = {}
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            # the known merge of the lowest rank, as in reading; where none applies, a new one at the front
            pairs = list(itertools.pairwise(parts))
            pair = min(pairs, key=lambda p: ranks.get(p, len(ranks)))
            ranks.setdefault(pair, len(ranks))
            at = pairs.index(pair)
            parts[at : at + 2] = ["".join(pair)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in ranks)]
    vocabulary = {token: row for row, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return vocabulary, list(ranks)


def write_clip_tokenizer(folder: Path) -> dict[str, int]:
    """Writes vocab.json and merges.txt; returns the vocabulary."""
    vocabulary, merges = byte_pairs()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return vocabulary


def write_bert_tokenizer(folder: Path) -> dict[str, int]:
    """Writes vocab.txt, lower case; returns the vocabulary."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {token: row for row, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    return vocabulary


def clip_config(vocabulary: dict[str, int], **changed: Any) -> Any:
    """A text tower of two layers, D = 24."""
    from transformers import CLIPTextConfig

    settings: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 20,
        "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
        "pad_token_id": vocabulary[END],
    }
    return CLIPTextConfig(**settings | changed)


def write_clip(folder: Path, **changed: Any) -> Path:
    """A CLIP text tower with its tokenizer."""
    from transformers import CLIPTextModelWithProjection

    vocabulary = write_clip_tokenizer(folder)
    model = randomised(CLIPTextModelWithProjection(clip_config(vocabulary, **changed)))
    embeddings = model.text_model.embeddings.token_embedding.weight.data
    embeddings[vocabulary[END]] *= 0.1  # what is read at the end token is then what it saw, not what it is
    embeddings[vocabulary["couch</w>"]] = embeddings[vocabulary["sofa</w>"]] * 1.05
    model.save_pretrained(folder)
    return folder


def write_whole_clip(folder: Path) -> Path:
    """A whole CLIP, image tower included, whose text configuration leaves the joint space's size to the whole."""
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

    vocabulary = write_clip_tokenizer(folder)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=8, patch_size=4
    )
    text = clip_config(vocabulary).to_dict()
    del text["projection_dim"]
    model = randomised(CLIPModel(CLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=24)))
    model.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    written["text_config"].pop("projection_dim", None)
    (folder / "config.json").write_text(json.dumps(written))
    return folder


def write_bert(folder: Path, **changed: Any) -> Path:
    """A sentence encoder of two layers, D = 32."""
    from transformers import BertConfig, BertModel

    vocabulary = write_bert_tokenizer(folder)
    settings: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 24,
    }
    model = randomised(BertModel(BertConfig(**settings | changed)))
    embeddings = model.embeddings.word_embeddings.weight.data
    embeddings[vocabulary["couch"]] = embeddings[vocabulary["sofa"]] * 1.05
    model.save_pretrained(folder)
    return folder


def randomised(model: Any) -> Any:
    """The model with weights large enough that its output follows its input, drawn from a fixed seed."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name.lower():
                continue
            if name.endswith("bias") or "position" in name or "token_type" in name:
                scale = 0.05
            else:
                scale = 1.0 if "embedding" in name else 0.15
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return model.eval()

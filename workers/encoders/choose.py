"""Picks the encoder that a spec names, and says by digest what it is made of.

A new encoder is a file beside this one and a branch here (docs/encoders.md). The digests load neither torch nor
TensorFlow: they enter artifact keys, and are asked for before anything is computed. `folder` is always the folder of
weights that the operator named (VLGLAB_WEIGHTS); specs name a plain name in it.
"""

from __future__ import annotations

from pathlib import Path

from storage import keys
from storage.specs.parts import Encoder, TextEncoder
from storage.words import known_words
from workers.encoders import clip_text, file_table, openseg_model, sentence_text, weights
from workers.encoders import encoder as contracts


def image_encoder(
    encoder: Encoder, folder: Path, threads: int | None = None, device: str = "cpu"
) -> contracts.ImageEncoder:
    """The image encoder that `encoder` names.

    Args:
        encoder: the spec.
        folder: the folder of weights.
        threads: CPU threads it may use; None leaves its library's own choice.
        device: what the run was given: `cpu`, or a GPU such as `cuda:0`.

    Raises:
        ExtraMissing: its library is not installed, or sees no GPU where the run was given one.
        NotFound: its weights are missing.
        StoreCorrupt: its weights are damaged, or are not the frozen ones.
    """
    if encoder.name == "openseg":
        from workers.encoders.openseg import OpenSegEncoder

        return OpenSegEncoder(_path(encoder, folder), encoder.output, threads, device)
    from workers.encoders.mini import MiniEncoder

    return MiniEncoder(threads)


def text_encoder(encoder: TextEncoder, folder: Path) -> contracts.TextEncoder:
    """The text encoder that `encoder` names.

    Args:
        encoder: the spec.
        folder: the folder of weights.

    Raises:
        ExtraMissing: its library is not installed.
        NotFound: its weights are missing.
        StoreCorrupt: its weights are damaged, or are not the frozen ones.
    """
    path, prompts = _path(encoder, folder), encoder.prompts
    if encoder.name == "clip":
        return clip_text.ClipTextEncoder(path, prompts or clip_text.PROMPTS)
    if encoder.name == "sentence":
        return sentence_text.SentenceTextEncoder(path, prompts or sentence_text.PROMPTS)
    if encoder.name == "table":
        return file_table.FileTableEncoder(path)
    from workers.encoders.table_text import TableTextEncoder

    return TableTextEncoder()


def weights_digest(encoder: Encoder, folder: Path) -> str:
    """A digest of what the image encoder computes from: its name and its weights.

    Raises:
        NotFound: its weights are missing.
        StoreCorrupt: its weights cannot be read, or are not the frozen ones.
    """
    if encoder.name == "openseg":
        return keys.digest({"encoder": encoder.name, "weights": openseg_model.weights_digest(_path(encoder, folder))})
    return keys.digest({"encoder": encoder.name, "weights": weights.digest_of(weights.NETWORK)})


def text_digest(encoder: TextEncoder, folder: Path) -> str:
    """A digest of what the text encoder computes from: its words or prompts, and its weights or table.

    Raises:
        NotFound: its weights are missing.
        StoreCorrupt: its weights cannot be read, or are not the frozen ones.
    """
    if encoder.name == "mini":
        table = weights.digest_of(weights.WORDS)
        return keys.digest({"encoder": encoder.name, "words": list(known_words()), "table": table})
    path = _path(encoder, folder)
    if encoder.name == "table":
        return keys.digest({"encoder": encoder.name, "weights": file_table.weights_digest(path)})
    module = clip_text if encoder.name == "clip" else sentence_text
    prompts = list(encoder.prompts or module.PROMPTS)
    return keys.digest({"encoder": encoder.name, "weights": module.weights_digest(path), "prompts": prompts})


def _path(encoder: Encoder | TextEncoder, folder: Path) -> Path:
    """Where an encoder's weights lie; the spec's type keeps the name inside the folder."""
    return folder / (encoder.weights or encoder.name)

"""Picks the encoder that a spec names, and says by digest what it is made of.

The digests load no torch: they enter artifact keys, and are asked for before anything is computed.
"""

from __future__ import annotations

from storage import keys
from storage.specs.parts import Encoder
from storage.words import known_words
from workers.encoders import weights
from workers.encoders.encoder import ImageEncoder, TextEncoder


def image_encoder(encoder: Encoder, threads: int | None = None) -> ImageEncoder:
    """The image encoder that `encoder` names.

    Args:
        encoder: the spec.
        threads: CPU threads it may use; None leaves torch's own choice.

    Raises:
        StoreCorrupt: its weights are missing or are not the frozen ones.
    """
    assert encoder.name == "mini", "the spec admits no other name as yet"
    from workers.encoders.mini import MiniEncoder

    return MiniEncoder(threads)


def text_encoder(encoder: Encoder) -> TextEncoder:
    """The text encoder whose space the image encoder of the same spec maps into.

    Raises:
        StoreCorrupt: its table is missing or is not the frozen one.
    """
    assert encoder.name == "mini", "the spec admits no other name as yet"
    from workers.encoders.table_text import TableTextEncoder

    return TableTextEncoder()


def weights_digest(encoder: Encoder) -> str:
    """A digest of what the image encoder computes from: its name and its weights.

    Raises:
        StoreCorrupt: its weights are missing or are not the frozen ones.
    """
    return keys.digest({"encoder": encoder.name, "weights": weights.digest_of(weights.NETWORK)})


def text_digest(encoder: Encoder) -> str:
    """A digest of what the text encoder computes from: its words, in order, and their embeddings.

    Raises:
        StoreCorrupt: its table is missing or is not the frozen one.
    """
    return keys.digest(
        {"encoder": encoder.name, "words": list(known_words()), "table": weights.digest_of(weights.WORDS)}
    )

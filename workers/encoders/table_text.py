"""A text encoder that looks words up in a shipped table, so that no language model is needed.

The table is MiniLM's (recipe: `tools/mini_encoder/word_table.py`). Knows no image and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from storage.words import check_words, known_words
from workers.encoders import weights


class TableTextEncoder:
    """Embeddings of the words that `storage.words` lists; implements `TextEncoder`.

    Examples:
        >>> TableTextEncoder().embed_texts(["wall", "shower curtain"]).shape
        (2, 384)
    """

    def __init__(self) -> None:
        weights.digest_of(weights.WORDS)
        self._row = {word: row for row, word in enumerate(known_words())}
        self._table = load_file(weights.WORDS)["embeddings"].astype(np.float32)

    @property
    def dimension(self) -> int:
        """D = 384."""
        return int(self._table.shape[1])

    @property
    def about(self) -> dict[str, object]:
        """What to record beside embeddings."""
        return {"text_encoder": "mini", "weights": weights.digest_of(weights.WORDS), "dimension": self.dimension}

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(K,D) float32 of unit norm, a row a text in the order given.

        Raises:
            UnknownClass: a text that the table does not hold, with the nearest that it does.
        """
        check_words(texts)
        rows = self._table[[self._row[text] for text in texts]].reshape(len(texts), self.dimension)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

"""What text encoders from a folder share: class names are put into prompts, which a language model embeds one by one.

Knows prompts and what is recorded; how a prompt becomes a vector is the subclass's matter. Loads neither torch nor
transformers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from workers.encoders.model_folder import ModelFolder
from workers.encoders.prompts import embed_in_prompts


class PromptedTextEncoder(ABC):
    """Embeddings of class names, averaged over prompts; a subclass embeds one prompt. Implements `TextEncoder`."""

    kind: ClassVar[str]
    """What records call the encoder."""
    pooling: ClassVar[str]
    """How records say that a prompt becomes a vector."""

    def __init__(self, prompts: tuple[str, ...], folder: ModelFolder) -> None:
        """An encoder of the model in a folder.

        Args:
            prompts: templates, as `check_prompts` gives them.
            folder: where the model lies.
        """
        self._prompts = prompts
        self._folder = folder

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D."""

    @property
    def about(self) -> dict[str, Any]:
        """What to record beside embeddings: the weights' digest, the prompts and how a prompt becomes a vector."""
        return {
            "text_encoder": self.kind,
            "weights": self._folder.digest(),
            "prompts": list(self._prompts),
            "pooling": f"{self.pooling}; mean of unit embeddings over the prompts, unit norm",
            "dimension": self.dimension,
        }

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(K,D) float32 of unit norm, a row a text in the order given.

        Raises:
            UnknownClass: a text without a letter or digit, or with characters that the tokenizer does not know.
            SpecInvalid: a prompt longer than the model takes.
            StoreCorrupt: a tokenizer of another model, an embedding that is not finite.
        """
        return embed_in_prompts(texts, self._prompts, self.dimension, self._embed)

    @abstractmethod
    def _embed(self, prompt: str) -> NDArray[np.float32]:
        """(D,) of one prompt, of any length."""

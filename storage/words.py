"""The words that the table text encoder knows, so that an unknown class can be refused before anything runs.

The list is data (`words.txt`, one word or phrase a line, sorted); the embeddings of the same words, in the same order,
lie beside the encoder that reads them. Knows nothing of numpy, torch or any encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from storage.errors import UnknownClass

_FILE = Path(__file__).with_name("words.txt")


@lru_cache(maxsize=1)
def known_words() -> tuple[str, ...]:
    """Every word of the table, sorted; its place here is its row in the table of embeddings.

    Examples:
        >>> "bookcase" in known_words()
        True
    """
    return tuple(_FILE.read_text(encoding="utf-8").splitlines())


def check_words(words: Iterable[str]) -> None:
    """Checks that the table knows every one of `words`, spelled exactly so.

    Raises:
        UnknownClass: the first one that it does not know, with the nearest that it does.

    Examples:
        >>> check_words(["shower curtain", "otherfurniture"])
        >>> check_words(["bokcase"])
        Traceback (most recent call last):
        ...
        storage.errors.UnknownClass: got the class name 'bokcase', which is not known; the nearest known are: ...
    """
    known = known_words()
    for word in words:
        if word not in known:
            raise UnknownClass.among("class name", word, known)

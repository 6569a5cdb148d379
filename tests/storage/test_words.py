"""The word list: what it must hold, and how an unknown word is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import UnknownClass
from storage.labels import LABEL_SETS
from storage.words import check_words, known_words

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("classes", [s.classes for s in LABEL_SETS.values()], ids=list(LABEL_SETS))
def test_every_class_of_every_label_set_is_known(classes: tuple[str, ...]) -> None:
    check_words(classes)
    assert set(classes) <= set(known_words())


def test_words_are_a_few_hundred_sorted_distinct_and_clean() -> None:
    words = known_words()
    assert len(words) >= 200
    assert list(words) == sorted(set(words))
    assert all(word == " ".join(word.split()) == word.lower() for word in words)
    assert all(words)


@pytest.mark.parametrize(("wrong", "near"), [("bokcase", "bookcase"), ("shower curtian", "shower curtain")])
def test_an_unknown_word_is_refused_with_the_nearest_known(wrong: str, near: str) -> None:
    with pytest.raises(UnknownClass) as caught:
        check_words(["wall", wrong])
    assert repr(wrong) in caught.value.message
    assert near in caught.value.message


@pytest.mark.parametrize("wrong", ["Wall", " wall", "", "floor\n", "zzzzzzzz"])
def test_spelling_counts(wrong: str) -> None:
    with pytest.raises(UnknownClass):
        check_words([wrong])


def test_no_words_are_fine() -> None:
    check_words([])


def test_neither_numpy_nor_torch_is_loaded() -> None:
    code = "import sys, storage.words; storage.words.known_words(); print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr

"""Prompt templates: what is refused, and the average against one computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import SpecInvalid, StoreCorrupt, UnknownClass
from workers.encoders.prompts import check_prompts, embed_in_prompts


@pytest.mark.parametrize("prompt", ["a photo", "{} and {}", "a {0}", "a {name} {}", "{{}}", "{", ""])
def test_a_prompt_without_its_one_place_is_refused_and_named(prompt: str) -> None:
    with pytest.raises(SpecInvalid, match="exactly one") as caught:
        check_prompts(["a {}", prompt])
    assert repr(prompt) in caught.value.message


def test_no_prompt_and_a_bare_string_are_refused() -> None:
    with pytest.raises(SpecInvalid, match="got no prompt"):
        check_prompts([])
    with pytest.raises(SpecInvalid, match="list of prompts is expected"):
        check_prompts("a {}")


def test_unit_embeddings_are_averaged_so_that_a_long_one_counts_no_more() -> None:
    asked: list[str] = []

    def embed(prompt: str) -> NDArray[np.float32]:
        asked.append(prompt)
        return {"a bed": np.array([3, 0], np.float32), "the bed": np.array([0, 1000], np.float32)}[prompt]

    embedded = embed_in_prompts(["bed", "bed"], ["a {}", "the {}"], 2, embed)
    assert embedded.dtype == np.float32
    assert np.allclose(embedded, [[0.5**0.5, 0.5**0.5]] * 2, atol=1e-7)
    assert asked == ["a bed", "the bed"], "a repeated name is embedded once"


def test_braces_in_a_name_are_only_text() -> None:
    seen: list[str] = []

    def embed(prompt: str) -> NDArray[np.float32]:
        seen.append(prompt)
        return np.ones(1, np.float32)

    embed_in_prompts(["a{}b"], ["<{}>"], 1, embed)
    assert seen == ["<a{}b>"]


@pytest.mark.parametrize("text", ["", "  ", "..."])
def test_a_name_without_a_letter_is_refused(text: str) -> None:
    with pytest.raises(UnknownClass, match="a letter or a digit"):
        embed_in_prompts(["bed", text], ["{}"], 1, lambda _: np.ones(1, np.float32))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_embedding_without_direction_is_refused_with_its_name(value: float) -> None:
    with pytest.raises(StoreCorrupt, match=r"'bed'.*norm"):
        embed_in_prompts(["bed"], ["{}"], 2, lambda _: np.full(2, value, np.float32))


def test_prompts_that_cancel_each_other_are_refused() -> None:
    with pytest.raises(StoreCorrupt, match="cancel"):
        embed_in_prompts(["bed"], ["+{}", "-{}"], 1, lambda p: np.array([1 if p[0] == "+" else -1], np.float32))

"""Prompt templates around class names, and one embedding a name out of the embeddings of its prompts.

Knows strings and arrays; knows no model and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from storage.errors import SpecInvalid, StoreCorrupt, UnknownClass

PLACE = "{}"
"""Where a template takes the class name; nothing else in it is a brace."""


def check_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """The templates, each with exactly one place for a class name.

    Raises:
        SpecInvalid: no template, or one with no place, several, or other braces.

    Examples:
        >>> check_prompts(["a {} in a scene"])
        ('a {} in a scene',)
        >>> check_prompts(["a photo"])
        Traceback (most recent call last):
        ...
        storage.errors.SpecInvalid: got the prompt 'a photo', expected exactly one '{}', which takes the class name
    """
    if isinstance(prompts, str):
        raise SpecInvalid(f"got the prompt {prompts!r} where a list of prompts is expected: [{prompts!r}]")
    if not prompts:
        raise SpecInvalid(f"got no prompt, expected at least one; {PLACE!r} alone takes the bare class name")
    for prompt in prompts:
        rest = prompt.replace(PLACE, "")
        if prompt.count(PLACE) != 1 or "{" in rest or "}" in rest:
            raise SpecInvalid(f"got the prompt {prompt!r}, expected exactly one {PLACE!r}, which takes the class name")
    return tuple(prompts)


def embed_in_prompts(
    texts: Sequence[str], prompts: Sequence[str], dimension: int, embed: Callable[[str], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """(K,D) float32 of unit norm: for each text the mean over its prompts' unit embeddings, brought to unit norm.

    Each prompt is embedded alone, so that a row never depends on which other texts are asked for.

    Args:
        texts: class names; a repeated one is embedded once.
        prompts: templates, as `check_prompts` gives them.
        dimension: D.
        embed: one prompt -> (D,), of any length but zero.

    Raises:
        UnknownClass: a text without a letter or digit.
        StoreCorrupt: an embedding that is not finite, or is zero.
    """
    rows: dict[str, NDArray[np.float32]] = {}
    for text in texts:
        if not any(character.isalnum() for character in text):
            raise UnknownClass(f"got the class name {text!r}, expected one with a letter or a digit")
        if text not in rows:
            units = [_unit(embed(prompt.replace(PLACE, text)), text) for prompt in prompts]
            rows[text] = _unit(np.mean(units, axis=0), text).astype(np.float32)
    embedded: NDArray[np.float32] = np.array([rows[text] for text in texts], np.float32).reshape(len(texts), dimension)
    return embedded


def _unit(row: NDArray[np.float32] | NDArray[np.float64], text: str) -> NDArray[np.float64]:
    wide: NDArray[np.float64] = np.asarray(row, np.float64)
    norm = float(np.linalg.norm(wide))
    if not np.isfinite(norm) or norm == 0:
        raise StoreCorrupt(
            f"the text encoder gives the class name {text!r} an embedding of norm {norm}, expected a finite one above "
            "0; its weights are damaged, or two prompts cancel each other"
        )
    return wide / norm

"""A prompt as the numbers that a language model reads, refused where the model would quietly read something else."""

from __future__ import annotations

from typing import Any

from storage.errors import SpecInvalid, StoreCorrupt, UnknownClass


def of_prompt(tokenizer: Any, prompt: str, vocabulary: int, longest: int) -> list[int]:
    """The token ids of `prompt`, special ones included, without padding; nothing is cut off.

    Args:
        tokenizer: one of transformers' tokenizers.
        prompt: the text.
        vocabulary: ids that the model has embeddings for: 0 to one less.
        longest: tokens that the model takes.

    Raises:
        UnknownClass: characters that the tokenizer has no token for.
        SpecInvalid: more tokens than the model takes.
        StoreCorrupt: a token that the model has no embedding for.
    """
    bare = list(tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    if not bare or tokenizer.unk_token_id in bare:
        raise UnknownClass(
            f"got {prompt!r}, which has characters that the text encoder's tokenizer has no token for: its embedding "
            "would be that of any unknown word; spell the class name otherwise"
        )
    ids = [int(token) for token in tokenizer(prompt, verbose=False)["input_ids"]]
    if len(ids) > longest:
        raise SpecInvalid(f"got a prompt of {len(ids)} tokens, expected at most {longest}; shorten {prompt!r}")
    if max(ids) >= vocabulary:
        raise StoreCorrupt(
            f"the tokenizer gives {prompt!r} the token {max(ids)}, the model has embeddings for {vocabulary}; "
            "take tokenizer and weights from one model"
        )
    return ids

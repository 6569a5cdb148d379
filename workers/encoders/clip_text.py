"""CLIP's text tower from a local folder: class names in prompts to CLIP's joint space.

The folder is one that `transformers` saves, of a whole CLIP (`model_type` "clip") or of the tower alone
("clip_text_model"). Knows no image; the library is optional (extra `text`). Source: section 3.1 of the paper, which
takes CLIP ViT-L/14@336 beside OpenSeg, D = 768.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import StoreCorrupt
from workers.encoders import model_folder, pretrained, token_ids
from workers.encoders.model_folder import ModelFolder
from workers.encoders.prompted_text import PromptedTextEncoder
from workers.encoders.prompts import check_prompts

MODEL_TYPES = ("clip", "clip_text_model")

PROMPTS = ("a {} in a scene",)
"""The prompt of the authors' code."""

_LEGACY_END = 2
"""Configurations made before transformers 4.31 say that the end token is 2; there its id is the highest of all."""


class ClipTextEncoder(PromptedTextEncoder):
    """CLIP's text embeddings, averaged over prompts; implements `TextEncoder`.

    A prompt's embedding is the last hidden state at its end token, projected into the joint space. Prompts are embedded
    one by one and unpadded, in float32, so that equal input gives equal output whatever else is asked for.

    Args:
        path: folder with config.json, weights and tokenizer, as `transformers` saves them. Nothing is fetched.
        prompts: templates with one `{}` each; their unit embeddings are averaged.

    Raises:
        ExtraMissing: transformers is not installed.
        SpecInvalid: a prompt without its one `{}`; a folder that holds another kind of model.
        NotFound: no such folder, or a file missing in it.
        StoreCorrupt: files that cannot be read, or that do not belong together.
    """

    kind = "clip"
    pooling = "end token, projected"

    def __init__(self, path: Path, prompts: Sequence[str] = PROMPTS) -> None:
        super().__init__(check_prompts(prompts), model_folder.open_folder(path, MODEL_TYPES))
        library = pretrained.library()
        config = _text_config(library, self._folder)
        self._model = pretrained.load_model(self._folder, library.CLIPTextModelWithProjection, config=config)
        self._tokenizer = pretrained.load_tokenizer(self._folder, library.CLIPTokenizer)

    @property
    def dimension(self) -> int:
        """D, that of the joint space: 512 for ViT-B, 768 for ViT-L."""
        return int(self._model.config.projection_dim)

    def _embed(self, prompt: str) -> NDArray[np.float32]:
        """(D,) of one prompt, of any length."""
        import torch

        config = self._model.config
        ids = token_ids.of_prompt(self._tokenizer, prompt, config.vocab_size, config.max_position_embeddings)
        end = max(ids) if config.eos_token_id == _LEGACY_END else config.eos_token_id
        if end not in ids or ids.index(end) != len(ids) - 1:
            raise StoreCorrupt(
                f"the tokenizer in the folder {self._folder.path.name} ends {prompt!r} with the token {ids[-1]}, where "
                f"config.json says {config.eos_token_id}: expected it once, at the end; take both from one model"
            )
        with torch.inference_mode():
            given = torch.tensor([ids])
            embedded: NDArray[np.float32] = self._model(input_ids=given).text_embeds[0].numpy()
        return embedded


def weights_digest(path: Path) -> str:
    """A digest of what the text tower computes from, name and content of every file; loads no torch.

    The prompts are no part of it: they are fields of the spec.

    Raises:
        NotFound: no such folder, or a file missing in it.
        SpecInvalid: it holds another kind of model.
        StoreCorrupt: its config.json cannot be read.
    """
    return model_folder.open_folder(path, MODEL_TYPES).digest()


def _text_config(library: Any, folder: ModelFolder) -> Any:
    """The tower's configuration; a whole CLIP keeps the size of the joint space beside it, not in it."""
    with pretrained.reading(folder, "config.json"):
        if folder.config["model_type"] == "clip_text_model":
            return library.CLIPTextConfig.from_dict(folder.config)
        whole = library.CLIPConfig.from_dict(folder.config)
        whole.text_config.projection_dim = whole.projection_dim
        return whole.text_config

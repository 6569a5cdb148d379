"""A sentence encoder from a local folder: class names in prompts to the mean over their tokens.

For encoders of BERT's kind that were trained with mean pooling, such as MiniLM and MPNet; the library is optional
(extra `text`), and sentence-transformers is not needed. Knows no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import SpecInvalid
from workers.encoders import model_folder, pretrained, token_ids
from workers.encoders.model_folder import ModelFolder
from workers.encoders.prompted_text import PromptedTextEncoder
from workers.encoders.prompts import check_prompts

MODEL_TYPES = ("albert", "bert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
"""Encoders that give a hidden state a token, and can be loaded without code of their own."""

PROMPTS = ("{}",)

_PAST_PADDING = ("mpnet", "roberta", "xlm-roberta")
"""Types whose positions are counted from one past the padding token's id."""

_POOLING = Path("1_Pooling") / "config.json"
_MODULES = "modules.json"
_OTHER_POOLINGS = {"cls", "cls_token", "max", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"}
_STEPS = ("Transformer", "Pooling", "Normalize")
"""What sentence-transformers may say that it does, and no more."""


class SentenceTextEncoder(PromptedTextEncoder):
    """Mean of a prompt's token states, averaged over prompts; implements `TextEncoder`.

    Prompts are embedded one by one and unpadded, in float32: the mean over the attention mask is the mean over all
    tokens, special ones included, and a row does not depend on what else is asked for.

    Args:
        path: folder with config.json, weights and tokenizer, as `transformers` or sentence-transformers saves them.
        prompts: templates with one `{}` each; their unit embeddings are averaged.

    Raises:
        ExtraMissing: transformers is not installed.
        SpecInvalid: a prompt without its one `{}`; a folder that holds another kind of model, or one that pools
            otherwise.
        NotFound: no such folder, or a file missing in it.
        StoreCorrupt: files that cannot be read, or that do not belong together.
    """

    kind = "sentence"
    pooling = "mean over tokens"

    def __init__(self, path: Path, prompts: Sequence[str] = PROMPTS) -> None:
        super().__init__(check_prompts(prompts), _open(path))
        library = pretrained.library()
        self._model = pretrained.load_model(self._folder, library.AutoModel)
        self._tokenizer = pretrained.load_tokenizer(self._folder, library.AutoTokenizer)

    @property
    def dimension(self) -> int:
        """D, the width of the model: 384 for MiniLM."""
        return int(self._model.config.hidden_size)

    def _embed(self, prompt: str) -> NDArray[np.float32]:
        """(D,) of one prompt, of any length."""
        import torch

        config = self._model.config
        past = config.pad_token_id + 1 if config.model_type in _PAST_PADDING else 0
        ids = token_ids.of_prompt(self._tokenizer, prompt, config.vocab_size, config.max_position_embeddings - past)
        with torch.inference_mode():
            given = torch.tensor([ids])
            states_TD = self._model(input_ids=given, attention_mask=torch.ones_like(given)).last_hidden_state[0]
            embedded: NDArray[np.float32] = states_TD.mean(dim=0).numpy()
        return embedded


def weights_digest(path: Path) -> str:
    """A digest of what the encoder computes from, name and content of every file; loads no torch.

    The prompts are no part of it: they are fields of the spec.

    Raises:
        NotFound: no such folder, or a file missing in it.
        SpecInvalid: it holds another kind of model, or one that pools otherwise.
        StoreCorrupt: its config.json cannot be read.
    """
    return _open(path).digest()


def _open(path: Path) -> ModelFolder:
    """The folder, where sentence-transformers' own files, if there are any, say what is done here.

    Raises:
        SpecInvalid: they say something else.
    """
    folder = model_folder.open_folder(path, MODEL_TYPES)
    found: list[str] = []
    if (path / _MODULES).is_file():
        kinds = [str(step.get("type")).split(".")[-1] for step in model_folder.read_json(path / _MODULES, list)]
        found += [kind for kind in kinds if kind not in _STEPS]
    if (path / _POOLING).is_file():
        pooling = model_folder.read_json(path / _POOLING)
        wanted = {name.removeprefix("pooling_mode_") for name, on in pooling.items() if on is True}
        found += sorted((wanted | {str(pooling.get("pooling_mode", "mean"))}) & _OTHER_POOLINGS)
    if found:
        raise SpecInvalid(
            f"the sentence encoder in the folder {path.name} was trained with: {', '.join(found)}; expected mean "
            "pooling over its tokens and nothing after it, the only kind served"
        )
    return folder

"""A folder with a language model as `transformers` saves it: which files count, and their digest.

Loads neither torch nor transformers (`pretrained` does). Knows no prompt and no pooling.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import NotFound, SpecInvalid, StoreCorrupt
from workers.encoders.file_digests import digest_of_files

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"

_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",))
"""Sets of files any of which makes a tokenizer."""

_ASIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files that change what a tokenizer does, where they exist."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder whose files are there and whose configuration is of an expected model; `open_folder` makes it."""

    path: Path
    config: dict[str, Any]
    """Content of its config.json."""
    weights: tuple[str, ...]
    """Names of the files that hold the weights, the index of a split one first."""
    tokenizer: tuple[str, ...]
    """Names of the tokenizer's files."""

    def digest(self) -> str:
        """A digest of every file that enters the embeddings, name and content."""
        return digest_of_files({name: self.path / name for name in (CONFIG, *self.weights, *self.tokenizer)})


def open_folder(path: Path, model_types: Collection[str]) -> ModelFolder:
    """The folder of a model, its files found; loads neither torch nor transformers.

    Args:
        path: the folder.
        model_types: values of `model_type` in its config.json that are taken.

    Raises:
        NotFound: no such folder, or a file that is missing in it.
        StoreCorrupt: a config.json or an index that cannot be read.
        SpecInvalid: the folder holds another kind of model.
    """
    if not path.is_dir():
        raise NotFound(
            f"{path} {'is no folder' if path.exists() else 'does not exist'}; expected a folder with {CONFIG}, "
            f"{WEIGHTS} and a tokenizer's files, as transformers' `save_pretrained` writes it"
        )
    config = read_json(path / CONFIG)
    if config.get("model_type") not in model_types:
        raise SpecInvalid(
            f"the folder {path.name} holds a model of type {config.get('model_type')!r}, expected one of: "
            f"{', '.join(sorted(model_types))}; name another folder, or the encoder that reads this type"
        )
    return ModelFolder(path, config, _weights(path), _tokenizer(path))


def read_json(path: Path, kind: type[dict[Any, Any]] | type[list[Any]] = dict) -> Any:
    """The object, or the list of objects, in a JSON file of a model's folder.

    Args:
        path: the file.
        kind: `dict` for an object, `list` for a list of them.

    Raises:
        NotFound: no such file.
        StoreCorrupt: not JSON, or something else.
    """
    if not path.is_file():
        raise NotFound(f"the folder {path.parent.name} has no {path.name}; fetch the model again, whole")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreCorrupt(f"{path.name} in the folder {path.parent.name} is no JSON: {error}") from error
    if not isinstance(content, kind) or (kind is list and not all(isinstance(item, dict) for item in content)):
        expected = "an object" if kind is dict else "a list of objects"
        raise StoreCorrupt(f"{path.name} in the folder {path.parent.name} does not hold {expected}")
    return content


def _weights(path: Path) -> tuple[str, ...]:
    """Names of the files of weights, in the order in which transformers looks for them."""
    if (path / WEIGHTS).is_file():
        return (WEIGHTS,)
    if (path / INDEX).is_file():
        shards = read_json(path / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise StoreCorrupt(f"{INDEX} in the folder {path.name} has no weight_map")
        names = sorted({str(name) for name in shards.values()})
        for name in names:
            if name != Path(name).name or not (path / name).is_file():
                raise NotFound(f"{INDEX} in the folder {path.name} names {name!r}, which is no file of the folder")
        return (INDEX, *names)
    if (path / PICKLED).is_file():
        return (PICKLED,)
    raise NotFound(f"the folder {path.name} has none of {WEIGHTS}, {INDEX}, {PICKLED}; fetch the model again, whole")


def _tokenizer(path: Path) -> tuple[str, ...]:
    """Names of the tokenizer's files; without one transformers would quietly make an empty tokenizer."""
    found = [name for names in _TOKENIZERS for name in names if (path / name).is_file()]
    if not any(set(names) <= set(found) for names in _TOKENIZERS):
        wanted = ", or ".join(" and ".join(names) for names in _TOKENIZERS)
        raise NotFound(f"the folder {path.name} has no tokenizer: expected {wanted}; fetch the model again, whole")
    return (*found, *(name for name in _ASIDE if (path / name).is_file()))

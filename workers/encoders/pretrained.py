"""Loads a model and its tokenizer from a folder through `transformers`, strictly: what is amiss is an error here.

Everything is read from the folder, nothing from a network; pickled code is never run. `library` alone imports the
optional library. Knows no prompt and no pooling.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import safetensors

from storage.errors import ExtraMissing, StoreCorrupt
from workers.encoders.model_folder import CONFIG, PICKLED, ModelFolder

_UNREADABLE = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, EOFError,
    safetensors.SafetensorError, pickle.UnpicklingError,
)  # fmt: skip
"""What transformers raises on files that it cannot use, beside an error of its own about configurations."""


def library() -> Any:
    """The module `transformers`.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        # by name: it is optional, and its annotations are not ours to check
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ExtraMissing(
            f"a text encoder from a folder needs transformers, which cannot be imported ({error}); "
            "run `pip install 'vlglab[text]'`"
        ) from error


@contextmanager
def reading(folder: ModelFolder, what: str) -> Iterator[None]:
    """Keeps transformers quiet, and turns what it raises on bad files into an error that names the folder.

    Args:
        folder: what is read.
        what: the part of it that is read.

    Raises:
        StoreCorrupt: it cannot be.
    """
    try:
        with _quiet():
            yield
    except (*_UNREADABLE, importlib.import_module("huggingface_hub.errors").StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:400]
        raise StoreCorrupt(
            f"the {what} in the folder {folder.path.name} cannot be read: {type(error).__name__}: {reason}; "
            "fetch the model again, or save it anew with `save_pretrained`"
        ) from error


def load_model(folder: ModelFolder, model_class: Any, **options: Any) -> Any:
    """The model in evaluation mode, float32, with every weight read from the folder.

    Args:
        folder: where it lies.
        model_class: one of transformers' classes that has `from_pretrained`.
        options: handed to it.

    Raises:
        StoreCorrupt: a truncated or unreadable file, a missing tensor, one of another shape, a layer too many.
    """
    for name in folder.weights:
        if name.endswith(".safetensors"):
            _check_header(folder, name)
    with reading(folder, "weights"):
        model, report = model_class.from_pretrained(
            folder.path,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            use_safetensors=PICKLED not in folder.weights,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **options,
        )
    _check_complete(folder, model, report)
    return model.float().eval()


def load_tokenizer(folder: ModelFolder, tokenizer_class: Any) -> Any:
    """The tokenizer.

    Args:
        folder: where it lies.
        tokenizer_class: one of transformers' classes that has `from_pretrained`.

    Raises:
        StoreCorrupt: its files cannot be read.
    """
    with reading(folder, "tokenizer"):
        return tokenizer_class.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)


def _check_complete(folder: ModelFolder, model: Any, report: Any) -> None:
    """Checks that every tensor has its shape, that none was made up and none of the model's own was left out.

    Tensors of other parts (an image tower, a head for another task) may lie beside it.

    Raises:
        StoreCorrupt: naming up to five.
    """
    prefix = f"{model.base_model_prefix}."
    own = {name.split(".")[0] for name in model.state_dict()}
    # nobody reads a pooler here; old checkpoints hold position_ids, which are no weights
    missing = [name for name in report["missing_keys"] if not name.removeprefix(prefix).startswith("pooler.")]
    surplus = [
        name
        for name in report["unexpected_keys"]
        if own & {name.split(".")[0], name.removeprefix(prefix).split(".")[0]} and not name.endswith("position_ids")
    ]
    reshaped = [f"{name} {tuple(got)}, expected {tuple(wanted)}" for name, got, wanted in report["mismatched_keys"]]
    for what, names in (("have misshapen", reshaped), ("lack", missing), ("have surplus", surplus)):
        if names:
            raise StoreCorrupt(
                f"the weights in the folder {folder.path.name} {what} tensors: {', '.join(sorted(names)[:5])} "
                f"({len(names)} in all); weights and {CONFIG} must come from one model"
            )


def _check_header(folder: ModelFolder, name: str) -> None:
    """Reads the header of a safetensors file, which tells whether the file is whole."""
    path = folder.path / name
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise StoreCorrupt(
            f"{name} in the folder {folder.path.name} is no whole safetensors file ({path.stat().st_size} bytes): "
            f"{error}; fetch it again"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and its table of surplus tensors: what counts is checked here."""
    log = library().utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()

"""OpenSeg's SavedModel: its folder, its digest, loading it, and whether its signature is OpenSeg's.

Knows the exported model's names and shapes, and TensorFlow, which is imported only when a model is loaded. Knows no
pixel that is wanted, no scene and no torch.

Source: the exported model of OpenSeg (Ghiasi et al., ECCV 2022) as its demonstration and OpenScene call it.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from storage.errors import ExtraMissing, NotFound, SpecInvalid, StoreCorrupt
from workers.encoders.file_digests import digest_of_files

log = logging.getLogger("vlglab.run")

Output = Literal["region_pooled", "per_pixel"]
"""Which of the model's two embeddings of a pixel is meant."""

IMAGE, TEXT, INFO = "inp_image_bytes", "inp_text_emb", "image_info"

MAPS: Mapping[Output, str] = {"region_pooled": "ppixel_ave_feat", "per_pixel": "image_embedding_feat"}
"""The model's output of each kind."""

_SIGNATURE = "serving_default"
_TAG = "serve"
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")

_Shape = tuple[int | str, ...]
_INPUTS: Mapping[str, tuple[str, _Shape]] = {IMAGE: ("string", ()), TEXT: ("float32", (1, 1, "D"))}
_OUTPUTS: Mapping[str, tuple[str, _Shape]] = {
    **dict.fromkeys(MAPS.values(), ("float32", (1, "H", "W", "D"))),
    INFO: ("float32", (4, 2)),
}


@dataclass(frozen=True, slots=True)
class OpenSegModel:
    """A loaded model whose signature is OpenSeg's.

    Attributes:
        signature: maps an encoded image (`IMAGE`, scalar string) and text embeddings (`TEXT`, (1,1,D) float32) to
            `MAPS` ((1,H,W,D) float32) and `INFO` ((4,2) float32); made of TensorFlow's tensors.
        dimension: D; 768 in the published model.
        variables: what the signature computes from; they live only as long as somebody holds this.
    """

    signature: Callable[..., Mapping[str, Any]]
    dimension: int
    variables: object


def weights_digest(path: Path) -> str:
    """A digest of the relative name and content of every file of the SavedModel at `path`.

    Maps the files (hundreds of megabytes), links followed, and loads no TensorFlow: it enters artifact keys.

    Raises:
        NotFound: there is no SavedModel.
        StoreCorrupt: one of its files cannot be read.
    """
    check_folder(path)
    found = (Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names)
    return digest_of_files({file.relative_to(path).as_posix(): file for file in sorted(found)})


def check_folder(path: Path) -> None:
    """Raises unless a SavedModel lies at `path`; looks at names only.

    Raises:
        NotFound: there is none; the message names the folders beneath in which one lies.
    """
    wanted = f"expected the folder of OpenSeg's exported SavedModel, with {_GRAPHS[0]} and variables/ in it"
    if not path.is_dir():
        raise NotFound(f"the OpenSeg model {path} {'is no folder' if path.exists() else 'does not exist'}; {wanted}")
    if not any((path / name).is_file() for name in _GRAPHS):
        beneath = [folder.name for folder in sorted(path.iterdir()) if (folder / _GRAPHS[0]).is_file()]
        hint = f"; one lies in its folder {', '.join(beneath)}" if beneath else "; unpack or download it again"
        raise NotFound(f"the folder {path} holds no SavedModel; {wanted}{hint}")


def load_model(path: Path, threads: int | None = None, device: str = "cpu") -> OpenSegModel:
    """The model at `path`, its signature checked.

    Args:
        path: the folder of the SavedModel.
        threads: CPU threads an operation may use; None leaves TensorFlow's own choice.
        device: what the run was given, as torch names it; where that is a GPU, TensorFlow must see one.

    Raises:
        ExtraMissing: TensorFlow is not installed, or the run was given a GPU and it sees none.
        NotFound: there is no SavedModel.
        SpecInvalid: it is not OpenSeg's: another signature.
        StoreCorrupt: it cannot be loaded: a truncated, damaged or missing file.
    """
    check_folder(path)
    tf = import_tensorflow()
    prepare(tf, threads, device)
    try:
        model = tf.saved_model.load(os.fspath(path), tags=[_TAG])
    except (tf.errors.OpError, OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        raise StoreCorrupt(
            f"the OpenSeg model {path} cannot be loaded ({type(error).__name__}: {first_line(error)}); expected a "
            f"whole SavedModel with the tag {_TAG!r}, {_GRAPHS[0]} and variables/; copy or download it again"
        ) from error
    signatures = model.signatures
    if _SIGNATURE not in signatures:
        raise SpecInvalid(
            f"the model {path} has the signatures {', '.join(sorted(signatures)) or 'none'}, expected {_SIGNATURE}; "
            "give the folder of OpenSeg's exported SavedModel"
        )
    signature = signatures[_SIGNATURE]
    return OpenSegModel(signature, _checked_dimension(signature, path), model)


def import_tensorflow() -> ModuleType:
    """TensorFlow, its start-up chatter off unless TF_CPP_MIN_LOG_LEVEL says otherwise.

    Raises:
        ExtraMissing: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise ExtraMissing(
            f"the encoder openseg needs TensorFlow, which cannot be imported ({error}); "
            "install it with `pip install vlglab[openseg]`"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message; TensorFlow's run over many."""
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


def prepare(tf: ModuleType, threads: int | None, device: str) -> None:
    """Lets GPU memory grow, so that TensorFlow does not take all of it, and bounds the threads.

    Both can be set only before TensorFlow's first operation; where that has passed, they stay as they are.

    Raises:
        ExtraMissing: the run was given a GPU and TensorFlow sees none; it would take days on the CPU without a word.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if device != "cpu" and not gpus:
        raise ExtraMissing(
            f"the run was given the GPU {device}, and TensorFlow {tf.__version__} sees none; install the CUDA libraries"
            " that it asks for (`pip install 'tensorflow[and-cuda]'`; where torch asks for others, in an environment of"
            " its own, for a host that runs `extract` alone: VLGLAB_STAGES), or give that host no GPU (VLGLAB_GPUS=) to"
            " embed on the CPU"
        )
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        if threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
    except (RuntimeError, ValueError) as error:  # started already, or split into virtual devices by somebody else
        log.warning(
            "TensorFlow had started before the OpenSeg model was loaded: growth of GPU memory and the number of "
            "threads stay as they were (%s)",
            first_line(error),
        )


def _checked_dimension(signature: Any, path: Path) -> int:
    """D, where the names, types and shapes of `signature` are OpenSeg's; dimensions left open by it are taken."""
    inputs = signature.structured_input_signature[1]
    sides = (("input", _INPUTS, inputs), ("output", _OUTPUTS, signature.structured_outputs))
    faults = [f"the input {name} is not OpenSeg's" for name in sorted(set(inputs) - set(_INPUTS))]
    sizes: dict[str, int] = {}
    for side, expected, got in sides:
        for name, (dtype, shape) in expected.items():
            if name not in got:
                faults.append(f"the {side} {name} is missing")
            elif not _fits(got[name], dtype, shape, sizes):
                faults.append(f"the {side} {name} is {_shown(got[name])}, expected {dtype} {_dims(shape, sizes)}")
    if not faults and "D" not in sizes:
        faults.append("no shape says how long an embedding is")
    if faults:
        has = "; ".join(f"{side}s {', '.join(sorted(got)) or 'none'}" for side, _, got in sides)
        wants = "; ".join(f"{side}s {', '.join(sorted(expected))}" for side, expected, _ in sides)
        raise SpecInvalid(
            f"the signature {_SIGNATURE} of {path} is not OpenSeg's: {'; '.join(faults)}. Got {has}. Expected {wants}. "
            "Give the folder of OpenSeg's exported SavedModel"
        )
    return sizes["D"]


def _fits(spec: Any, dtype: str, shape: _Shape, sizes: dict[str, int]) -> bool:
    """Whether a tensor's type and shape are as expected; letters are bound in `sizes` at their first size."""
    if spec.dtype.name != dtype:
        return False
    if spec.shape.rank is None:
        return True
    if spec.shape.rank != len(shape):
        return False
    known = [(got, want) for got, want in zip(spec.shape.as_list(), shape, strict=True) if got is not None]
    return all(got == (want if isinstance(want, int) else sizes.setdefault(want, got)) for got, want in known)


def _shown(spec: Any) -> str:
    shape = "of unknown rank" if spec.shape.rank is None else _dims(["?" if n is None else n for n in spec.shape], {})
    return f"{spec.dtype.name} {shape}"


def _dims(shape: Any, sizes: Mapping[str, int]) -> str:
    return "(" + ",".join(str(sizes.get(size, size)) for size in shape) + ")"

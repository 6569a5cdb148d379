"""A text encoder that looks words up in a lab's own table: a file of embeddings, made by any model anywhere.

`NAME.npy` (K,D) with its words beside it, `NAME.txt` (one a line) or `NAME.json` (a list), in the order of the rows; or
`NAME.safetensors` with a tensor `embeddings` and the words as a JSON list in the metadata `words`. Knows no model, no
image and no torch; pickled objects are never read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from storage.errors import NotFound, SpecInvalid, StoreCorrupt, UnknownClass
from workers.encoders.file_digests import digest_of_files

TENSOR = "embeddings"
"""Name of the tensor in a `.safetensors` table; its metadata holds the words under `words`."""

_SUFFIXES = (".npy", ".safetensors")
_SIDECARS = (".txt", ".json")
_DTYPES = ("F16", "F32", "F64")


class FileTableEncoder:
    """Embeddings of the words of a table; implements `TextEncoder`.

    Args:
        path: the `.npy` or `.safetensors` file, float16, 32 or 64; rows are brought to unit norm. A path without
            either ending takes the one of the two that exists.

    Raises:
        NotFound: no such file, or a `.npy` without its words.
        SpecInvalid: two files that the path may mean; words both as `.txt` and as `.json`.
        StoreCorrupt: a file that cannot be read, another shape than (K,D), rows that are zero or not finite, another
            number of words than rows, empty or repeated words.
    """

    def __init__(self, path: Path) -> None:
        path = _table(path)
        self._files = _files(path)
        embeddings, words = _read_npy(path, self._files) if path.suffix == ".npy" else _read_safetensors(path)
        self._row = _rows(words, path.name)
        self._table = _unit(embeddings, words, path.name)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._table.shape[1])

    @property
    def about(self) -> dict[str, Any]:
        """What to record beside embeddings: the table's digest and how its rows are read."""
        return {
            "text_encoder": "table",
            "weights": digest_of_files(self._files),
            "prompts": [],
            "pooling": "rows of the table, unit norm",
            "dimension": self.dimension,
        }

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(K,D) float32 of unit norm, a row a text in the order given.

        Raises:
            UnknownClass: a text that the table does not hold, with the nearest that it does.
        """
        for text in texts:
            if text not in self._row:
                raise UnknownClass.among("class name", text, self._row)
        rows = np.array([self._row[text] for text in texts], np.int64)
        embedded: NDArray[np.float32] = self._table[rows]
        return embedded


def weights_digest(path: Path) -> str:
    """A digest of the table and of its words; loads no torch.

    Raises:
        NotFound: no such file, or a `.npy` without its words.
        SpecInvalid: two files that the path may mean; words both as `.txt` and as `.json`.
    """
    return digest_of_files(_files(_table(path)))


def _table(path: Path) -> Path:
    """The file of the table, its ending found where the path has none."""
    if path.suffix in _SUFFIXES:
        found = [path] if path.is_file() else []
    else:
        found = [file for file in (path.with_name(path.name + suffix) for suffix in _SUFFIXES) if file.is_file()]
    if len(found) > 1:
        raise SpecInvalid(f"got the table {path.name!r}, which may be {' or '.join(f.name for f in found)}; name one")
    if not found:
        names = path.name if path.suffix in _SUFFIXES else " or ".join(path.name + suffix for suffix in _SUFFIXES)
        raise NotFound(f"no file {names} in the folder {path.parent}; put the table of text embeddings there")
    return found[0]


def _files(path: Path) -> dict[str, Path]:
    """Suffix -> file, of what makes the table: the name of a table enters no digest."""
    if path.suffix == ".safetensors":
        return {path.suffix: path}
    sidecars = [path.with_suffix(suffix) for suffix in _SIDECARS if path.with_suffix(suffix).is_file()]
    if len(sidecars) > 1:
        raise SpecInvalid(f"the table {path.name} has its words twice, as .txt and as .json; keep one of them")
    if not sidecars:
        raise NotFound(
            f"the table {path.name} has no words: put {path.stem}.txt (one a line) or {path.stem}.json (a list) beside "
            "it, in the order of the rows"
        )
    return {path.suffix: path, sidecars[0].suffix: sidecars[0]}


def _read_npy(path: Path, files: dict[str, Path]) -> tuple[NDArray[Any], list[str]]:
    """The array and its words, not yet checked against each other."""
    try:
        with path.open("rb") as stream:
            # never a pickle, and never an .npz under another name, which np.load would also take
            embeddings = np.lib.format.read_array(stream, allow_pickle=False)
            surplus = len(stream.read(1))
    except (OSError, ValueError, EOFError, TypeError, SyntaxError) as error:
        raise StoreCorrupt(f"the table {path.name} is no whole .npy file of numbers: {error}; write it anew") from error
    if surplus:
        raise StoreCorrupt(f"the table {path.name} goes on after its array; write it anew with one `numpy.save`")
    sidecar = next(file for suffix, file in files.items() if suffix in _SIDECARS)
    try:
        text = sidecar.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoreCorrupt(f"the words {sidecar.name} are not UTF-8: {error}; save them anew") from error
    if sidecar.suffix == ".json":
        return embeddings, _word_list(text, sidecar.name)
    # not splitlines(), which also splits at marks that a word may hold; read_text has made every line end a "\n"
    return embeddings, text.removesuffix("\n").split("\n")


def _read_safetensors(path: Path) -> tuple[NDArray[Any], list[str]]:
    """The tensor and its words, not yet checked against each other."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            if TENSOR not in names or "words" not in metadata:
                raise StoreCorrupt(
                    f"the table {path.name} has the tensors {names} and the metadata {sorted(metadata)}, expected a "
                    f"tensor {TENSOR!r} and the metadata 'words', a JSON list"
                )
            dtype = file.get_slice(TENSOR).get_dtype()
            if dtype not in _DTYPES:
                raise StoreCorrupt(f"the table {path.name} is of type {dtype}, expected one of {', '.join(_DTYPES)}")
            embeddings: NDArray[Any] = file.get_tensor(TENSOR)
    except (safetensors.SafetensorError, OSError) as error:
        raise StoreCorrupt(f"the table {path.name} is no whole safetensors file: {error}; write it anew") from error
    return embeddings, _word_list(metadata["words"], path.name)


def _word_list(text: str, name: str) -> list[str]:
    """The words of a JSON list."""
    try:
        words = json.loads(text)
    except ValueError as error:
        raise StoreCorrupt(f"the words in {name} are no JSON: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise StoreCorrupt(f"the words in {name} are not a JSON list of strings")
    return words


def _rows(words: list[str], name: str) -> dict[str, int]:
    """Word -> row.

    Raises:
        StoreCorrupt: a word that is empty, has spaces around it or comes twice.
    """
    rows: dict[str, int] = {}
    for row, word in enumerate(words):
        if not word or word != word.strip():
            raise StoreCorrupt(f"word {row} of the table {name} is {word!r}, expected text without spaces around it")
        if word in rows:
            raise StoreCorrupt(f"the table {name} has the word {word!r} twice, in rows {rows[word]} and {row}")
        rows[word] = row
    return rows


def _unit(embeddings: NDArray[Any], words: list[str], name: str) -> NDArray[np.float32]:
    """(K,D) float32 of unit norm.

    Raises:
        StoreCorrupt: not floats of shape (K,D), another number of words, a row that is zero or not finite.
    """
    if embeddings.dtype.kind != "f" or embeddings.ndim != 2 or 0 in embeddings.shape:
        raise StoreCorrupt(
            f"the table {name} holds {embeddings.dtype} of shape {embeddings.shape}, expected floats of shape "
            "(words, dimension)"
        )
    if len(words) != len(embeddings):
        raise StoreCorrupt(f"the table {name} has {len(embeddings)} rows and {len(words)} words, expected as many")
    largest = np.abs(embeddings.astype(np.float64)).max(axis=1, keepdims=True)
    for row in np.flatnonzero(~np.isfinite(largest[:, 0]) | (largest[:, 0] == 0)):
        what = "zero" if largest[row, 0] == 0 else "not finite"
        raise StoreCorrupt(f"row {row} of the table {name}, of the word {words[row]!r}, is {what}; make it anew")
    scaled = embeddings.astype(np.float64) / largest
    unit: NDArray[np.float32] = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
    return unit

"""Tables that a lab brings: the conformance suite in each form, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from storage.errors import NotFound, SpecInvalid, StoreCorrupt, UnknownClass, VlglabError
from storage.words import known_words
from tests.conformance.encoder import ClosedVocabularyConformance
from workers.encoders import weights
from workers.encoders.encoder import TextEncoder
from workers.encoders.file_table import FileTableEncoder, weights_digest

ROOT = Path(__file__).resolve().parents[3]
WORDS = ["wall", "shower curtain", "café"]
ROWS = np.array([[3, 4, 0], [0, 0, -2], [1e-3, 0, 0]], np.float32)
UNIT = np.array([[0.6, 0.8, 0], [0, 0, -1], [1, 0, 0]])


def write(path: Path, rows: NDArray[np.generic], words: object, sidecar: str = ".txt") -> Path:
    """A table in the form that `path` says."""
    if path.suffix == ".safetensors":
        save_file({"embeddings": rows}, path, {"words": json.dumps(words)})
        return path
    np.save(path, rows)
    beside = path.with_suffix(sidecar)
    if sidecar == ".json":
        beside.write_text(json.dumps(words), encoding="utf-8")
    else:
        beside.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")  # type: ignore[attr-defined]
    return path


class TestFileTableEncoder(ClosedVocabularyConformance):
    @pytest.fixture(params=["npy+txt", "npy+json", "safetensors"])
    def encoder(self, request: pytest.FixtureRequest, tmp_path: Path) -> TextEncoder:
        suffix, _, sidecar = request.param.partition("+")
        # the words in another order than the shipped table has them, and rows of any length
        order = np.random.default_rng(0).permutation(len(known_words()))
        rows = load_file(weights.WORDS)["embeddings"].astype(np.float32)[order]
        rows *= np.random.default_rng(1).uniform(0.1, 10, (len(rows), 1)).astype(np.float32)
        words = [known_words()[i] for i in order]
        return FileTableEncoder(write(tmp_path / f"table.{suffix}", rows, words, f".{sidecar}"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_rows_are_found_by_word_and_brought_to_unit_norm(tmp_path: Path, dtype: str) -> None:
    encoder = FileTableEncoder(write(tmp_path / "t.npy", ROWS.astype(dtype), WORDS))
    assert encoder.dimension == 3
    assert np.allclose(encoder.embed_texts(WORDS), UNIT, atol=1e-7)
    assert np.allclose(encoder.embed_texts(["café", "wall"]), UNIT[[2, 0]], atol=1e-7)


@pytest.mark.parametrize("largest", [1e-300, 1e300], ids=["tiny", "huge"])
def test_rows_of_any_finite_length_are_normalised(tmp_path: Path, largest: float) -> None:
    rows = np.array([[largest, 0], [largest, largest]])
    embedded = FileTableEncoder(write(tmp_path / "t.npy", rows, ["a", "b"])).embed_texts(["a", "b"])
    assert np.allclose(embedded, [[1, 0], [0.5**0.5, 0.5**0.5]], atol=1e-7)


def test_words_may_have_a_byte_order_mark_windows_line_ends_and_no_last_one(tmp_path: Path) -> None:
    path = write(tmp_path / "t.npy", ROWS, WORDS)
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(WORDS).encode())
    assert np.allclose(FileTableEncoder(path).embed_texts(WORDS), UNIT, atol=1e-7)


def test_fortran_order_is_the_same_table(tmp_path: Path) -> None:
    one = FileTableEncoder(write(tmp_path / "a.npy", np.asfortranarray(ROWS), WORDS)).embed_texts(WORDS)
    assert np.array_equal(one, FileTableEncoder(write(tmp_path / "b.npy", ROWS, WORDS)).embed_texts(WORDS))


def test_a_row_that_is_changed_by_the_caller_changes_nothing(tmp_path: Path) -> None:
    encoder = FileTableEncoder(write(tmp_path / "t.npy", ROWS, WORDS))
    encoder.embed_texts(["wall"])[:] = 7
    assert np.allclose(encoder.embed_texts(["wall"]), [[0.6, 0.8, 0]])


def test_an_unknown_word_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownClass, match=r"'curtain'.*shower curtain"):
        FileTableEncoder(write(tmp_path / "t.npy", ROWS, WORDS)).embed_texts(["wall", "curtain"])


@pytest.mark.parametrize(
    ("rows", "words", "error"),
    [
        (ROWS, WORDS[:2], "3 rows and 2 words"),
        (ROWS, [*WORDS, "bed"], "3 rows and 4 words"),
        (ROWS, ["wall", "bed", "wall"], "'wall' twice, in rows 0 and 2"),
        (ROWS, ["wall", "", "bed"], "word 1 .* is ''"),
        (ROWS, ["wall", " bed", "door"], "spaces around"),
        (ROWS * [[1], [0], [1]], WORDS, "row 1 .*'shower curtain', is zero"),
        (ROWS * [[1], [1], [np.nan]], WORDS, "row 2 .*'café', is not finite"),
        (np.array([[1, np.inf], [np.inf, -np.inf], [0, 1]]), WORDS, "row 0 .* is not finite"),
        (ROWS.astype(np.int32), WORDS, r"int32 of shape \(3, 3\), expected floats"),
        (ROWS.astype(np.complex64), WORDS, "complex64 of shape"),
        (ROWS[0], WORDS, r"shape \(3,\), expected floats of shape \(words, dimension\)"),
        (ROWS[None], WORDS, r"shape \(1, 3, 3\)"),
        (ROWS[:0], [], r"shape \(0, 3\)"),
        (ROWS[:, :0], WORDS, r"shape \(3, 0\)"),
    ],
)
def test_a_bad_npy_table_is_refused(tmp_path: Path, rows: NDArray[np.generic], words: list[str], error: str) -> None:
    path = write(tmp_path / "t.npy", rows, words, ".json")
    with pytest.raises(StoreCorrupt, match=error) as caught:
        FileTableEncoder(path)
    assert "t.npy" in caught.value.message


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "run"),)

    objects = np.empty((1, 1), object)
    objects[0, 0] = Payload()
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Payload()))
    for name in ("objects", "bare"):
        (tmp_path / f"{name}.txt").write_text("wall\n")
        with pytest.raises(StoreCorrupt, match="no whole .npy file of numbers"):
            FileTableEncoder(tmp_path / f"{name}.npy")
    assert not (tmp_path / "run").exists()


def test_files_cut_at_any_place_are_refused(tmp_path: Path) -> None:
    for path in (write(tmp_path / "t.npy", ROWS, WORDS), write(tmp_path / "t.safetensors", ROWS, WORDS)):
        whole = path.read_bytes()
        for length in (0, 4, 12, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(StoreCorrupt, match=f"{path.name} is no whole"):
                FileTableEncoder(path)
        path.write_bytes(whole + b"x")
        with pytest.raises(StoreCorrupt, match=path.name):
            FileTableEncoder(path)


def test_an_npz_under_the_name_of_an_npy_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "t.npy").open("wb") as stream:
        np.savez(stream, ROWS)
    (tmp_path / "t.txt").write_text("\n".join(WORDS))
    with pytest.raises(StoreCorrupt, match="no whole .npy"):
        FileTableEncoder(tmp_path / "t.npy")


@pytest.mark.parametrize(
    ("tensors", "metadata", "error"),
    [
        ({"rows": ROWS}, {"words": json.dumps(WORDS)}, r"the tensors \['rows'\].*'embeddings'"),
        ({"embeddings": ROWS}, {"made_by": "us"}, r"metadata \['made_by'\].*'words', a JSON list"),
        ({"embeddings": ROWS}, None, "'words', a JSON list"),
        ({"embeddings": ROWS}, {"words": "wall, bed"}, "are no JSON"),
        ({"embeddings": ROWS}, {"words": json.dumps({"wall": 0})}, "not a JSON list of strings"),
        ({"embeddings": ROWS}, {"words": json.dumps(["wall", 1, 2])}, "not a JSON list of strings"),
        ({"embeddings": ROWS.astype(np.int64)}, {"words": json.dumps(WORDS)}, "of type I64, expected one of F16"),
    ],
)
def test_a_bad_safetensors_table_is_refused(
    tmp_path: Path, tensors: dict[str, NDArray[np.generic]], metadata: dict[str, str] | None, error: str
) -> None:
    save_file(tensors, tmp_path / "t.safetensors", metadata)
    with pytest.raises(StoreCorrupt, match=error):
        FileTableEncoder(tmp_path / "t.safetensors")


def test_words_that_are_not_utf8_or_no_list_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", ROWS)
    (tmp_path / "t.txt").write_bytes("wall\nshower curtain\ncafé\n".encode("latin-1"))
    with pytest.raises(StoreCorrupt, match=r"t\.txt are not UTF-8"):
        FileTableEncoder(tmp_path / "t.npy")
    (tmp_path / "t.txt").rename(tmp_path / "t.json")
    (tmp_path / "t.json").write_text("wall")
    with pytest.raises(StoreCorrupt, match=r"t\.json are no JSON"):
        FileTableEncoder(tmp_path / "t.npy")


def refused(path: Path) -> VlglabError:
    """The error of a path, which reading and digest raise alike."""
    with pytest.raises((NotFound, SpecInvalid)) as caught:
        FileTableEncoder(path)
    with pytest.raises(type(caught.value)) as of_digest:
        weights_digest(path)
    assert str(of_digest.value) == str(caught.value)
    error: VlglabError = caught.value
    return error


def test_missing_and_ambiguous_files_are_named(tmp_path: Path) -> None:
    assert "no file t.npy or t.safetensors" in refused(tmp_path / "t").message
    assert "no file t.npy in" in refused(tmp_path / "t.npy").message
    path = write(tmp_path / "t.npy", ROWS, WORDS)
    assert np.allclose(FileTableEncoder(tmp_path / "t").embed_texts(WORDS), UNIT, atol=1e-7)
    assert weights_digest(tmp_path / "t") == weights_digest(path)
    write(path, ROWS, WORDS, ".json")
    assert "twice, as .txt and as .json" in refused(path).message
    for sidecar in (".txt", ".json"):
        path.with_suffix(sidecar).unlink()
    error = refused(path)
    assert isinstance(error, NotFound)
    assert "put t.txt (one a line) or t.json (a list) beside it" in error.message
    write(tmp_path / "t.safetensors", ROWS, WORDS)
    assert "t.npy or t.safetensors; name one" in refused(tmp_path / "t").message


def test_the_digest_follows_content_and_words_and_not_the_name(tmp_path: Path) -> None:
    one = weights_digest(write(tmp_path / "a.npy", ROWS, WORDS))
    assert len(one) == 32
    assert one == weights_digest(write(tmp_path / "b.npy", ROWS, WORDS))
    assert one == FileTableEncoder(tmp_path / "b.npy").about["weights"]
    others = [
        weights_digest(write(tmp_path / "c.npy", ROWS + 1, WORDS)),
        weights_digest(write(tmp_path / "d.npy", ROWS, WORDS[::-1])),
        weights_digest(write(tmp_path / "e.safetensors", ROWS, WORDS)),
        weights_digest(write(tmp_path / "f.safetensors", ROWS, WORDS[::-1])),
    ]
    assert len({one, *others}) == 5


def test_neither_digest_nor_table_loads_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "t.safetensors", ROWS, WORDS)
    code = (
        "import sys; from pathlib import Path; from workers.encoders import file_table as t; p = Path(sys.argv[1]); "
        "t.weights_digest(p); t.FileTableEncoder(p).embed_texts(['wall']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stdout + done.stderr

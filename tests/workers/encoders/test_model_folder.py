"""Folders of language models: which files count, what they digest to, and every way in which one can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import NotFound, SpecInvalid, StoreCorrupt, VlglabError
from workers.encoders.model_folder import open_folder

FILES = {
    "config.json": '{"model_type": "bert"}',
    "model.safetensors": "weights",
    "vocab.txt": "[PAD]\n",
    "tokenizer_config.json": "{}",
}


def write(folder: Path, **changed: str | None) -> Path:
    """A folder with FILES; `changed` maps a name, its dots written __, to other content or to none."""
    folder.mkdir(exist_ok=True)
    for name, content in (FILES | {name.replace("__", "."): content for name, content in changed.items()}).items():
        if content is not None:
            (folder / name).write_text(content)
    return folder


def test_the_digest_follows_the_files_that_count_and_no_others(tmp_path: Path) -> None:
    one = open_folder(write(tmp_path / "one"), ["bert"]).digest()
    assert len(one) == 32
    write(tmp_path / "other", README__md="read me", pytorch_model__bin="the same, pickled", optimizer__pt="spent")
    assert open_folder(tmp_path / "other", ["bert"]).digest() == one
    digests = {one}
    for name, content in FILES.items():
        folder = write(tmp_path / f"changed {name}")
        (folder / name).write_text(content + " ")
        digests.add(open_folder(folder, ["bert"]).digest())
    for number, name in enumerate(("tokenizer.json", "special_tokens_map.json", "added_tokens.json")):
        digests.add(open_folder(write(tmp_path / f"more {number}", **{name: "{}"}), ["bert"]).digest())
    # the same bytes under another name are another model
    digests.add(open_folder(write(tmp_path / "named", vocab__txt=None, tokenizer__json="[PAD]\n"), ["bert"]).digest())
    assert len(digests) == 1 + len(FILES) + 3 + 1


def test_weights_may_be_split_or_pickled(tmp_path: Path) -> None:
    index = json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    )
    split = write(tmp_path / "split", model__safetensors=None)
    (split / "model.safetensors.index.json").write_text(index)
    for name in ("model-1.safetensors", "model-2.safetensors"):
        with pytest.raises(NotFound, match=f"names '{name}', which is no file"):
            open_folder(split, ["bert"])
        (split / name).write_text(name)
    opened = open_folder(split, ["bert"])
    assert opened.weights == ("model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors")
    before = opened.digest()
    (split / "model-2.safetensors").write_text("other")
    assert opened.digest() != before
    pickled = write(tmp_path / "pickled", model__safetensors=None, pytorch_model__bin="weights")
    assert open_folder(pickled, ["bert"]).weights == ("pytorch_model.bin",)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/hostname", "..", ""])
def test_an_index_leads_nowhere_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.safetensors").write_text("secret")
    folder = write(tmp_path / "model", model__safetensors=None)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(NotFound, match="which is no file of the folder"):
        open_folder(folder, ["bert"])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "none", NotFound, "none does not exist; expected a folder with config.json"),
        (lambda p: write(p / "m") / "config.json", NotFound, "config.json is no folder"),
        (lambda p: write(p / "m", config__json=None), NotFound, "the folder m has no config.json"),
        (lambda p: write(p / "m", config__json='{"model_type": '), StoreCorrupt, "config.json in .* m is no JSON"),
        (lambda p: write(p / "m", config__json="[]"), StoreCorrupt, "does not hold an object"),
        (lambda p: write(p / "m", config__json="{}"), SpecInvalid, "of type None, expected one of: bert"),
        (lambda p: write(p / "m", config__json='{"model_type": ["bert"]}'), SpecInvalid, r"of type \['bert'\]"),
        (lambda p: write(p / "m", model__safetensors=None), NotFound, "none of model.safetensors, .*pytorch_model.bin"),
        (
            lambda p: write(p / "m", vocab__txt=None),
            NotFound,
            "no tokenizer: expected tokenizer.json, or vocab.json and",
        ),
        (lambda p: write(p / "m", vocab__txt=None, vocab__json="{}"), NotFound, "no tokenizer"),
        (
            lambda p: write(p / "m", model__safetensors=None, **{"model.safetensors.index.json": "{}"}),
            StoreCorrupt,
            "has no weight_map",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], error: type[VlglabError], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_folder(make(tmp_path), ["bert"])


def test_a_file_that_is_gone_when_it_is_digested_is_named(tmp_path: Path) -> None:
    opened = open_folder(write(tmp_path / "m"), ["bert"])
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(StoreCorrupt, match=r"model.safetensors cannot be read \(No such file"):
        opened.digest()

"""What a spec's encoder is chosen and keyed by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from storage.errors import NotFound
from storage.specs.parts import Encoder, TextEncoder
from workers.encoders import choose, weights

ROOT = Path(__file__).resolve().parents[3]
NOWHERE = Path("no-such-folder")
"""The mini encoder ships its weights: the operator's folder does not matter to it."""


def test_image_and_text_encoder_share_a_space() -> None:
    image, text = choose.image_encoder(Encoder(), NOWHERE, threads=1), choose.text_encoder(TextEncoder(), NOWHERE)
    assert image.dimension == text.dimension == text.embed_texts(["wall"]).shape[1]
    assert "stand-in" in image.title


def test_digests_tell_image_and_text_apart_and_stay() -> None:
    one, other = choose.weights_digest(Encoder(), NOWHERE), choose.text_digest(TextEncoder(), NOWHERE)
    assert one != other
    assert (one, other) == (choose.weights_digest(Encoder(), NOWHERE), choose.text_digest(TextEncoder(), NOWHERE))


def test_digests_follow_the_content_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = choose.weights_digest(Encoder(), NOWHERE), choose.text_digest(TextEncoder(), NOWHERE)
    for name in ("NETWORK", "WORDS"):
        copy = tmp_path / getattr(weights, name).name
        copy.write_bytes(getattr(weights, name).read_bytes() + b" ")
        monkeypatch.setattr(weights, name, copy)
    monkeypatch.setattr(weights, "FROZEN", tmp_path / "digests.json")
    weights.record_digests()
    assert set(json.loads(weights.FROZEN.read_text())) == {"mini.safetensors", "words.safetensors"}
    after = choose.weights_digest(Encoder(), NOWHERE), choose.text_digest(TextEncoder(), NOWHERE)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_digests_load_no_torch() -> None:
    code = (
        "import sys; from workers.encoders import choose; from storage.specs.parts import Encoder, TextEncoder; "
        "from pathlib import Path; choose.weights_digest(Encoder(), Path()); "
        "choose.text_digest(TextEncoder(), Path()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_a_lab_s_own_table_takes_the_place_of_the_shipped_one_by_two_fields(tmp_path: Path) -> None:
    rows = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    np.save(tmp_path / "ours.npy", rows)
    (tmp_path / "ours.txt").write_text("wall\nrobot arm\n")
    spec = TextEncoder(name="table", weights="ours.npy")
    encoder = choose.text_encoder(spec, tmp_path)
    assert encoder.embed_texts(["robot arm", "wall"]).tolist() == pytest.approx(np.array([[0, 1], [0.6, 0.8]]))
    before = choose.text_digest(spec, tmp_path)
    np.save(tmp_path / "ours.npy", rows[:, ::-1])
    assert choose.text_digest(spec, tmp_path) != before


@pytest.mark.parametrize("name", ["clip", "sentence", "table"])
def test_weights_that_are_not_there_are_named(tmp_path: Path, name: str) -> None:
    spec = TextEncoder.model_validate({"name": name, "weights": "vit-l"})
    for call in (choose.text_encoder, choose.text_digest):
        with pytest.raises(NotFound, match="vit-l"):
            call(spec, tmp_path)
    with pytest.raises(NotFound, match="openseg"):
        choose.weights_digest(Encoder(name="openseg"), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "clip", "weights": "../secrets"},
        {"name": "clip", "weights": "/etc"},
        {"name": "clip", "prompts": ["a photo"]},
        {"name": "mini", "prompts": ["a {}"]},
        {"name": "mini", "weights": "x"},
        {"name": "clip", "prompts": []},
    ],
)
def test_a_spec_names_no_path_and_only_what_its_encoder_has(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TextEncoder.model_validate(wrong)

"""What a spec's encoder is chosen and keyed by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from storage.specs.parts import Encoder
from workers.encoders import choose, weights

ROOT = Path(__file__).resolve().parents[3]


def test_image_and_text_encoder_share_a_space() -> None:
    image, text = choose.image_encoder(Encoder(), threads=1), choose.text_encoder(Encoder())
    assert image.dimension == text.dimension == text.embed_texts(["wall"]).shape[1]
    assert "stand-in" in image.title


def test_digests_tell_image_and_text_apart_and_stay() -> None:
    one, other = choose.weights_digest(Encoder()), choose.text_digest(Encoder())
    assert one != other
    assert (one, other) == (choose.weights_digest(Encoder()), choose.text_digest(Encoder()))


def test_digests_follow_the_content_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = choose.weights_digest(Encoder()), choose.text_digest(Encoder())
    for name in ("NETWORK", "WORDS"):
        copy = tmp_path / getattr(weights, name).name
        copy.write_bytes(getattr(weights, name).read_bytes() + b" ")
        monkeypatch.setattr(weights, name, copy)
    monkeypatch.setattr(weights, "FROZEN", tmp_path / "digests.json")
    weights.record_digests()
    assert set(json.loads(weights.FROZEN.read_text())) == {"mini.safetensors", "words.safetensors"}
    after = choose.weights_digest(Encoder()), choose.text_digest(Encoder())
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_digests_load_no_torch() -> None:
    code = (
        "import sys; from workers.encoders import choose; from storage.specs.parts import Encoder; "
        "choose.weights_digest(Encoder()); choose.text_digest(Encoder()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stdout + done.stderr

"""Secrets that are stored nowhere, and the key that they come from."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from service.webhooks import signing
from storage.errors import InvalidInput


def test_the_key_is_made_once_for_this_user_s_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "webhook.key"
    assert signing.known_key(path) is None
    keys: list[signing.SigningKey] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        keys.append(signing.key_of(path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8 and len(set(keys)) == 1
    assert signing.known_key(path) == keys[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["webhook.key"]


def test_a_secret_needs_both_halves(tmp_path: Path) -> None:
    one, other = signing.key_of(tmp_path / "a"), signing.key_of(tmp_path / "b")
    salt = signing.new_salt()
    assert one.secret(salt) == signing.key_of(tmp_path / "a").secret(salt)
    assert len({one.secret(salt), other.secret(salt), one.secret(signing.new_salt())}) == 3
    assert one.id != other.id
    assert one.id not in one.content.hex() and one.content.hex() not in one.secret(salt)


@pytest.mark.parametrize("content", ["", "no key", "ab" * 31, "\u00e4"])
def test_a_file_without_a_key_is_refused_and_left(tmp_path: Path, content: str) -> None:
    path = tmp_path / "webhook.key"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="VLGLAB_WEBHOOK_KEY"):
        signing.key_of(path)
    assert path.read_text() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be"):
        signing.key_of(tmp_path / "file" / "webhook.key")

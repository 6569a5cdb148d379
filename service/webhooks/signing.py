"""How a webhook's messages are signed, so that a receiver can tell that this lab sent them. Knows no database.

A webhook's secret is not stored anywhere. It is derived from two halves: a salt in the webhook's row, and a key in a
file that only the control planes read (VLGLAB_WEBHOOK_KEY, made at its first use). Who copies the database, its export
or a backup can sign nothing; who loses the file must remove the webhooks and add them again.

Signatures are those of Standard Webhooks 1.0 (standardwebhooks.com), which has libraries in most languages:
`webhook-signature: v1,BASE64(HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"))`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from storage.errors import InvalidInput

PREFIX = "whsec_"
"""How every secret begins; the rest is base64 of 32 bytes."""

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The control planes' half of every secret."""

    content: bytes

    @property
    def id(self) -> str:
        """Names the key without telling it."""
        return hmac.new(self.content, b"vlglab webhook key", hashlib.sha256).hexdigest()[:16]

    def secret(self, salt: str) -> str:
        """The secret of the webhook with this salt, as its receiver was shown it."""
        return PREFIX + base64.b64encode(hmac.new(self.content, salt.encode(), hashlib.sha256).digest()).decode()


def new_salt() -> str:
    """The other half of a new webhook's secret."""
    return secrets.token_hex(16)


def signature(secret: str, message_id: str, timestamp: int, body: str) -> str:
    """The header `webhook-signature` of a message.

    Args:
        secret: `whsec_` and base64.
        message_id: the header `webhook-id`.
        timestamp: the header `webhook-timestamp`, seconds since 1970.
        body: the body, exactly as it is sent.

    Examples:
        >>> signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
        ...           '{"test": 2432232314}')
        'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def known_key(path: Path) -> SigningKey | None:
    """The key in a file; None where there is none yet.

    Raises:
        InvalidInput: the file cannot be read, or holds no key.
    """
    try:
        content = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"got VLGLAB_WEBHOOK_KEY={str(path)!r}, which cannot be read ({error})") from error
    try:
        key = bytes.fromhex(content)
    except ValueError:
        key = b""
    if len(key) < _KEY_BYTES:
        raise InvalidInput(
            f"got VLGLAB_WEBHOOK_KEY={str(path)!r}, which holds no key (64 hexadecimal digits); restore it from a"
            " backup, or remove it, and the webhooks that it signed for"
        )
    return SigningKey(key)


def key_of(path: Path) -> SigningKey:
    """The key in a file, made where there is none; of several processes that make it at once, all get the same.

    Raises:
        InvalidInput: the file can be neither read nor made, or holds no key.
    """
    found = known_key(path)
    if found is not None:
        return found
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    except OSError as error:
        raise InvalidInput(f"got VLGLAB_WEBHOOK_KEY={str(path)!r}, which cannot be made ({error})") from error
    finally:
        draft.unlink(missing_ok=True)
    made = known_key(path)
    assert made is not None
    return made

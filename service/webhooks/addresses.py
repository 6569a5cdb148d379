"""Which addresses webhooks may have: what VLGLAB_WEBHOOK_HOSTS allows (`storage.targets` says how)."""

from __future__ import annotations

from collections.abc import Sequence

from storage.targets import Allowed, Target, target_of


def allowed(patterns: Sequence[str]) -> Allowed:
    """What the setting's patterns allow.

    Raises:
        InvalidInput: a pattern with a scheme, a port or a path.
    """
    return Allowed(patterns, "VLGLAB_WEBHOOK_HOSTS", "a webhook")


def webhook_target(url: str) -> Target:
    """The parts of a webhook's address.

    Raises:
        InvalidInput: it is none of http or https, or carries a password or a fragment.
    """
    return target_of(url, "a webhook's", "https://hooks.example.org/vlglab")

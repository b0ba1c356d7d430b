"""Secrets among the client's settings: kept out of everything that people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = (
    "password",
    "passphrase",
    "secret",
    "key.pem",
    "credential",
    "jaas",
    "oauthbearer.config",
    "assertion.",
)
_SHORTEST = 4
"""Replacing a word that is shorter would garble the text more than it protects."""


def is_secret(key: str) -> bool:
    """Whether the value of this setting is nobody's business."""
    return any(word in key for word in _WORDS)


class Mask:
    """Replaces the secrets of one client in texts, wherever they come from."""

    def __init__(self, client: Mapping[str, Any]) -> None:
        found = {str(value) for key, value in client.items() if is_secret(key) and not callable(value)}
        # The longest first: one secret may be part of another.
        self._secrets = sorted((one for one in found if len(one) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

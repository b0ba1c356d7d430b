"""Signatures as bytes: strict decoding, comparison in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any, Literal

from dbos_events_webhooks import asymmetric

Algorithm = Literal[
    "hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512", "ed25519", "ecdsa-p256-sha256", "rsa-sha256"
]
Encoding = Literal["hex", "base64", "base64url"]

# The least and the most bytes of a signature. Those of ECDSA are DER, those of RSA as long as their key.
_SIZES: dict[Algorithm, tuple[int, int]] = {
    "hmac-sha1": (20, 20),
    "hmac-sha256": (32, 32),
    "hmac-sha384": (48, 48),
    "hmac-sha512": (64, 64),
    "ed25519": (64, 64),
    "ecdsa-p256-sha256": (8, 72),
    "rsa-sha256": (256, 1024),
}
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")


def is_hmac(algorithm: Algorithm) -> bool:
    """Whether both sides share the key."""
    return algorithm.startswith("hmac-")


def decode(text: str, encoding: Encoding, algorithm: Algorithm) -> bytes | None:
    """The bytes of a signature, or None when this is not the one way of writing a signature of this kind."""
    least, most = _SIZES[algorithm]
    if len(text) > 2 * most:
        return None
    if encoding == "hex":
        made = bytes.fromhex(text) if _HEX.fullmatch(text) else None
    else:
        made = _from_base64(text, _BASE64 if encoding == "base64" else _BASE64URL)
    if made is None or not least <= len(made) <= most or encode(made, encoding) != text:
        return None
    return made


def _from_base64(text: str, pattern: re.Pattern[str]) -> bytes | None:
    if not pattern.fullmatch(text):
        return None
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        return None


def encode(signature: bytes, encoding: Encoding) -> str:
    """The one way of writing it."""
    if encoding == "hex":
        return signature.hex()
    made = base64.b64encode(signature) if encoding == "base64" else base64.urlsafe_b64encode(signature)
    return made.decode()


def matches(algorithm: Algorithm, key: Any, signature: bytes, message: bytes) -> bool:
    """Whether the signature is the right one. For HMAC the time does not tell how much of it is."""
    if is_hmac(algorithm):
        return hmac.compare_digest(make(algorithm, key, message), signature)
    return asymmetric.verify(algorithm, key, signature, message)


def make(algorithm: Algorithm, key: Any, message: bytes) -> bytes:
    """A signature with the shared, or the private, key."""
    if is_hmac(algorithm):
        return hmac.digest(key, message, algorithm.removeprefix("hmac-"))
    return asymmetric.sign(algorithm, key, message)


def same(given: bytes, expected: bytes) -> bool:
    """Whether two secrets are equal, in a time that tells nothing, their lengths neither."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())

"""Keys as providers hand them out. A key that cannot be one is refused when the program starts, with a hint."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Literal

from dbos_events.errors import ConfigurationError
from dbos_events_webhooks import asymmetric

KeyForm = Literal["text", "stripe", "basic", "whsec", "whpk", "ed25519-hex", "p256-spki", "rsa"]

SHARED_FORMS: tuple[KeyForm, ...] = ("text", "stripe", "basic", "whsec")
"""Secrets that both sides have, so that they sign too."""
MIN_WHSEC_BYTES = 16
MAX_KEY_CHARACTERS = 8192
ED25519_BYTES = 32
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def parse_key(value: str | bytes, form: KeyForm) -> Any:
    """The key in the form that its algorithm takes.

    Raises:
        ConfigurationError: It is empty, or is not a key of this form. The message does not show it.
    """
    text = _text(value)
    return _PARSERS[form](value if isinstance(value, bytes) and form == "text" else text)


def _text(value: str | bytes) -> str:
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if not text.strip():
        raise ConfigurationError(
            "The webhook secret is empty. Without one, everybody could send events. Is the environment "
            "variable set that it comes from?"
        )
    if len(text) > MAX_KEY_CHARACTERS:
        raise ConfigurationError(f"The webhook secret has {len(text)} characters. It is something else.")
    if isinstance(value, str) and text != text.strip() and not text.lstrip().startswith("-----BEGIN"):
        raise ConfigurationError(
            "The webhook secret begins or ends with white space, as a line read from a file does. "
            "Use strip(); if the space is meant, give the secret as bytes."
        )
    return text


def _utf8(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    for mark, what in (
        ("v1,whsec_", "is pasted with its version"),
        ("whpk_", "is a public key"),
        ("whsk_", "is a private key"),
    ):
        if value.startswith(mark):
            raise ConfigurationError(f"The webhook secret {what} ({mark}...). This provider takes another.")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError("The webhook secret is not text: it has a lone surrogate.") from None


def _stripe(text: str) -> bytes:
    if text.startswith(("sk_", "pk_", "rk_")):
        raise ConfigurationError(
            f"This is an API key of Stripe ({text[:3]}...), not the secret of an endpoint. That one begins "
            "with whsec_; the dashboard shows it with the endpoint, `stripe listen` when it starts."
        )
    return _utf8(text)


def _basic(text: str) -> bytes:
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise ConfigurationError("Credentials for basic authentication are `user:password`, both not empty.")
    return base64.b64encode(_utf8(text))


def _whsec(text: str) -> bytes:
    if text.startswith("v1,"):
        raise ConfigurationError(
            "The webhook secret is pasted with its version in front (v1,...). Leave `v1,` out."
        )
    if text.startswith(("whpk_", "whsk_")):
        raise ConfigurationError(
            f"{text[:5]}... is a key of the Ed25519 scheme. Give whpk_... as public_key=, not as secret=."
        )
    key = _decoded(text.removeprefix("whsec_"), "The webhook secret is not base64 after whsec_")
    if len(key) < MIN_WHSEC_BYTES:
        raise ConfigurationError(
            f"The webhook secret has {len(key)} bytes; those of Standard Webhooks have 24 to 64. It was cut off."
        )
    return key


def _whpk(text: str) -> Any:
    if text.startswith("whsk_"):
        raise ConfigurationError("whsk_... is the sender's private key. Give the public one, whpk_...")
    key = _decoded(text.removeprefix("whpk_"), "The public key is not base64 after whpk_")
    return asymmetric.ed25519_public(key)


def _ed25519_hex(text: str) -> Any:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ConfigurationError("The public key is 64 hexadecimal digits, as the developer portal shows it.")
    return asymmetric.ed25519_public(bytes.fromhex(text))


def _p256(text: str) -> Any:
    if text.lstrip().startswith("-----BEGIN"):
        return asymmetric.p256_public(text.encode())
    return asymmetric.p256_public(_decoded(text, "The public key is neither PEM nor base64"))


def _rsa(text: str) -> Any:
    return asymmetric.rsa_public(text.encode())


def _decoded(text: str, problem: str) -> bytes:
    """Base64, with or without its padding."""
    bare = text.rstrip("=")
    if not _BASE64.fullmatch(text) or len(bare) % 4 == 1:
        raise ConfigurationError(f"{problem}. Copy it again.")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise ConfigurationError(f"{problem}. Copy it again.") from None


_PARSERS: dict[KeyForm, Callable[[Any], Any]] = {
    "text": _utf8,
    "stripe": _stripe,
    "basic": _basic,
    "whsec": _whsec,
    "whpk": _whpk,
    "ed25519-hex": _ed25519_hex,
    "p256-spki": _p256,
    "rsa": _rsa,
}


def parse_signing_key(value: str | bytes, form: KeyForm) -> Any:
    """The key that a test event is signed with: for HMAC the secret itself, else the private key."""
    if form in SHARED_FORMS:
        return parse_key(value, form)
    text = _text(value)
    if text.lstrip().startswith("-----BEGIN"):
        return asymmetric.private_key(text.encode())
    if form == "ed25519-hex" and re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return asymmetric.ed25519_private(bytes.fromhex(text))
    if form == "whpk" and text.startswith("whsk_"):
        seed = _decoded(text.removeprefix("whsk_"), "The private key is not base64 after whsk_")
        return asymmetric.ed25519_private(seed[:ED25519_BYTES])
    raise ConfigurationError(
        "The signing key is a private key: PEM, 64 hexadecimal digits for Discord, or whsk_... for Standard Webhooks."
    )


def generate_keys(form: KeyForm) -> tuple[str, str]:
    """A new private key and its public one, as text, to sign and verify test events with.

    Raises:
        ConfigurationError: Keys of this form are secrets that both sides share.
    """
    if form == "whpk":
        seed, public = asymmetric.new_ed25519()
        return f"whsk_{base64.b64encode(seed).decode()}", f"whpk_{base64.b64encode(public).decode()}"
    if form == "ed25519-hex":
        seed, public = asymmetric.new_ed25519()
        return seed.hex(), public.hex()
    if form == "p256-spki":
        pem, der = asymmetric.new_p256()
        return pem.decode(), base64.b64encode(der).decode()
    raise ConfigurationError(f"A key of the form {form!r} is a secret of both sides; make one up.")

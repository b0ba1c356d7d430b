"""Ed25519, P-256, RSA and certificates, by `cryptography`, which is imported when the first such key is read."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from dbos_events.errors import ConfigurationError

MIN_RSA_BITS = 2048


@cache
def _cryptography() -> Any:
    try:
        from cryptography import exceptions, x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    except ImportError:
        raise ConfigurationError(
            "Signatures of this provider need the package cryptography: pip install 'dbos-events[webhooks]'."
        ) from None
    return _Modules(exceptions, x509, hashes, serialization, ec, ed25519, padding, rsa)


class _Modules:
    def __init__(self, *modules: Any) -> None:
        self.exceptions, self.x509, self.hashes, self.serialization, *kinds = modules
        self.ec, self.ed25519, self.padding, self.rsa = kinds


def ed25519_public(raw: bytes) -> Any:
    """A public key from its 32 bytes."""
    try:
        return _cryptography().ed25519.Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise ConfigurationError(f"An Ed25519 key has 32 bytes, and this one has {len(raw)}.") from None


def ed25519_private(seed: bytes) -> Any:
    """A private key from its seed of 32 bytes."""
    try:
        return _cryptography().ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    except ValueError:
        raise ConfigurationError(f"An Ed25519 seed has 32 bytes, and this one has {len(seed)}.") from None


def p256_public(data: bytes) -> Any:
    """A public key on P-256, from PEM or DER."""
    modules = _cryptography()
    key = _loaded(modules, data)
    if not (
        isinstance(key, modules.ec.EllipticCurvePublicKey) and isinstance(key.curve, modules.ec.SECP256R1)
    ):
        raise ConfigurationError("The public key is not an ECDSA key on the curve P-256.")
    forms = modules.serialization
    usual = key.public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
    if not data.lstrip().startswith(b"-----BEGIN") and data != usual:
        raise ConfigurationError(
            "The public key is damaged: it is not written as such a key is. Copy it again."
        )
    return key


def rsa_public(data: bytes) -> Any:
    """An RSA public key of at least 2048 bits, from PEM or DER."""
    modules = _cryptography()
    key = _loaded(modules, data)
    if not isinstance(key, modules.rsa.RSAPublicKey) or key.key_size < MIN_RSA_BITS:
        raise ConfigurationError(f"The public key is not an RSA key of at least {MIN_RSA_BITS} bits.")
    return key


def _loaded(modules: Any, data: bytes) -> Any:
    pem = data.lstrip().startswith(b"-----BEGIN")
    load = modules.serialization.load_pem_public_key if pem else modules.serialization.load_der_public_key
    try:
        return load(data)
    except (ValueError, modules.exceptions.UnsupportedAlgorithm):
        raise ConfigurationError("The public key cannot be read. Copy it again, whole.") from None


def private_key(pem: bytes) -> Any:
    """A private key from PEM, without a password."""
    modules = _cryptography()
    try:
        return modules.serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, modules.exceptions.UnsupportedAlgorithm):
        raise ConfigurationError(
            "The private key cannot be read: PEM without a password is needed."
        ) from None


def verify(algorithm: str, key: Any, signature: bytes, message: bytes) -> bool:
    """Whether the signature is one of this key over this message."""
    modules = _cryptography()
    try:
        if algorithm == "ed25519":
            key.verify(signature, message)
        elif algorithm == "ecdsa-p256-sha256":
            key.verify(signature, message, modules.ec.ECDSA(modules.hashes.SHA256()))
        else:
            key.verify(signature, message, modules.padding.PKCS1v15(), modules.hashes.SHA256())
    except modules.exceptions.InvalidSignature:
        return False
    return True


def sign(algorithm: str, key: Any, message: bytes) -> bytes:
    """A signature with a private key.

    Raises:
        ConfigurationError: The key is of another kind.
    """
    modules = _cryptography()
    kinds = {
        "ed25519": (modules.ed25519.Ed25519PrivateKey, ()),
        "ecdsa-p256-sha256": (
            modules.ec.EllipticCurvePrivateKey,
            (modules.ec.ECDSA(modules.hashes.SHA256()),),
        ),
        "rsa-sha256": (modules.rsa.RSAPrivateKey, (modules.padding.PKCS1v15(), modules.hashes.SHA256())),
    }
    kind, how = kinds[algorithm]
    if not isinstance(key, kind):
        raise ConfigurationError(f"The signing key is not a private key for {algorithm}.")
    made: bytes = key.sign(message, *how)
    return made


def new_ed25519() -> tuple[bytes, bytes]:
    """A new seed and its public key."""
    key = _cryptography().ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def new_p256() -> tuple[bytes, bytes]:
    """A new private key as PEM and its public key as DER."""
    modules = _cryptography()
    key = modules.ec.generate_private_key(modules.ec.SECP256R1())
    forms = modules.serialization
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    public = key.public_key().public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
    return private, public


class Untrusted(Exception):
    """The certificate is not one of the expected owner, or not at this time."""


def system_roots() -> bytes:
    """The certificates of the authorities that this machine trusts.

    Raises:
        ConfigurationError: The machine has no file of them.
    """
    file: str | None = ssl.get_default_verify_paths().cafile  # typeshed says it is always there
    if not file or not Path(file).is_file():
        raise ConfigurationError(
            "This machine has no file of trusted certificate authorities. Give roots=, a PEM file's bytes."
        )
    return Path(file).read_bytes()


def roots_store(pem: bytes) -> Any:
    """The authorities in a PEM file, as what a chain may end at.

    Raises:
        ConfigurationError: It holds none.
    """
    modules = _cryptography()
    from cryptography.x509 import verification

    try:
        return verification.Store(modules.x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise ConfigurationError("roots= holds no certificate authority as PEM.") from None


def certified_rsa(pem: bytes, store: Any, owner: str, now_ms: int) -> tuple[Any, int]:
    """The RSA key of a certificate that an authority gave to a host under `owner`, and until when it is valid.

    Raises:
        Untrusted: It is not one, is not valid now, or no authority in the store vouches for it.
    """
    modules = _cryptography()
    from cryptography.x509 import verification

    try:
        leaf, *others = modules.x509.load_pem_x509_certificates(pem)
        names = leaf.extensions.get_extension_for_class(modules.x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(modules.x509.DNSName)
        # One that is not under the owner stands for none, so that the check of the name fails.
        host = next((host for host in hosts if host.lower().endswith(f".{owner}")), f"none.{owner}")
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        builder = verification.PolicyBuilder().store(store).time(now)
        builder.build_server_verifier(modules.x509.DNSName(host)).verify(leaf, others)
        key = leaf.public_key()
    except Exception as error:  # what is wrong with a certificate has many names there
        raise Untrusted(f"The certificate is not to be trusted ({type(error).__name__}).") from error
    if not isinstance(key, modules.rsa.RSAPublicKey) or key.key_size < MIN_RSA_BITS:
        raise Untrusted(f"The certificate has no RSA key of at least {MIN_RSA_BITS} bits.")
    return key, int(leaf.not_valid_after_utc.timestamp() * 1000)

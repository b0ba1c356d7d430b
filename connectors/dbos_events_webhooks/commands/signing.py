"""From a provider's name and a secret to a provider that signs, or verifies."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dbos_events.errors import ConfigurationError
from dbos_events_webhooks.changes import changed_scheme
from dbos_events_webhooks.provider import Provider
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.rows import ROWS, Row
from dbos_events_webhooks.secret import NoSecret, key_source
from dbos_events_webhooks.signature import SignatureScheme

SAMPLE = {
    "twilio": b"MessageSid=SM00000000000000000000000000000001&MessageStatus=delivered",
    "sendgrid": b'[{"sg_event_id":"test","event":"delivered","timestamp":1700000000}]',
}


def row_of(name: str, url: str | None = None) -> Row:
    """The row of a provider; one that signs its URL signs this one.

    Raises:
        ConfigurationError: There is no such provider, or it signs a URL and none is given.
    """
    row = ROWS.get(name.replace("-", "_"))
    if row is None or name in ("custom", "unverified"):
        known = ", ".join(sorted(ROWS.keys() - {"custom", "unverified"}))
        raise ConfigurationError(f"There is no provider {name!r} that signs. These do: {known}.")
    scheme = row.scheme
    if isinstance(scheme, SignatureScheme) and any(part.kind == "url" for part in scheme.parts):
        if not url:
            raise ConfigurationError(
                f"{row.title} signs the URL that it calls. Say it with --url https://host/path."
            )
        split = url_of("--url", url)
        return changed_scheme(row, public_url=f"{split.scheme}://{split.netloc}{split.path}")
    return row


def url_of(option: str, url: str) -> SplitResult:
    """The parts of the URL that an option says.

    Raises:
        ConfigurationError: It is no URL of HTTP, or has characters that a URL does not have.
    """
    try:
        split = urlsplit(url)
        host, _ = split.hostname, split.port
    except ValueError:
        host = None
    if (
        not host
        or split.scheme not in ("http", "https")
        or not (url.isascii() and url.isprintable())
        or " " in url
    ):
        raise ConfigurationError(f"{option} is a URL, as http://localhost:8000/stripe, and this is {url!r}.")
    return split


def signed_request(
    row: Row,
    body: bytes,
    *,
    secret: str | None,
    id: str | None,  # noqa: A002 - the event's
    type: str | None,  # noqa: A002 - the event's
    headers: list[tuple[str, str]],
    path: str = "/",
    query: str = "",
) -> WebhookRequest:
    """A request as this provider sends it.

    Raises:
        ConfigurationError: The secret is missing, or none of this provider.
    """
    if secret is None:
        raise ConfigurationError(
            f"{row.title}: say the secret with --secret, or by the variable WEBHOOK_SECRET."
        )
    return Provider(row, NoSecret()).sign(
        body, id=id, type=type, headers=headers, path=path, query=query, signing_key=secret
    )


def verifier(row: Row, secret: str | None) -> Provider:
    """A provider that judges with this secret.

    Raises:
        ConfigurationError: The secret is missing, or none of this provider.
    """
    if secret is None:
        raise ConfigurationError(
            f"{row.title}: say the secret with --secret, or by the variable WEBHOOK_SECRET."
        )
    return Provider(row, key_source(secret, row.scheme.key_form))


def body_of(file: Path | None, data: str | None, provider: str) -> bytes:
    """The body that options say, or a small sample.

    Raises:
        ConfigurationError: Both are given, or the file cannot be read.
    """
    if file is not None and data is not None:
        raise ConfigurationError("Say the body with --body or with --data, not with both.")
    if data is not None:
        return data.encode("utf-8", "surrogateescape")  # the bytes that stood on the command line
    if file is None:
        sample = {"id": "evt_test", "type": "test", "event_id": "evt_test"}
        return SAMPLE.get(provider, json.dumps(sample).encode())
    return read(file)


def read(file: Path) -> bytes:
    """The bytes of a file; `-` is standard input.

    Raises:
        ConfigurationError: It cannot be read.
    """
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from error


def header_pairs(lines: list[str] | None) -> list[tuple[str, str]]:
    """Headers as they are written: `Name: value`.

    Raises:
        ConfigurationError: A line has no colon, or characters that no header can have.
    """
    pairs = []
    for line in lines or ():
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ConfigurationError(f"A header is 'Name: value', and this is {line!r}.")
        if not (name.strip().isascii() and name.isprintable()) or any(
            sign in value.strip() for sign in "\r\n\0"
        ):
            raise ConfigurationError(
                f"A header has no line breaks, and a name in ASCII, and this is {line!r}."
            )
        pairs.append((name.strip().lower(), value.strip()))
    return pairs

"""What is signed, as a line of data: `{id}.{timestamp}.{body}`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass
from dbos_events_webhooks.outcome import Reason, refuse

_TOKEN = re.compile(r"\{(\w+)(?::([\w-]+))?\}")
TOKENS = ("body", "id", "timestamp", "url", "form", "crc32", "method", "header", "constant")
_FREE = ("id", "header", "timestamp")
"""Tokens that the sender fills in as it likes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes as they are, or the `kind` of a token; `name` is that of a header or a constant."""

    text: bytes = b""
    kind: str = ""
    name: str = ""


def parse_template(template: str) -> tuple[Part, ...]:
    """The parts of a template.

    Raises:
        ConfigurationError: It names an unknown token, does not hold the body, or two different requests could
            have the same signed bytes.
    """
    parts: list[Part] = []
    end = 0
    for match in _TOKEN.finditer(template):
        if match.start() > end:
            parts.append(Part(text=template[end : match.start()].encode()))
        if match[1] not in TOKENS or (match[2] is not None) != (match[1] in ("header", "constant")):
            raise ConfigurationError(
                f"The signed content {template!r} has {match[0]}. It may have {{body}}, {{id}}, {{timestamp}}, {{url}}, "
                "{form}, {crc32}, {method}, {header:name} and {constant:name}."
            )
        parts.append(Part(kind=match[1], name=(match[2] or "").lower()))
        end = match.end()
    if end < len(template):
        parts.append(Part(text=template[end:].encode()))
    if not {part.kind for part in parts} & {"body", "form", "crc32"}:
        raise ConfigurationError(f"The signed content {template!r} does not hold the body. Add {{body}}.")
    for part, following in pairwise(parts):
        if part.kind in ("id", "header") and following.kind:
            raise ConfigurationError(
                f"In the signed content {template!r}, nothing stands between {{{part.kind}}} and what follows, so "
                "that a piece of one could be moved into the other."
            )
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Filling:
    """What the tokens of one request stand for."""

    body: bytes
    values: Mapping[str, bytes]
    headers: Mapping[str, bytes]
    constants: Mapping[str, str]


def render(parts: Sequence[Part], filling: Filling) -> bytes:
    """The signed bytes. The sender's own values may not hold the text that ends them."""
    made: list[bytes] = []
    for index, part in enumerate(parts):
        value = _value(part, filling)
        if part.kind in _FREE:
            following = parts[index + 1].text if index + 1 < len(parts) else b""
            if following and following in value:
                raise refuse(
                    Reason.MALFORMED_HEADER,
                    f"The value of {{{part.kind}}} holds {following!r}, which ends it.",
                )
        made.append(value)
    return b"".join(made)


def _value(part: Part, filling: Filling) -> bytes:
    if part.kind == "":
        return part.text
    if part.kind == "body":
        return filling.body
    if part.kind == "crc32":
        return str(zlib.crc32(filling.body)).encode()
    if part.kind == "constant":
        return filling.constants[part.name].encode()
    return filling.headers[part.name] if part.kind == "header" else filling.values[part.kind]

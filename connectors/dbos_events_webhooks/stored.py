"""How an event of a request is kept, and read again: its bytes, its headers, and one header of ours with the rest.

A name of ours begins with a colon, as no name of an HTTP header can.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from dbos_events.connect import PushedEvent
from dbos_events_webhooks.content import Content
from dbos_events_webhooks.event import WebhookEvent
from dbos_events_webhooks.outcome import VerifiedEvent
from dbos_events_webhooks.payload import media_kind
from dbos_events_webhooks.places import moment
from dbos_events_webhooks.request import WebhookRequest

ABOUT = ":event"
MAX_KEPT_VALUE = 4096
MAX_KEPT_BYTES = 16 * 1024
MAX_CONTEXT = 64 * 1024
_COMPACT = json.JSONEncoder(separators=(",", ":")).encode
_SECRET_WORDS = ("auth", "cookie", "token", "secret", "signature", "hmac", "api-key", "apikey", "password")
_SELDOM = frozenset(
    {"connection", "content-encoding", "content-length", "expect", "transfer-encoding", "te", "keep-alive"}
)

Pairs = tuple[tuple[str, bytes], ...]


def kept_headers(request: WebhookRequest, secret: Iterable[str]) -> Pairs:
    """The headers that are stored: none that prove anything or could be used again, and no more than 16 KiB."""
    left_out = {*secret, *_SELDOM}
    kept: list[tuple[str, bytes]] = []
    size = 0
    for name, value in request.headers:
        if name in left_out or not _may_be_kept(name):
            continue
        size += len(name) + len(value)
        if len(value) > MAX_KEPT_VALUE or size > MAX_KEPT_BYTES or b"\0" in value:
            continue
        kept.append((name, value))
    return tuple(kept)


@lru_cache(maxsize=256)
def _may_be_kept(name: str) -> bool:
    return name.isprintable() and not any(word in name for word in _SECRET_WORDS)


def about(
    event: VerifiedEvent,
    *,
    endpoint: str,
    provider: str,
    path_params: Mapping[str, str],
    form: str,
) -> bytes:
    """What is kept beside bytes and headers, as JSON in ASCII."""
    occurred = None if event.occurred_at is None else round(event.occurred_at.timestamp() * 1000)
    said: dict[str, Any] = {
        "id": event.id,
        "type": event.type,
        "endpoint": endpoint,
        "provider": provider,
        "params": dict(path_params),
        "form": form,
        "occurred": occurred,
        "trusted": [event.id_trusted, event.type_trusted],
        "attributes": event.attributes,
        "problem": event.problem,
    }
    if event.context and len(_COMPACT(event.context)) <= MAX_CONTEXT:
        said["context"] = event.context
    return _COMPACT({key: value for key, value in said.items() if value}).encode()


def form_of(event: VerifiedEvent, request: WebhookRequest, usual: Any, form_json: str | None) -> str:
    """How the bytes of an event are read again: `json`, `form`, `form:FIELD`, `other` or `envelope`."""
    if event.raw is not request.body:
        return "envelope" if event.attributes else "json"
    kind = media_kind(request.one("content-type"), usual) or "other"
    return f"form:{form_json}" if kind == "form" and form_json else kind


class WebhookMessages:
    """What the core asks of webhook events: how they are made of what is stored, and decoded."""

    form = WebhookEvent
    reads_values = True
    """`data` is read from the bytes by itself: bytes that are asked for have to be put in, as any other value."""

    def of(self, event: PushedEvent, workflow_id: str, /) -> WebhookEvent[Any]:
        """What a handler gets."""
        said: dict[str, Any] = {}
        headers: dict[str, str] = {}
        for name, value in event.headers:
            if name == ABOUT:
                said = json.loads(value or b"{}")
            else:
                headers[name] = (value or b"").decode("latin-1")
        id_trusted, type_trusted = said.get("trusted", (False, False))
        name = said.get("id", event.event_id)
        content = Content(
            event.payload, said.get("form", "other"), f"webhook event {name}", said.get("problem")
        )
        return WebhookEvent(
            id=name,
            type=said.get("type"),
            content=content,
            endpoint=said.get("endpoint", ""),
            provider=said.get("provider", ""),
            path_params=said.get("params", {}),
            headers=headers,
            received_at=datetime.fromtimestamp(event.received_at / 1000, UTC),
            occurred_at=moment(said.get("occurred")),
            attempt=_attempt(headers),
            id_trusted=id_trusted,
            type_trusted=type_trusted,
            context=tuple(said.get("context", ())),
            attributes=said.get("attributes", {}),
            workflow_id=workflow_id,
        )

    def value(self, message: WebhookEvent[Any], /) -> bytes:
        """The bytes that a model is validated from."""
        return message.content.json

    def with_value(self, message: WebhookEvent[Any], value: Any, /) -> WebhookEvent[Any]:
        return message.with_data(value)

    def place(self, message: WebhookEvent[Any], /) -> str:
        return f"webhook event {message.id} of {message.endpoint}"


def _attempt(headers: Mapping[str, str]) -> int | None:
    number = headers.get("x-slack-retry-num", "")
    return int(number) + 1 if number.isascii() and number.isdigit() and len(number) < 4 else None

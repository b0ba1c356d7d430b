"""CloudEvents over HTTP: binary, structured and batch, each as attributes and data."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from dbos_events.model.dataclass import dataclass, field
from dbos_events_webhooks.payload import Payload, TwiceNamed, Unreadable
from dbos_events_webhooks.request import WebhookRequest

VERSIONS = ("1.0", "0.3")
_PERCENT = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_ESCAPED = re.compile(r"\\(.)")
_NAME = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event; `envelope` is it as JSON holds it, or None where its attributes came as headers."""

    attributes: dict[str, Any]
    data: Any = None
    envelope: Any = field(default=None, repr=False)
    problem: str | None = None


def read_cloudevents(request: WebhookRequest, payload: Payload) -> list[CloudEvent]:
    """The events of a request; one that is not sound has a problem, and the others go on."""
    kind = (request.one("content-type") or "").partition(";")[0].strip().lower()
    if kind == "application/cloudevents+json":
        return [_enveloped(payload.value)]
    if kind == "application/cloudevents-batch+json":
        if not isinstance(payload.value, list):
            raise Unreadable("A batch of CloudEvents is a JSON array.")
        return [_enveloped(item) for item in payload.value]
    return [_in_headers(request, payload)]


def _enveloped(item: Any) -> CloudEvent:
    if not isinstance(item, dict):
        return CloudEvent({}, envelope=item, problem="A CloudEvent is a JSON object.")
    if isinstance(item, TwiceNamed):
        return CloudEvent({}, envelope=item, problem=f"The attribute {min(item.twice)[:64]!r} stands twice.")
    attributes = {key: value for key, value in item.items() if key not in ("data", "data_base64")}
    data = item.get("data")
    problem = _problem(attributes)
    if "data_base64" in item:
        try:
            data = base64.b64decode(item["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            problem = problem or "data_base64 is not base64."
    return CloudEvent(attributes, data, item, problem)


def _in_headers(request: WebhookRequest, payload: Payload) -> CloudEvent:
    attributes: dict[str, Any] = {}
    problem = None
    for name, _ in request.headers:
        if not name.startswith("ce-") or not _NAME.fullmatch(name[3:]):
            continue
        value = _decoded(request.one(name) or "")
        if value is None:
            problem = f"The header {name!r} is not UTF-8 in percent encoding."
        attributes[name[3:]] = value
    if "content-type" in (name for name, _ in request.headers):
        attributes["datacontenttype"] = request.one("content-type")
    return CloudEvent(attributes, payload.value, problem=problem or payload.problem or _problem(attributes))


def _decoded(value: str) -> str | None:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    if not _PERCENT.fullmatch(value):
        return None
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _problem(attributes: dict[str, Any]) -> str | None:
    for name in ("specversion", "id", "source", "type"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            return f"The CloudEvent has no attribute {name!r}."
    if attributes["specversion"] not in VERSIONS:
        return f"The CloudEvent has a specversion other than {' and '.join(VERSIONS)}."
    return None

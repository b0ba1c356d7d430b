"""From a verified request to its events: which they are, of what kind, since when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from dbos_events.model.dataclass import dataclass
from dbos_events_webhooks.cloudevents import CloudEvent, read_cloudevents
from dbos_events_webhooks.identity import DIGEST, canonical, digest, text_of, tidy
from dbos_events_webhooks.outcome import VerifiedEvent
from dbos_events_webhooks.payload import Payload, Unreadable
from dbos_events_webhooks.places import (
    MISSING,
    Body,
    BodyHash,
    FirstOf,
    Header,
    Place,
    elements,
    found,
    moment,
    time_ms,
)
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.schemes import Proof, Scheme

MAX_TYPE = 255

_COMPACT = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where a provider puts what is asked of every event.

    Args:
        key: What tells one event from all others; without one, or where it is missing, a digest does.
        type: The kind of event.
        time: When it happened.
        split: Lists whose items are events of their own.
        form_json: The field of a form that holds the content as JSON.
        cloudevents: Whether the request holds CloudEvents, in any of their modes.
        replay_guard: Whether an event whose key is not signed carries a digest of what is.
    """

    key: Place | None = None
    type: Place | None = None
    time: Place | None = None
    split: tuple[str, ...] = ()
    form_json: str | None = None
    cloudevents: bool = False
    replay_guard: bool = True

    def headers(self) -> Iterator[str]:
        """The headers that this looks at."""
        for place in (self.key, self.type, self.time):
            yield from _headers_of(place)


def _headers_of(place: Place | None) -> Iterator[str]:
    if isinstance(place, Header):
        yield place.name
    elif isinstance(place, FirstOf | tuple):
        for inner in place.places if isinstance(place, FirstOf) else place:
            yield from _headers_of(inner)


@dataclass(frozen=True, slots=True)
class Item:
    """One event before it has a name."""

    value: Any
    raw: bytes
    content: bytes
    context: tuple[Any, ...] = ()
    index: int | None = None
    attributes: dict[str, Any] | None = None
    problem: str | None = None
    in_headers: bool = False


class Reader:
    """Reads the events of one verified request."""

    def __init__(self, reading: Reading, scheme: Scheme, request: WebhookRequest, proof: Proof) -> None:
        self._reading = reading
        self._scheme = scheme
        self._request = request
        self._proof = proof
        self._digests: dict[str, int] = {}
        signed = proof.signed if reading.replay_guard else None
        self._guard = None if signed is None else digest(signed)

    def events(self, payload: Payload) -> tuple[VerifiedEvent, ...]:
        """The events in their order; content that cannot be read is one event with a problem."""
        try:
            return tuple(self._event(item) for item in self._items(payload))
        except Unreadable as error:
            problem = str(error)
        except RecursionError:
            problem = "The JSON is nested too deeply."
        self._digests.clear()
        return (self._event(self._whole(None, problem)),)

    def _items(self, payload: Payload) -> list[Item]:
        if self._reading.cloudevents and (payload.problem is None or not self._enveloped()):
            return [
                self._of_cloudevent(event, index)
                for index, event in enumerate(read_cloudevents(self._request, payload))
            ]
        if payload.problem is not None:
            return [self._whole(None, payload.problem)]
        if not self._reading.split:
            return [self._whole(payload.value)]
        parts = elements(payload.value, self._reading.split)
        if len(parts) == 1 and parts[0][0] is payload.value:
            return [self._whole(payload.value)]
        return [
            Item(value, _json(value), canonical([context, value]), context, index)
            for index, (value, context) in enumerate(parts)
        ]

    def _enveloped(self) -> bool:
        return (self._request.one("content-type") or "").strip().lower().startswith("application/cloudevents")

    def _whole(self, value: Any, problem: str | None = None) -> Item:
        content = self._request.body if self._proof.content is None else self._proof.content
        return Item(value, self._request.body, content, problem=problem)

    def _of_cloudevent(self, event: CloudEvent, index: int) -> Item:
        if event.envelope is None:
            content = canonical(event.attributes) + self._request.body
            raw = self._request.body
        else:
            content = canonical(event.envelope)
            raw = _json(event.envelope)
        return Item(
            event.data, raw, content, (), index, event.attributes, event.problem, event.envelope is None
        )

    def _event(self, item: Item) -> VerifiedEvent:
        problem = item.problem
        names: list[str] | None = None
        kind: Any = None
        when: datetime | None = None
        try:
            if problem is None:
                names = self._key(item)
                kind, when = self._type(item), self._time(item)
        except Unreadable as error:
            problem = str(error)
        fingerprint = digest(item.content)
        trusted = self._trusts(self._reading.key, item)
        # A name outside of the signature may also have been taken away.
        guard = None if trusted else self._guarded(item)
        if names is None:
            name, trusted = self._digest_id(fingerprint), self._scheme.signs_body()
        else:
            name = tidy(names)
        return VerifiedEvent(
            id=name,
            id_trusted=trusted,
            fingerprint=fingerprint,
            raw=item.raw,
            replay_guard=guard,
            type=_kind(kind),
            type_trusted=kind is not None and self._trusts(self._reading.type, item),
            occurred_at=when,
            value=item.value if problem is None else None,
            context=item.context,
            attributes=item.attributes or {},
            problem=problem,
        )

    def _guarded(self, item: Item) -> str | None:
        return self._guard if item.index is None or self._guard is None else f"{self._guard}/{item.index}"

    def _digest_id(self, fingerprint: str) -> str:
        """Equal items of one request are several events, in the same order when the request comes again."""
        seen = self._digests.get(fingerprint, 0)
        self._digests[fingerprint] = seen + 1
        return f"{DIGEST}{fingerprint}" + (f"#{seen + 1}" if seen else "")

    # ------------------------------------------------------------ places

    def _key(self, item: Item) -> list[str] | None:
        if self._reading.key is None and item.attributes is not None:
            return [str(item.attributes["source"]), str(item.attributes["id"])]
        names = _parts(self._value(self._reading.key, item))
        if names is not None and item.index is not None and any(_headers_of(self._reading.key)):
            names.append(str(item.index))
        return names

    def _type(self, item: Item) -> Any:
        if self._reading.type is None:
            return (item.attributes or {}).get("type")
        return self._value(self._reading.type, item)

    def _time(self, item: Item) -> datetime | None:
        place = self._reading.time
        if place is None:
            return moment(time_ms((item.attributes or {}).get("time"), "iso"))
        value = self._value(place, item)
        if isinstance(value, datetime):
            return value
        return moment(time_ms(value, _unit(place)))

    def _value(self, place: Place | None, item: Item) -> Any:
        """What stands at a place: a value, a list of values for several, or None."""
        if isinstance(place, Header):
            return self._request.one(self._scheme.named(self._request, place.name.lower())) or None
        if isinstance(place, Body):
            value = found(item.value, place)
            return None if value is MISSING or isinstance(value, (list, dict)) else value
        if isinstance(place, FirstOf):
            values = (self._value(inner, item) for inner in place.places)
            return next((value for value in values if _parts(value) is not None), None)
        if isinstance(place, tuple):
            several = [self._value(inner, item) for inner in place]
            return several if all(text_of(value) is not None for value in several) else None
        if place is None or isinstance(place, BodyHash):
            return None
        try:
            return place(item.value)
        except (Exception, SystemExit) as error:
            raise Unreadable(f"The function that names the event raised {type(error).__name__}.") from error

    def _trusts(self, place: Place | None, item: Item) -> bool:
        if place is None:
            return self._scheme.signs_body() and not item.in_headers
        if isinstance(place, Header):
            return self._scheme.signs_header(
                self._request, self._scheme.named(self._request, place.name.lower())
            )
        if isinstance(place, FirstOf | tuple):
            return all(
                self._trusts(inner, item) for inner in (place.places if isinstance(place, FirstOf) else place)
            )
        return isinstance(place, Body | BodyHash) and self._scheme.signs_body()


def _unit(place: Place) -> Any:
    if isinstance(place, FirstOf):
        return _unit(place.places[0])
    return place.unit if isinstance(place, Header | Body) else "ms"


def _parts(value: Any) -> list[str] | None:
    several = value if isinstance(value, (list, tuple)) else [value]
    texts = [text for one in several if (text := text_of(one)) is not None]
    return texts if texts and len(texts) == len(several) else None


def _kind(value: Any) -> str | None:
    """A type as people filter by it; what no database keeps as text is left out."""
    text = text_of(value)
    return text if text is not None and len(text) <= MAX_TYPE and text.isprintable() else None


def _json(value: Any) -> bytes:
    return _COMPACT(value).encode()

"""From the row of an event back to the message that its handler gets."""

from __future__ import annotations

from typing import Any

from dbos_events.connect.connector import PushConnector
from dbos_events.connect.inbox import PushedEvent
from dbos_events.connect.plugins import find_connector
from dbos_events.connect.source import Record
from dbos_events.errors import SerializationError
from dbos_events.model.message_type import MessageType
from dbos_events.serialization.headers import decode_headers
from dbos_events.storage.subjects.intakerows import StoredEvent


def message_of(event: StoredEvent, messages: MessageType | None) -> Any:
    """The message of a stored event.

    Args:
        event: Its row.
        messages: Those of the connector that its function handles events of; where it handles none any more, those of
            the connector that its consumer was registered with.

    Raises:
        SerializationError: Nothing says which connector it came through.
        ConnectorError: That connector is not installed.
    """
    if messages is None:
        if event.connector is None:
            raise SerializationError("Its function handles no events, and its consumer names no connector.")
        messages = find_connector(event.connector).messages
    make: Any = messages.of  # type: ignore[attr-defined] # each size of connector has its own
    if event.topic is None:
        return make(pushed_event(event), event.workflow_id)
    return make(event.topic, _record(event))


def is_pushed(connector: object) -> bool:
    """Whether events of the connector are pushed."""
    return isinstance(connector, PushConnector)


def pushed_event(event: StoredEvent) -> PushedEvent:
    """A pushed event as it was accepted; its fingerprint and its lane are known to their ids only, and left out."""
    return PushedEvent(
        consumer=event.consumer or "",
        event_id=(event.key or b"").decode("utf-8", "surrogatepass"),
        payload=event.value or b"",
        fingerprint=b"",
        received_at=event.timestamp,
        headers=tuple(decode_headers(event.headers) or ()),
        content_type=event.content_type,
    )


def _record(event: StoredEvent) -> Record:
    return Record(
        event.partition or 0,
        event.offset or 0,
        event.key,
        event.value,
        decode_headers(event.headers),
        event.timestamp_type,
        event.timestamp,
        event.leader_epoch,
        event.latency,
    )

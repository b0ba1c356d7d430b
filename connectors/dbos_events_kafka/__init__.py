"""Kafka as a source of events, on confluent-kafka.

The message that handlers annotate is there without the client: nothing else is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbos_events_kafka.plugin import connector as connector


def __getattr__(name: str) -> Any:
    if name != "connector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dbos_events_kafka.plugin import connector as found

    return found

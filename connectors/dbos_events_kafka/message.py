"""The message that a handler gets for a record, and how the core makes and reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from dbos_events.connect.source import Record
from dbos_events.model.dataclass import dataclass

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    V_co = TypeVar("V_co", covariant=True, default="bytes | str | None")
else:  # the default is for type checkers alone, and what knows of it takes 10 ms to import before Python 3.13
    import typing

    V_co = typing.TypeVar("V_co", covariant=True)


@dataclass(frozen=True, slots=True)
class KafkaMessage(Generic[V_co]):
    """One Kafka record, field for field what confluent-kafka delivers.

    `timestamp` is `(type, milliseconds)` as in confluent-kafka, type 0 when the record
    has none. `value` is None for a tombstone, which is not the same as `b""`.
    """

    headers: list[tuple[str, bytes | None]] | None
    key: bytes | str | None
    latency: float | None
    leader_epoch: int | None
    offset: int | None
    partition: int | None
    timestamp: tuple[int, int]
    topic: str | None
    value: V_co

    def __repr__(self) -> str:
        size = len(self.value) if isinstance(self.value, (bytes, str)) else 0
        return f"KafkaMessage({self.topic}/{self.partition}/{self.offset}, key={self.key!r}, {size} bytes)"


class KafkaMessages:
    """The messages of this connector, as the core asks for them."""

    form = KafkaMessage

    @staticmethod
    def of(topic: str, record: Record, /) -> KafkaMessage[bytes | None]:
        """The message of a record."""
        return KafkaMessage(
            None if record.headers is None else list(record.headers),
            record.key,
            record.latency,
            record.leader_epoch,
            record.offset,
            record.partition,
            (record.timestamp_type, record.timestamp),
            topic,
            record.value,
        )

    @staticmethod
    def value(message: KafkaMessage[Any], /) -> bytes | None:
        """The record's value as it was received."""
        found: bytes | None = message.value
        return found

    @staticmethod
    def with_value(message: KafkaMessage[Any], value: Any, /) -> KafkaMessage[Any]:
        """The message with its value decoded."""
        return KafkaMessage(
            message.headers,
            message.key,
            message.latency,
            message.leader_epoch,
            message.offset,
            message.partition,
            message.timestamp,
            message.topic,
            value,
        )

    @staticmethod
    def place(message: KafkaMessage[Any], /) -> str:
        """Where the record lies: `orders/0/17`, topic, partition and offset."""
        return f"{message.topic}/{message.partition}/{message.offset}"

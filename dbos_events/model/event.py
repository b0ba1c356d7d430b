"""Events as handlers see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol

from typing_extensions import TypeVar

V_co = TypeVar("V_co", covariant=True, default="bytes | str | None")

Ordering = Literal["none", "partition", "topic", "key"]
OnFailure = Literal["quarantine", "record"]
OnRegression = Literal["replay", "halt"]


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


class PayloadCodec(Protocol):
    """Makes a value of a record's bytes: `kafka_consumer(codec=...)`, for what is not JSON.

    Its `decode` gets the whole record, so that it can look at headers and topic. What it gives is
    checked against the handler's annotation. It runs whenever a run of the event starts, on the thread
    or loop that the handler runs on, several at once; it must give the same for the same record. What
    it raises puts the event into quarantine as undecodable. It is not asked about tombstones.
    """

    def decode(self, message: KafkaMessage[bytes], /) -> Any:
        """What the record's value means; `message.value` is never None."""
        ...


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and with what pauses, a failed handler is run again.

    Args:
        max_attempts: Attempts in all, the first one counted.
        interval_seconds: Pause before the second attempt.
        backoff_rate: Factor from each pause to the next.
        max_interval_seconds: The longest pause.
        jitter: Share of a pause that is drawn by chance, 0 to 1.
        retry_on: Error classes worth another attempt; all of `Exception` by default.

    Attempts multiply with those of the steps: a step with three attempts in a handler with three is
    called nine times.
    """

    max_attempts: int = 1
    interval_seconds: float = 1.0
    backoff_rate: float = 2.0
    max_interval_seconds: float = 3600.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)

    def delay_after(self, attempt: int, chance: float) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed; `chance` is drawn from 0 to 1.

        Jitter only shortens a pause, so that `max_interval_seconds` holds.
        """
        try:
            pause = min(self.interval_seconds * self.backoff_rate ** (attempt - 1), self.max_interval_seconds)
        except OverflowError:
            pause = self.max_interval_seconds
        return pause * (1 - self.jitter + self.jitter * chance)


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """What `DBOS.kafka_consumer` was asked for, checked, without the handler itself."""

    name: str
    topics: tuple[str, ...]
    config: dict[str, Any] = field(repr=False)  # it may hold passwords
    ordering: Ordering = "none"
    queue_name: str | None = None
    batch_size: int = 500
    max_in_flight: int = 1000
    on_failure: OnFailure = "quarantine"
    on_regression: OnRegression = "replay"
    retries: Retry | None = None
    ordering_key: Callable[[Any], Any] | None = None

"""Events as handlers see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from dbos_events.model.dataclass import dataclass, field

Ordering = Literal["none", "partition", "topic", "key"]
OnFailure = Literal["quarantine", "record"]
OnRegression = Literal["replay", "halt"]


class PayloadCodec(Protocol):
    """Makes a value of an event's bytes, for what is not JSON: the `codec` of a consumer.

    Its `decode` gets the whole message, so that it can look at headers and topic. What it gives is
    checked against the handler's annotation. It runs whenever a run of the event starts, on the thread
    or loop that the handler runs on, several at once; it must give the same for the same record. What
    it raises puts the event into quarantine as undecodable. It is not asked about tombstones.
    """

    def decode(self, message: Any, /) -> Any:
        """What the message's value means; it is never None."""
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
class Breaker:
    """When a consumer stops to take events in because its handler fails, and how it begins again.

    It opens on a share of failed events, or on many in sequence. While it is open nothing is taken in: the
    watermark stands, and the events stay where they are. After a pause one trial event is let in. If it ends
    well, the breaker closes; if it fails, the next pause is twice as long. An event counts once,
    by its last attempt, so one that fails again and again does not open it.

    Args:
        failure_share: Opens when so many of the recent events failed, above 0 and at most 1.
        min_events: Fewer recent events than this say nothing about the share.
        window_seconds: How long an event counts as recent (the last 1000 do at most).
        consecutive_failures: Opens, too, when so many events failed one after the other; None: never.
        open_seconds: The first pause, and how long a trial that does not begin to run is waited for.
        max_open_seconds: The longest pause.
    """

    failure_share: float = 0.5
    min_events: int = 20
    window_seconds: float = 60.0
    consecutive_failures: int | None = 20
    open_seconds: float = 30.0
    max_open_seconds: float = 600.0

    def problem(self) -> str | None:
        """What is wrong with the values; None when they can be used."""
        if not 0 < self.failure_share <= 1:
            return f"failure_share must be above 0 and at most 1, not {self.failure_share!r}"
        if not 1 <= self.min_events <= 1000:
            return f"min_events must be between 1 and 1000, not {self.min_events!r}"
        if self.consecutive_failures is not None and self.consecutive_failures < 1:
            return f"consecutive_failures must be at least 1, or None, not {self.consecutive_failures!r}"
        if min(self.window_seconds, self.open_seconds) <= 0:
            return "window_seconds and open_seconds must be above 0"
        if self.max_open_seconds < self.open_seconds:
            return "max_open_seconds must not be below open_seconds"
        return None


class HeldQuotas(NamedTuple):
    """Events that may wait behind others of their lane: in one lane, and in all of a consumer and a topic."""

    lane: int = 1_000_000
    consumer: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Placing:
    """Functions over a message that say where on the consumer's queue its event waits."""

    priority: Callable[[Any], Any] | None = None
    partition: Callable[[Any], Any] | None = None
    delay: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """What the declaration of a consumer of a log was asked for, checked, without the handler itself."""

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
    strict_key_order: bool = False
    breaker: Breaker | None = Breaker()
    publishes: Callable[[Any], tuple[Any, Any]] | None = None
    """Gives what is published of a message, and the value that it was asked with."""
    starts: bool = True
    """Whether records start workflows; otherwise they are only published."""
    placing: Placing | None = None


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """The event that a workflow was started by, as it was received; `timestamp` is milliseconds since 1970.

    One that was pushed has no topic, partition and offset; its `key` is its id.
    """

    topic: str | None
    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    timestamp: int

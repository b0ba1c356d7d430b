"""What a source is doing and what it waits for, for people and probes; each change is said once."""

from __future__ import annotations

import threading
import time

from confluent_kafka import KafkaError

from dbos_events.connect import Recurring, logger

_ADVICE = {
    KafkaError._ALL_BROKERS_DOWN: "no broker answers; check bootstrap.servers and the network",  # noqa: SLF001
    KafkaError._TRANSPORT: "a broker does not answer; check bootstrap.servers and the network",  # noqa: SLF001
    KafkaError._RESOLVE: "a broker's name cannot be resolved; check bootstrap.servers",  # noqa: SLF001
    KafkaError._AUTHENTICATION: "the broker refuses our credentials; check the sasl settings",  # noqa: SLF001
    KafkaError._SSL: "TLS with the broker fails; check the ssl settings",  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "no right to read the topic; grant Read and Describe on it",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "no right to use the group; grant Read on it",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "the topic does not exist; create it, reading begins by itself then",
}

_UNREACHABLE = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE)  # noqa: SLF001
"""What the client does not tell the end of, unless records arrive."""

FRESH_SECONDS = 60.0
STANDBY_SECONDS = 5.0
CONNECTING = "connecting"


class SourceState:
    """`detail` is what the source waits for, empty when nothing is wrong."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._trouble = Recurring()
        self._polled_at = self._began_at = time.monotonic()
        self.joined = False
        self.unreachable = False
        self.detail = CONNECTING

    def polled(self) -> None:
        """The poll loop is alive."""
        self._polled_at = time.monotonic()

    @property
    def is_polling(self) -> bool:
        return time.monotonic() - self._polled_at < FRESH_SECONDS

    @property
    def activity(self) -> str:
        """What the source does when nothing is wrong."""
        return "reading" if self.joined else CONNECTING

    def standing_by(self) -> None:
        """Nothing is assigned: with more members than partitions that is how it stays, and the client says nothing."""
        waited = time.monotonic() - self._began_at
        if not self.joined and self.detail in ("", CONNECTING) and waited >= STANDBY_SECONDS:
            self.joined = True
            self.well()

    def well(self) -> None:
        """Records or assignments arrive: whatever was wrong is mended."""
        if self.detail:
            self.detail, self.unreachable = "", False
            self._trouble.over("%s: reading again.", self._name)

    def error(self, error: KafkaError) -> None:
        """The client reports an error; it goes on by itself unless it is fatal."""
        self.unreachable = error.code() in _UNREACHABLE
        advice = _ADVICE.get(error.code())
        self.detail = f"{advice} ({error.str()})" if advice else error.str()
        self._trouble.say("%s: %s", self._name, self.detail)

    def trouble(self, text: str) -> None:
        """Something else stands in the way."""
        self.detail = text
        self._trouble.say("%s: %s", self._name, text)

    def say(self, message: str, *details: object) -> None:
        logger.info(f"%s: {message}", self._name, *details)

"""The client settings of one consumer: what users may set, and what the promises need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos_events.connect import Intake, logger
from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass, field
from dbos_events_kafka.masking import Mask, is_secret
from dbos_events_kafka.rules import CLASSIC_ONLY, STARTS, check_config, warnings_of

FORCED = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
}
"""Offsets are committed after the database has them, and positions come from the database. The end of a partition
is told, so that one that is read to its end is known from one that has gone silent."""

DEFAULTS: dict[str, Any] = {
    "client.id": "dbos-events",
    "partition.assignment.strategy": "cooperative-sticky",
    "check.crcs": True,
    # What waits in the client's memory is bounded; the rest stays with the broker.
    "queued.max.messages.kbytes": 16384,
    "queued.min.messages": 20000,
    "fetch.max.bytes": 4194304,
    # The client's own 1,000 ms make it read in fits and starts.
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 100,
    "topic.metadata.refresh.interval.ms": 60000,
    "socket.keepalive.enable": True,
    # The client begins anew with this pause each time that no broker is left, so it never grows beyond it.
    "reconnect.backoff.ms": 1000,
    "reconnect.backoff.max.ms": 5000,
}

CALLBACKS = ("error_cb", "stats_cb", "throttle_cb", "on_commit", "oauth_cb", "logger")
"""Called for the user beside our own."""

_SPELT_WITH_UNDERSCORES = {*CALLBACKS, "enabled_events", "log_level"}
_OF_ALL_CLIENTS = (
    *("bootstrap.", "metadata.broker.list", "security.", "ssl.", "sasl.", "enable.ssl.", "enable.sasl."),
    *("https.", "socket.", "client.", "broker.address", "connections.", "reconnect."),
)
_ENVELOPE_BYTES = 512
"""What the client wants an answer to be larger than the records in it."""


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """`client` goes to confluent-kafka as it is; `start` is where a topic without a watermark begins.

    `callbacks` are the user's, which are called beside ours; `mask` takes the client's secrets out of a text.
    """

    client: dict[str, Any] = field(repr=False)  # it may hold passwords
    group: str
    start: str
    callbacks: dict[str, Any] = field(default_factory=dict, repr=False)
    mask: Mask = field(default_factory=lambda: Mask({}), repr=False)

    @classmethod
    def merge(cls, intake: Intake, section: Mapping[str, Any]) -> ConsumerSettings:
        """The consumer's own config, over the environment and the file, over our defaults.

        Raises:
            ConfigurationError: No broker is named, or a value would break a promise.
        """
        name = intake.options.name
        given = {**_dotted(section), **_dotted(intake.options.config)}
        given = {**_dotted(given.pop("default.topic.config", {})), **given}
        check_config(given, name)
        if not (given.get("bootstrap.servers") or given.get("metadata.broker.list")):
            raise ConfigurationError(
                f"Consumer {name!r} names no broker. Give kafka_consumer a config with bootstrap.servers, or set "
                "DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS."
            )
        for warning in warnings_of(given):
            logger.warning("%s: %s.", name, warning)
        callbacks = {key: given.pop(key) for key in CALLBACKS if key in given}
        start = STARTS[str(given.pop("auto.offset.reset", "earliest")).lower()]
        client = {**DEFAULTS, **_in_line(given), **given, **FORCED}
        client["group.id"] = str(given.get("group.id") or intake.default_group)
        client.pop("auto.commit.enable", None)
        if _protocol(client) == "consumer":
            for key in CLASSIC_ONLY:  # the broker decides these in the new protocol
                client.pop(key, None)
        return cls(client, client["group.id"], start, callbacks, Mask(client))

    @property
    def cooperative(self) -> bool:
        """Whether assignments come as changes instead of as a whole."""
        strategy = str(self.client.get("partition.assignment.strategy", ""))
        return _protocol(self.client) == "consumer" or "cooperative" in strategy

    @property
    def uses_tokens(self) -> bool:
        """Whether clients log in with what `oauth_cb` gives; one that has no use for it would wait for it in vain."""
        mechanism = self.client.get("sasl.mechanism") or self.client.get("sasl.mechanisms") or ""
        method = str(self.client.get("sasl.oauthbearer.method", "default")).lower()
        protocol = str(self.client.get("security.protocol", "")).lower()
        return str(mechanism).upper() == "OAUTHBEARER" and method == "default" and protocol.startswith("sasl")

    @property
    def admin(self) -> dict[str, Any]:
        """Settings of an admin client for the same brokers."""
        return {key: value for key, value in self.client.items() if key.startswith(_OF_ALL_CLIENTS)}

    @property
    def principal(self) -> str:
        """Whom the broker takes us for, as far as the settings tell."""
        user = self.client.get("sasl.username")
        return f"the user {str(user)!r}" if user else "this client"

    def masked(self) -> dict[str, str]:
        """The settings for people to read, without secrets."""
        return {
            key: "***" if is_secret(key) else str(value)
            for key, value in sorted(self.client.items())
            if isinstance(value, (str, int, float))
        }


def _in_line(given: Mapping[str, Any]) -> dict[str, int]:
    """Those of our defaults which the client would refuse beside what the user named, changed to fit."""
    largest = _number(given.get("message.max.bytes")) or 0
    fetch = max(int(DEFAULTS["fetch.max.bytes"]), largest)
    answer = _number(given.get("receive.message.max.bytes"))
    if answer is not None and answer - _ENVELOPE_BYTES >= largest:
        fetch = min(fetch, answer - _ENVELOPE_BYTES)
    longest = _number(given.get("reconnect.backoff.max.ms"))
    pause = int(DEFAULTS["reconnect.backoff.ms"])
    return {
        "fetch.max.bytes": fetch,
        "reconnect.backoff.ms": pause if longest is None else min(pause, longest),
    }


def _number(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() else None


def _protocol(client: Mapping[str, Any]) -> str:
    return str(client.get("group.protocol", "")).lower()


def _dotted(section: Mapping[str, Any]) -> dict[str, Any]:
    """`bootstrap_servers`, as environment variables spell it, is `bootstrap.servers`."""
    return {_dotted_key(key): value for key, value in section.items()}


def _dotted_key(key: str) -> str:
    if "." in key or key.lower() in _SPELT_WITH_UNDERSCORES:
        return key
    return key.lower().replace("_", ".")


def dotted(section: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a section as the client spells them."""
    return _dotted(section)


def admin_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that an admin client takes, without callbacks."""
    return {
        key: value
        for key, value in settings.items()
        if key.startswith(_OF_ALL_CLIENTS) and not callable(value)
    }


def metadata_of(incarnation: int) -> str:
    """What our commits to Kafka are marked with: other tools commit for groups, too."""
    return f"dbos-events/{incarnation}"

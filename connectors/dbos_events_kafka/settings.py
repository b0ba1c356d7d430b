"""The client settings of one consumer: what users may set, and what the promises need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dbos_events.connect import Intake
from dbos_events.errors import ConfigurationError

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
    "reconnect.backoff.max.ms": 5000,
}

_STARTS = {
    "earliest": "earliest",
    "smallest": "earliest",
    "beginning": "earliest",
    "latest": "latest",
    "largest": "latest",
    "end": "latest",
}

_BREAKS_A_PROMISE = {
    "enable.auto.commit": "offsets are committed only after the database has the events",
    "enable.auto.offset.store": "offsets are stored only after the database has the events",
}

_CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")
_SECRETS = ("password", "secret", "oauth", "key.pem", "credential")


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """`client` goes to confluent-kafka as it is; `start` is where a topic without a watermark begins."""

    client: dict[str, Any] = field(repr=False)  # it may hold passwords
    group: str
    start: str

    @classmethod
    def merge(cls, intake: Intake, section: Mapping[str, Any]) -> ConsumerSettings:
        """The consumer's own config, over the environment and the file, over our defaults.

        Raises:
            ConfigurationError: No broker is named, or a value would break a promise.
        """
        name = intake.options.name
        given = {**_dotted(section), **_dotted(intake.options.config)}
        check_config(given, name)
        if not given.get("bootstrap.servers"):
            raise ConfigurationError(
                f"Consumer {name!r} names no broker. Give kafka_consumer a config with bootstrap.servers, or set "
                "DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS."
            )
        start = _STARTS[str(given.pop("auto.offset.reset", "earliest")).lower()]
        client = {**DEFAULTS, **given, **FORCED}
        client["group.id"] = str(given.get("group.id") or intake.default_group)
        if client.get("group.protocol") == "consumer":
            for key in _CLASSIC_ONLY:  # the broker decides these in the new protocol
                client.pop(key, None)
        return cls(client, client["group.id"], start)

    @property
    def cooperative(self) -> bool:
        """Whether assignments come as changes instead of as a whole."""
        strategy = str(self.client.get("partition.assignment.strategy", ""))
        return self.client.get("group.protocol") == "consumer" or "cooperative" in strategy

    @property
    def admin(self) -> dict[str, Any]:
        """Settings of an admin client for the same brokers."""
        prefixes = ("bootstrap.", "security.", "ssl.", "sasl.", "socket.", "client.", "broker.address", "log")
        return {key: value for key, value in self.client.items() if key.startswith(prefixes)}

    def masked(self) -> dict[str, str]:
        """The settings for people to read, without secrets."""
        return {
            key: "***" if any(word in key for word in _SECRETS) else str(value)
            for key, value in sorted(self.client.items())
            if not callable(value)
        }


def check_config(config: Mapping[str, Any], name: str) -> None:
    """Refuse what would break a promise.

    Raises:
        ConfigurationError: Names the key and the reason.
    """
    for key, reason in _BREAKS_A_PROMISE.items():
        if str(config.get(key, "false")).lower() not in ("false", "0"):
            raise ConfigurationError(
                f"Consumer {name!r}: {key} must stay off, because {reason}. Leave it out."
            )
    start = str(config.get("auto.offset.reset", "earliest")).lower()
    if start not in _STARTS:
        raise ConfigurationError(
            f"Consumer {name!r}: auto.offset.reset must be 'earliest' or 'latest', not {start!r}. It only says "
            "where a topic begins that this group has never read."
        )


def _dotted(section: Mapping[str, Any]) -> dict[str, Any]:
    """`bootstrap_servers`, as environment variables spell it, is `bootstrap.servers`."""
    return {key.lower().replace("_", ".") if "." not in key else key: value for key, value in section.items()}


def metadata_of(incarnation: int) -> str:
    """What our commits to Kafka are marked with: other tools commit for groups, too."""
    return f"dbos-events/{incarnation}"

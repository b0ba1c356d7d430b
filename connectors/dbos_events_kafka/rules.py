"""Which client settings are refused, because a promise would not hold, and which are worth a warning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos_events.errors import ConfigurationError

STARTS = {
    "earliest": "earliest",
    "smallest": "earliest",
    "beginning": "earliest",
    "latest": "latest",
    "largest": "latest",
    "end": "latest",
}
SHORTEST_POLL_INTERVAL_MS = 10_000
"""A revocation waits for the intake under way, up to five seconds, and the poll thread waits with it."""

_MUST_BE_OFF = {
    "enable.auto.commit": "offsets are committed only after the database has the events",
    "auto.commit.enable": "offsets are committed only after the database has the events",
    "enable.auto.offset.store": "offsets are stored only after the database has the events",
}
_MUST_BE_ABSENT = {
    "enabled_events": "it takes errors and rebalances away from the service",
    "test.mock.num.brokers": (
        "each client would make up a broker of its own. For a broker without a server, use "
        "dbos_events_kafka.testing.EmbeddedBroker and its bootstrap_servers"
    ),
}
_WITHOUT_EFFECT = {
    "auto.commit.interval.ms": "offsets are committed once a second, after the database has the events",
    "auto.commit.enable": "offsets are committed once a second, after the database has the events",
    "offset.store.method": "positions are kept in the database",
    "offset.store.path": "positions are kept in the database",
    "offset.store.sync.interval.ms": "positions are kept in the database",
    "consume.callback.max.messages": "there is no such callback; batch_size bounds a transaction",
}
CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")

REFUSED = (
    *_MUST_BE_OFF,
    *_MUST_BE_ABSENT,
    "auto.offset.reset",
    "isolation.level",
    "partition.assignment.strategy",
    "max.poll.interval.ms",
)
WARNED_OF = (*_WITHOUT_EFFECT, "check.crcs", "allow.auto.create.topics", *CLASSIC_ONLY)


def check_config(config: Mapping[str, Any], name: str) -> None:
    """Refuse what would break a promise.

    Raises:
        ConfigurationError: Names the key and the reason.
    """
    for key, reason in _MUST_BE_OFF.items():
        if not is_off(config.get(key, "false")):
            raise ConfigurationError(
                f"Consumer {name!r}: {key} must stay off, because {reason}. Leave it out."
            )
    for key, reason in _MUST_BE_ABSENT.items():
        if config.get(key) not in (None, ""):
            raise ConfigurationError(f"Consumer {name!r}: {key} must not be set: {reason}.")
    start = str(config.get("auto.offset.reset", "earliest")).lower()
    if start not in STARTS:
        raise ConfigurationError(
            f"Consumer {name!r}: auto.offset.reset must be 'earliest' or 'latest', not {start!r}. It only says "
            "where a topic begins that this group has never read."
        )
    if str(config.get("isolation.level", "")).lower() == "read_uncommitted":
        raise ConfigurationError(
            f"Consumer {name!r}: isolation.level must stay 'read_committed', because records of a transaction "
            "that is aborted afterwards would have been processed. Leave it out."
        )
    _check_membership(config, name)


def _check_membership(config: Mapping[str, Any], name: str) -> None:
    strategies = [one.strip() for one in str(config.get("partition.assignment.strategy", "")).split(",")]
    cooperative = {"cooperative" in one for one in strategies if one}
    if len(cooperative) > 1:
        raise ConfigurationError(
            f"Consumer {name!r}: partition.assignment.strategy mixes cooperative and eager strategies "
            f"({', '.join(strategies)}), and the client cannot go over from one to the other. Name strategies of "
            "one kind; to change the kind, stop all processes of the group first."
        )
    interval = str(config.get("max.poll.interval.ms", SHORTEST_POLL_INTERVAL_MS))
    if interval.isdecimal() and int(interval) < SHORTEST_POLL_INTERVAL_MS:
        raise ConfigurationError(
            f"Consumer {name!r}: max.poll.interval.ms must be at least {SHORTEST_POLL_INTERVAL_MS}, not {interval}, "
            "because a rebalance waits for the transaction under way. Handlers may take longer than it: they do "
            "not keep the client from polling."
        )


def warnings_of(config: Mapping[str, Any]) -> list[str]:
    """What is allowed and probably not meant."""
    said = [f"{key} has no effect: {why}" for key, why in _WITHOUT_EFFECT.items() if key in config]
    if is_off(config.get("check.crcs", "true")):
        said.append("check.crcs is off: records that were damaged on their way reach the handler")
    if not is_off(config.get("allow.auto.create.topics", "false")):
        said.append(
            "allow.auto.create.topics is on: a topic whose name is misspelt is created instead of reported"
        )
    if str(config.get("group.protocol", "")).lower() == "consumer":
        said += [
            f"{key} has no effect: with group.protocol=consumer the broker decides it"
            for key in CLASSIC_ONLY
            if key in config
        ]
    return said


def is_off(value: object) -> bool:
    """Whether the client takes it for false."""
    return str(value).lower() in ("false", "f", "0")

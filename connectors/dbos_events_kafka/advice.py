"""What an error of the client is about, and what to do about it."""

from __future__ import annotations

import re

from confluent_kafka import KafkaError

CLUSTER = "cluster"
ONE_BROKER = "broker"
TOPICS = "topics"
GROUP = "group"
GROUP_RIGHT = "right to the group"
CLIENT = "client"

_E = KafkaError
_CAUSES = {
    _E._ALL_BROKERS_DOWN: CLUSTER,  # noqa: SLF001
    _E._AUTHENTICATION: CLUSTER,  # noqa: SLF001
    _E._SSL: CLUSTER,  # noqa: SLF001
    _E.SASL_AUTHENTICATION_FAILED: CLUSTER,
    _E.UNSUPPORTED_SASL_MECHANISM: CLUSTER,
    _E._TRANSPORT: ONE_BROKER,  # noqa: SLF001
    _E._RESOLVE: ONE_BROKER,  # noqa: SLF001
    _E._TIMED_OUT: ONE_BROKER,  # noqa: SLF001
    _E.TOPIC_AUTHORIZATION_FAILED: TOPICS,
    _E.UNKNOWN_TOPIC_OR_PART: TOPICS,
    _E._UNKNOWN_TOPIC: TOPICS,  # noqa: SLF001
    _E.GROUP_AUTHORIZATION_FAILED: GROUP_RIGHT,
    _E.FENCED_INSTANCE_ID: GROUP,
    _E.UNRELEASED_INSTANCE_ID: GROUP,
    _E._MAX_POLL_EXCEEDED: GROUP,  # noqa: SLF001
    _E.INCONSISTENT_GROUP_PROTOCOL: GROUP,
    _E.GROUP_MAX_SIZE_REACHED: GROUP,
}

FENCED = (
    "another process took this one's place in the group with the same group.instance.id; give each process its "
    "own. This one reads on when the other's membership has ended"
)
_NOT_RELEASED = (
    "another process is in the group with the same group.instance.id; give each process its own. This one reads "
    "when the other's membership has ended"
)

_ADVICE = {
    _E._ALL_BROKERS_DOWN: "no broker answers; check bootstrap.servers and the network",  # noqa: SLF001
    _E._TRANSPORT: "no broker answers; check bootstrap.servers and the network",  # noqa: SLF001
    _E._TIMED_OUT: "no broker answers; check bootstrap.servers and the network",  # noqa: SLF001
    _E._RESOLVE: "the broker's name cannot be resolved; check bootstrap.servers",  # noqa: SLF001
    _E._AUTHENTICATION: "the broker refuses our credentials; check the sasl settings",  # noqa: SLF001
    _E.SASL_AUTHENTICATION_FAILED: "the broker refuses our credentials; check the sasl settings",
    _E.UNSUPPORTED_SASL_MECHANISM: "the broker does not have our way to log in; check sasl.mechanism",
    _E._SSL: "TLS with the broker fails; check security.protocol and the ssl settings",  # noqa: SLF001
    _E.GROUP_AUTHORIZATION_FAILED: "no right to use the group; grant Read on it",
    _E.FENCED_INSTANCE_ID: FENCED,
    _E.UNRELEASED_INSTANCE_ID: _NOT_RELEASED,
    _E._MAX_POLL_EXCEEDED: (  # noqa: SLF001
        "the process stood still for longer than max.poll.interval.ms and lost its partitions; it joins again"
    ),
    _E.INCONSISTENT_GROUP_PROTOCOL: (
        "the other members of the group use another partition.assignment.strategy; give all of them the same"
    ),
    _E.GROUP_MAX_SIZE_REACHED: "the group has as many members as the broker allows (group.max.size)",
}

_HINTS = (
    ("Static consumer fenced", FENCED),
    ("SASL OAUTHBEARER token", "there is no token to log in with; oauth_cb failed and is called again"),
    ("instance ID is still used", _NOT_RELEASED),
    (
        "increase receive.message.max.bytes",
        "a record is larger than receive.message.max.bytes allows; raise it",
    ),
    ("certificate verify failed", "the broker's certificate is not trusted; check ssl.ca.location"),
    ("certificate could not be verified", "the broker's certificate is not trusted; check ssl.ca.location"),
    ("SSL_HANDSHAKE", "TLS with the broker fails; check security.protocol, the port and the ssl settings"),
    (
        "mechanism handshake failed",
        "the broker does not have our way to log in; check sasl.mechanism and the port",
    ),
    ("incorrect security.protocol", "the broker hangs up at once; check security.protocol and the port"),
    (
        "APIVERSION_QUERY",
        "the broker hangs up at once; check security.protocol and the port (does it want TLS?)",
    ),
)
"""What tells more than the error's number."""

_HUNG_UP = re.compile(r"closed by peer.*after (\d{1,2})ms in state UP")
_HANGS_UP = "the broker hangs up at once; check security.protocol and the port (does it want a login?)"


def cause_of(error: KafkaError) -> str:
    """What is in trouble: the cluster, one broker, topics, the group, or the client itself."""
    if error.code() == KafkaError._FATAL:  # noqa: SLF001 - the reason is in its text alone
        text = error.str()
        if "Group authorization failed" in text:
            return GROUP_RIGHT
        return GROUP if is_fenced(error) or "instance ID is still used" in text else CLIENT
    return _CAUSES.get(error.code(), CLIENT)


def is_fenced(error: KafkaError) -> bool:
    """Whether another member has taken our place, so that joining again would only throw it out in turn."""
    return error.code() == KafkaError.FENCED_INSTANCE_ID or "Static consumer fenced" in error.str()


def advise(error: KafkaError, clue: str = "") -> str:
    """What is wrong and what to do, with the client's own words; `clue` is what it logged before."""
    text = error.str()
    advice = _hint(text)
    if advice is None and error.code() == KafkaError._ALL_BROKERS_DOWN and clue:  # noqa: SLF001
        advice, text = _hint(clue), clue
    advice = advice or _ADVICE.get(error.code())
    return f"{advice} ({text})" if advice else text


def _hint(text: str) -> str | None:
    hint = next((said for mark, said in _HINTS if mark in text), None)
    return _HANGS_UP if hint is None and _HUNG_UP.search(text) else hint

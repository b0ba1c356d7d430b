"""What a source of events met."""

from __future__ import annotations

from dbos_events.errors.base import DBOSException


class ConnectorError(DBOSException):
    """A connector cannot do what it was asked to do."""

    code = "connector"


class StaleTopic(ConnectorError):
    """A broker told the id of a life of the topic that is over: ask again."""

    code = "stale-topic"


class ClusterChanged(ConnectorError):
    """The brokers belong to another cluster than the one that the consumer has read."""

    code = "cluster-changed"

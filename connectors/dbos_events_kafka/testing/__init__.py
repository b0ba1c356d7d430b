"""An Apache Kafka inside the test's own process, with faults on demand.

    with EmbeddedBroker() as broker:
        broker.create_topic("orders", partitions=3)
        broker.produce("orders", b"first", (b"key", b"second"))
        consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, ...})

Nothing is installed or started: the broker is part of the `confluent-kafka` wheel.
`EmbeddedBroker` says what it cannot do.
"""

from dbos_events_kafka.testing.broker import ApiKey, EmbeddedBroker, Record
from dbos_events_kafka.testing.library import EmbeddedBrokerUnavailable

__all__ = ["ApiKey", "EmbeddedBroker", "EmbeddedBrokerUnavailable", "Record"]

"""The embedded broker: topics, records and faults."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from dbos_events.errors import ConnectorError
from dbos_events_kafka.testing.library import MockLibrary, load

#: A record to produce: its value, or its key and value. None is a tombstone.
Record: TypeAlias = bytes | str | tuple[bytes | str | None, bytes | str | None] | None

_PRODUCER_TYPE = 0
_CONF_OK = 0
_ERROR_TEXT_SIZE = 512
_EVERY_BROKER = -1
_ANY_PARTITION = -1
_SECONDS = 10.0


class ApiKey(enum.IntEnum):
    """The requests of Kafka's protocol whose answers a test may want to fail."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    CONSUMER_GROUP_HEARTBEAT = 68


class EmbeddedBroker:
    """A Kafka cluster that lives in this process and listens on 127.0.0.1.

    Use it as a context manager, or call `close`. Clients of this and of other
    processes reach it at `bootstrap_servers`; it ends with the process that made it,
    and its records, which are kept in memory, end with it.

    It is librdkafka's mock cluster, made for tests of protocol clients. It has consumer
    groups (classic, cooperative and the `consumer` protocol of Kafka 4), committed
    offsets, topic ids, idempotent producers and transactions. What differs from Apache
    Kafka, so that a test of these needs a real one:

    - records of an aborted transaction are delivered, even with `read_committed`;
    - topics are made and deleted by this object, not through `AdminClient`. One that a
      producer names is made on the spot, with four partitions. None can be added later;
    - a deleted topic leaves the groups' committed offsets behind;
    - retention and compaction do not exist (`delete_records` moves the log's start),
      but **a partition keeps only its last 5 MB**: a consumer that lags further behind
      finds older records gone;
    - a classic group that somebody joins or leaves (even its last member) waits for
      `session.timeout.ms` less one second before it goes on, however fast its members
      answer: 44 s by default. Set `session.timeout.ms` to 2000 and
      `heartbeat.interval.ms` to 100, or use the `consumer` protocol, which has no
      such wait;
    - there is no security: no TLS, SASL or access rules (inject the errors);
    - it is no measure of throughput or latency.
    """

    def __init__(
        self,
        brokers: int = 1,
        *,
        session_timeout_ms: int = 3000,
        heartbeat_interval_ms: int = 200,
    ) -> None:
        """Start the cluster; this takes a few milliseconds.

        Args:
            brokers: How many, numbered from 1.
            session_timeout_ms: After which silence a member of a group of the
                `consumer` protocol is taken for dead. Classic members name their own.
            heartbeat_interval_ms: How often such a member reports, and so how soon it
                learns of its partitions.

        Raises:
            EmbeddedBrokerUnavailable: this confluent-kafka has no mock cluster.
        """
        if brokers < 1:
            raise ConnectorError(f"A cluster needs at least one broker, not {brokers}.")
        self._library = load()
        self._client: int | None = _new_client(self._library)
        self._cluster: int = self._library.call("mock_cluster_new", self._client, brokers)
        self._brokers = brokers
        self._producer: Producer | None = None
        address: bytes = self._library.call("mock_cluster_bootstraps", self._cluster)
        self._bootstrap_servers = address.decode()
        self._set_defaults(session_timeout_ms, heartbeat_interval_ms)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the cluster and drop its records; a second call does nothing."""
        if self._client is None:
            return
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)
            self._producer = None
        self._library.call("mock_cluster_destroy", self._cluster)
        self._library.call("destroy", self._client)
        self._client = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for a client's `bootstrap.servers`."""
        return self._bootstrap_servers

    @property
    def cluster_id(self) -> str:
        """The id under which the cluster makes itself known to clients."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap_servers})
        return str(admin.list_topics(timeout=_SECONDS).cluster_id)

    # --- topics and records ---

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic that is not there yet."""
        self._ask("mock_topic_create", name.encode(), partitions, self._brokers)

    def delete_topic(self, name: str) -> None:
        """Delete a topic; made again it has another topic id and starts at offset 0."""
        self._ask("mock_topic_delete", name.encode())

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Drop the records below the offset `before`, as retention would."""
        self._ask("mock_partition_delete_records", topic.encode(), partition, before)

    def produce(self, topic: str, *records: Record, partition: int | None = None) -> list[tuple[int, int]]:
        """Write records and wait until they are in the log.

        Args:
            topic: Where to; it is made if it is missing.
            records: Values, or pairs of key and value.
            partition: Where to within the topic. By default the key decides, and
                records without a key are spread.

        Returns:
            Partition and offset of each record, in the order given.

        Raises:
            KafkaException: a record could not be written, say for an injected error.
        """
        places: list[tuple[int, int] | None] = [None] * len(records)
        failures: list[KafkaError] = []
        where = _ANY_PARTITION if partition is None else partition
        for index, record in enumerate(records):
            self._send(topic, record, where, _Delivery(index, places, failures))
        waiting = self._own_producer().flush(_SECONDS)
        if failures:
            raise KafkaException(failures[0])
        if waiting:
            raise ConnectorError(
                f"{waiting} of {len(records)} records for topic {topic!r} are not in "
                f"the log after {_SECONDS:g} s: is the broker set down?"
            )
        return [place for place in places if place is not None]

    # --- faults ---

    def set_down(self, broker: int = _EVERY_BROKER) -> None:
        """Drop a broker's connections and refuse new ones; by default all brokers'."""
        self._ask("mock_broker_set_down", broker)

    def set_up(self, broker: int = _EVERY_BROKER) -> None:
        """Accept clients again; they return within `reconnect.backoff.max.ms`."""
        self._ask("mock_broker_set_up", broker)

    def set_round_trip(self, milliseconds: int, broker: int = _EVERY_BROKER) -> None:
        """Answer each request this much later."""
        self._ask("mock_broker_set_rtt", broker, milliseconds)

    def set_leader(self, topic: str, partition: int, broker: int | None) -> None:
        """Move a partition to another broker; None leaves it without a leader."""
        leader = -1 if broker is None else broker
        self._ask("mock_partition_set_leader", topic.encode(), partition, leader)

    def inject_topic_error(self, topic: str, code: int) -> None:
        """Report `code` for the topic in metadata; `KafkaError.NO_ERROR` ends that.

        Only metadata is affected: a client that already fetches goes on until it asks
        for metadata again (`topic.metadata.refresh.interval.ms`).
        """
        self._library.call("mock_topic_set_error", self._running(), topic.encode(), code)

    def inject_request_errors(self, api_key: int, codes: Sequence[int]) -> None:
        """Fail the next requests of a kind, one per code, in this order.

        Args:
            api_key: The kind of request, such as `ApiKey.OFFSET_COMMIT`.
            codes: `KafkaError` codes. `KafkaError._TRANSPORT` drops the connection,
                `KafkaError.NO_ERROR` lets one request pass.
        """
        errors = (ctypes.c_int * len(codes))(*codes)
        self._library.call(
            "mock_push_request_errors_array",
            self._running(),
            api_key,
            len(codes),
            errors,
        )

    def clear_request_errors(self, api_key: int) -> None:
        """Forget the injected errors that no request has met yet."""
        self._library.call("mock_clear_request_errors", self._running(), api_key)

    # --- inside ---

    def _set_defaults(self, session_timeout_ms: int, heartbeat_interval_ms: int) -> None:
        settings = {
            "mock_group_initial_rebalance_delay_ms": 0,
            "mock_set_group_consumer_session_timeout_ms": session_timeout_ms,
            "mock_set_group_consumer_heartbeat_interval_ms": heartbeat_interval_ms,
            "mock_set_controller_id": 1,  # AdminClient asks the controller
        }
        for function, value in settings.items():
            if self._library.has(function):
                self._library.call(function, self._cluster, value)

    def _running(self) -> int:
        if self._client is None:
            raise ConnectorError("This embedded broker is closed: make a new one.")
        return self._cluster

    def _ask(self, function: str, *arguments: Any) -> None:
        error: int = self._library.call(function, self._running(), *arguments)
        if error:
            raise ConnectorError(f"{function}{arguments} failed: {self._library.explain(error)}")

    def _own_producer(self) -> Producer:
        self._running()
        if self._producer is None:
            self._producer = Producer(
                {
                    "bootstrap.servers": self._bootstrap_servers,
                    "linger.ms": 0,
                    "message.max.bytes": 100_000_000,
                    "log_level": 0,
                }
            )
        return self._producer

    def _send(self, topic: str, record: Record, partition: int, delivery: _Delivery) -> None:
        key, value = record if isinstance(record, tuple) else (None, record)
        producer = self._own_producer()
        while True:
            try:
                producer.produce(topic, value, key, partition=partition, on_delivery=delivery)
            except BufferError:
                producer.poll(0.05)
            else:
                return


class _Delivery:
    """Notes where one record went, or why it did not."""

    def __init__(
        self,
        index: int,
        places: list[tuple[int, int] | None],
        failures: list[KafkaError],
    ) -> None:
        self._index = index
        self._places = places
        self._failures = failures

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(error)
            return
        partition, offset = message.partition(), message.offset()
        if partition is not None and offset is not None:
            self._places[self._index] = (partition, offset)


def _new_client(library: MockLibrary) -> int:
    """The client that a mock cluster hangs on; it connects to nothing."""
    text = ctypes.create_string_buffer(_ERROR_TEXT_SIZE)
    configuration = library.call("conf_new")
    set_ = library.call("conf_set", configuration, b"log_level", b"0", text, _ERROR_TEXT_SIZE)
    client: int | None = None
    if set_ == _CONF_OK:
        client = library.call("new", _PRODUCER_TYPE, configuration, text, _ERROR_TEXT_SIZE)
    if client is None:
        library.call("conf_destroy", configuration)
        raise ConnectorError(f"librdkafka refuses a client: {text.value.decode()}")
    return client

"""Records, topics and groups on a broker, as a test asks for them."""

from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from tests.faults.waiting import wait_until
from tests.servers.kafka import make_admin

SECONDS = 30.0
PARTITIONER = "murmur2_random"

Value = bytes | str | None


class Broker:
    """What tests do to a broker from outside of the consumers under test."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin: AdminClient | None = None

    @property
    def admin(self) -> AdminClient:
        """One client for all questions: one that nobody refers to any more takes its answers with it."""
        if self._admin is None:
            self._admin = make_admin(self.bootstrap)
        return self._admin

    def producer(self, **settings: Any) -> Producer:
        return Producer({"bootstrap.servers": self.bootstrap, "log_level": 0, "linger.ms": 5, **settings})

    def produce(self, topic: str, values: Iterable[Value], *, partition: int = 0, **more: Any) -> None:
        """Write `values` to one partition, in order; returns when the broker has them."""
        self.produce_to(topic, ((partition, value) for value in values), **more)

    def produce_keyed(
        self, topic: str, records: Iterable[tuple[bytes, Value]], *, partition: int = 0
    ) -> None:
        """Write (key, value) pairs to one partition, in order; returns when the broker has them."""
        self._produce(topic, ((partition, value, {"key": key}) for key, value in records))

    def produce_to(self, topic: str, records: Iterable[tuple[int, Value]], **more: Any) -> None:
        """Write (partition, value) pairs; returns when the broker has them."""
        self._produce(topic, ((partition, value, more) for partition, value in records))

    def _produce(self, topic: str, records: Iterable[tuple[int, Value, dict[str, Any]]]) -> None:
        producer = self.producer(**{"enable.idempotence": True})
        failures: list[object] = []

        def delivered(error: object, _message: object) -> None:
            if error is not None:
                failures.append(error)

        for partition, value, more in records:
            while True:
                try:
                    producer.produce(topic, value, partition=partition, on_delivery=delivered, **more)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
            producer.poll(0)
        assert producer.flush(SECONDS) == 0
        assert not failures, failures[:3]

    def produce_spread(self, topic: str, values: Sequence[Value], partitions: int) -> None:
        """Write `values` to all partitions in turn."""
        self.produce_to(topic, ((number % partitions, value) for number, value in enumerate(values)))

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The offset after the last record of each partition, markers of transactions included."""
        places = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
        answers = self.admin.list_offsets(places)
        return {place.partition: future.result(SECONDS).offset for place, future in answers.items()}

    def committed(self, group: str, topic: str, partitions: int) -> dict[int, int]:
        """The group's committed offsets; -1001 where there is none."""
        question = ConsumerGroupTopicPartitions(
            group, [TopicPartition(topic, number) for number in range(partitions)]
        )
        answer = self.admin.list_consumer_group_offsets([question])[group].result(SECONDS)
        return {place.partition: place.offset for place in answer.topic_partitions}

    def commits(
        self, group: str, topic: str, partitions: int
    ) -> list[tuple[int, int, str | None, int | None]]:
        """(partition, offset, metadata, leader epoch) of what the group has committed."""
        places = [TopicPartition(topic, number) for number in range(partitions)]
        question = ConsumerGroupTopicPartitions(group, places)
        answer = self.admin.list_consumer_group_offsets([question])[group].result(SECONDS)
        return [
            (place.partition, place.offset, place.metadata, place.leader_epoch)
            for place in answer.topic_partitions
        ]

    def commit(self, group: str, topic: str, offsets: dict[int, int], *, metadata: str | None = None) -> None:
        """Set the group's committed offsets, as an operator would; the group must have no members."""
        places = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]
        request = ConsumerGroupTopicPartitions(group, places)

        def committed() -> (
            bool
        ):  # a broker that has just started is looking for the group's coordinator still
            answer = self.admin.alter_consumer_group_offsets([request])[group].result(SECONDS)
            return all(place.error is None for place in answer.topic_partitions)

        wait_until(committed, "the broker takes no offsets")

    def forget_group(self, group: str) -> None:
        """Delete the group with its committed offsets, as their retention would."""
        self.admin.delete_consumer_groups([group])[group].result(SECONDS)

    def members(self, group: str) -> int:
        """How many members the group has now."""
        description = self.admin.describe_consumer_groups([group])[group].result(SECONDS)
        return len(description.members)

    def delete_records(self, topic: str, before: dict[int, int]) -> None:
        """Drop the records below these offsets, as retention would."""
        places = [TopicPartition(topic, number, offset) for number, offset in before.items()]
        for future in self.admin.delete_records(places).values():
            future.result(SECONDS)

    def configure_group(self, group: str, **settings: str) -> None:
        """Set what the broker decides for groups of the `consumer` protocol; `_` stands for `.`."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)

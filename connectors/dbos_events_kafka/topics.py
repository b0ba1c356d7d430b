"""Questions to the cluster: which life of a topic this is, and where it begins."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._topic import TopicDescription

from dbos_events.connect import Intake
from dbos_events.errors import ConnectorError
from dbos_events_kafka.settings import ConsumerSettings

TIMEOUT = 10.0


class Topics:
    """Asks with a client of its own.

    Calls block, so they belong to the intake thread; the consumer itself belongs to the poll thread
    alone, since its calls from other threads wait for as long as the poll thread polls.
    """

    def __init__(self, intake: Intake, settings: ConsumerSettings) -> None:
        self._intake = intake
        self._settings = settings
        self._admin: AdminClient | None = None
        self._cluster: str | None = None
        self._incarnations: dict[str, int] = {}

    def incarnation(self, topic: str) -> int:
        """The number of the topic's present life. Raises KafkaException when the cluster does not answer."""
        known = self._incarnations.get(topic)
        if known is None:
            known = self._intake.identify(self._cluster_id(), topic, self._topic_id(topic))
            self._incarnations[topic] = known
        return known

    def forget(self) -> None:
        """Ask anew at the next question."""
        self._incarnations.clear()

    def known_incarnation(self, topic: str) -> int:
        """The number that was learnt when the topic's partitions were assigned."""
        return self._incarnations[topic]

    def ensure_positions(self, topic: str, partitions: Iterable[int]) -> None:
        """See that every partition of the topic has a watermark before the first fetch.

        The first time, the group's committed offsets count, then `auto.offset.reset`, for all
        partitions that exist. Partitions that come later begin at their first record.
        """
        incarnation = self.incarnation(topic)
        known = self._intake.known_partitions(incarnation)
        if set(partitions) <= known:
            return
        existing = {partition.id for partition in self._describe(topic).partitions}
        missing = sorted((existing | set(partitions)) - known)
        bounds = self.bounds(topic, missing)
        committed = self._committed(topic, missing) if not known else {}
        positions = {
            number: (committed[number], "committed offset of the group")
            if number in committed
            else self._first(bounds[number], late=bool(known))
            for number in missing
        }
        self._intake.begin(incarnation, positions)

    def bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """First and end offset of each partition."""
        places = [TopicPartition(topic, number) for number in partitions]
        first = self._offsets(places, OffsetSpec._earliest)  # noqa: SLF001 - its accessor is untyped
        end = self._offsets(places, OffsetSpec._latest)  # noqa: SLF001
        return {number: (first[number], end[number]) for number in first}

    def _offsets(self, places: list[TopicPartition], which: OffsetSpec | None) -> dict[int, int]:
        if which is None:
            raise ConnectorError(
                "This confluent-kafka cannot ask for the offsets of a partition. Upgrade it."
            )
        answers = self._client().list_offsets(dict.fromkeys(places, which), request_timeout=TIMEOUT)
        return {place.partition: future.result().offset for place, future in answers.items()}

    def _first(self, bounds: tuple[int, int], *, late: bool) -> tuple[int, str]:
        low, high = bounds
        if late:
            return low, "partition added later"
        if self._settings.start == "latest":
            return high, "auto.offset.reset=latest"
        return low, "auto.offset.reset=earliest"

    def _committed(self, topic: str, partitions: list[int]) -> dict[int, int]:
        question = ConsumerGroupTopicPartitions(
            self._settings.group, [TopicPartition(topic, number) for number in partitions]
        )
        answers = self._client().list_consumer_group_offsets([question], request_timeout=TIMEOUT)
        found = answers[self._settings.group].result().topic_partitions or []
        return {place.partition: place.offset for place in found if place.offset >= 0 and place.error is None}

    def _cluster_id(self) -> str:
        if self._cluster is None:
            description = self._client().describe_cluster(request_timeout=TIMEOUT).result()
            self._cluster = description.cluster_id or ""
        return self._cluster

    def _describe(self, topic: str) -> TopicDescription:
        answers = self._client().describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT)
        description: TopicDescription = answers[topic].result()
        return description

    def _topic_id(self, topic: str) -> str:
        topic_id: object = self._describe(topic).topic_id  # None where the broker is too old to have any
        return "" if topic_id is None else str(topic_id)

    def _client(self) -> AdminClient:
        return self.client()

    def client(self) -> AdminClient:
        """The one client of this consumer for questions."""
        if self._admin is None:
            self._admin = AdminClient({**self._settings.admin, "log_level": 0})
        return self._admin

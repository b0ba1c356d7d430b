"""Questions to the cluster: which life of a topic this is, and where it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import ListOffsetsResultInfo, OffsetSpec
from confluent_kafka.admin._topic import TopicDescription

from dbos_events.connect import Intake
from dbos_events.errors import ConnectorError, StaleTopic
from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.subscription import fits, is_pattern
from dbos_events_kafka.client import Client, Clients
from dbos_events_kafka.settings import ConsumerSettings

TIMEOUT = 10.0
REFRESH_MS = 1000
"""How often the client for questions asks who its cluster's controller is, which it sends most of them to. Brokers name any
one of them, and when that one dies nothing else makes the client ask again: it would wait for it for minutes."""
AGREE_SECONDS = 0.2
"""Before an id that is new is believed, it is asked for once more."""
NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""What a broker without ids of topics says: 16 zero bytes."""


@dataclass(frozen=True, slots=True)
class Life:
    """The life of a topic that its partitions are positioned in, and the branches that some have taken."""

    topic_id: str
    incarnation: int
    partitions: frozenset[int]
    branches: Mapping[int, int] = field(default_factory=dict)

    def incarnation_of(self, partition: int) -> int:
        """The number that the events of a partition belong to."""
        return self.branches.get(partition, self.incarnation)


class Committed(NamedTuple):
    """What the group has committed, and who says so."""

    offset: int
    metadata: str


class Topics:
    """Asks with a client of its own.

    Calls block, so they belong to the intake thread; the consumer itself belongs to the poll thread
    alone, since its calls from other threads wait for as long as the poll thread polls.
    """

    def __init__(self, intake: Intake, settings: ConsumerSettings) -> None:
        self._intake = intake
        self._settings = settings
        self.clients: Clients | None = None
        self._admin: AdminClient | None = None
        self._asker: Consumer | None = None
        self._lives: dict[str, Life] = {}

    # -- lives --------------------------------------------------------------------------------

    def look(self, topic: str) -> Life:
        """Ask which life of the topic this is.

        Raises:
            KafkaException: The cluster does not answer, or there is no such topic.
            StaleTopic: The brokers do not agree yet.
            ClusterChanged: They are another cluster's.
        """
        known = self._lives.get(topic)
        description = self._describe(topic)
        topic_id = id_of(description)
        if known is not None and topic_id != known.topic_id:
            time.sleep(AGREE_SECONDS)
            if id_of(description := self._describe(topic)) != topic_id:
                raise StaleTopic(f"The brokers tell different ids of {topic}; they are asked again.")
        incarnation = self._intake.identify(self._cluster_id(), topic, topic_id)
        numbers = frozenset(partition.id for partition in description.partitions)
        life = Life(topic_id, incarnation, numbers, self._intake.branches(incarnation))
        self._lives[topic] = life
        return life

    def still(self, topic: str) -> bool:
        """Whether the topic has the id that `look` has found last; waits a moment before it asks."""
        time.sleep(AGREE_SECONDS)
        return id_of(self._describe(topic)) == self._lives[topic].topic_id

    def current(self, topic: str) -> Life:
        """What `look` has found last."""
        return self._lives[topic]

    def known(self, topic: str) -> Life | None:
        """The same, or None when the topic was never looked at."""
        return self._lives.get(topic)

    def has_id(self, topic: str) -> bool:
        """Whether the brokers tell lives of the topic apart."""
        life = self._lives.get(topic)
        return life is not None and bool(life.topic_id)

    def describe_soon(self, topics: list[str]) -> Mapping[str, Future[TopicDescription]]:
        """Ask without waiting for the answers."""
        answers: Mapping[str, Future[TopicDescription]] = self.client().describe_topics(
            TopicCollection(topics), request_timeout=TIMEOUT
        )
        return answers

    def matching(self, subscription: str) -> list[str]:
        """The topics that belong to it now. Raises KafkaException when that cannot be known."""
        if not is_pattern(subscription):
            try:
                self._describe(subscription)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                return []
            return [subscription]
        found = self.client().list_topics(timeout=TIMEOUT).topics
        return sorted(name for name in found if fits(subscription, name) and not name.startswith("__"))

    # -- offsets ------------------------------------------------------------------------------

    def bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """First and end offset of each partition."""
        places = [TopicPartition(topic, number) for number in partitions]
        first = self._offsets(places, OffsetSpec._earliest)  # noqa: SLF001 - its accessor is untyped
        end = self._offsets(places, OffsetSpec._latest)  # noqa: SLF001
        return {number: (first[number], end[number]) for number in first}

    def ends_soon(
        self, places: Iterable[tuple[str, int]]
    ) -> Mapping[TopicPartition, Future[ListOffsetsResultInfo]]:
        """Ask for the ends of what may be read, without waiting for the answers."""
        question = {TopicPartition(*place): _spec(OffsetSpec._latest) for place in places}  # noqa: SLF001
        answers: Mapping[TopicPartition, Future[ListOffsetsResultInfo]] = self.client().list_offsets(
            question, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT
        )
        return answers

    def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        """What the group has committed, where it has.

        Asked with a consumer that joins nothing: the admin client of librdkafka 2.16 ends the process when the group's
        coordinator is not known yet.
        """
        places = [TopicPartition(topic, number) for number in partitions]
        found = self.asker().committed(places, timeout=TIMEOUT)
        return {
            place.partition: Committed(place.offset, place.metadata or "")
            for place in found
            if place.offset >= 0 and place.error is None
        }

    def close(self) -> None:
        """End the clients."""
        if self._asker is not None:
            self._asker.close()

    def _offsets(self, places: list[TopicPartition], which: OffsetSpec | None) -> dict[int, int]:
        if not places:
            return {}
        answers = self.client().list_offsets(dict.fromkeys(places, _spec(which)), request_timeout=TIMEOUT)
        return {place.partition: future.result().offset for place, future in answers.items()}

    # -- the client ---------------------------------------------------------------------------

    def _cluster_id(self) -> str:
        description = self.client().describe_cluster(request_timeout=TIMEOUT).result()
        return description.cluster_id or ""

    def _describe(self, topic: str) -> TopicDescription:
        description: TopicDescription = self.describe_soon([topic])[topic].result()
        return description

    def client(self) -> AdminClient:
        """The one client of this consumer for questions."""
        if self._admin is None:
            refresh = {"topic.metadata.refresh.interval.ms": REFRESH_MS}
            client = {**self._settings.admin, **refresh, "log_level": 0}
            self._admin = self._made(lambda token: AdminClient({**client, **token}))
        return self._admin

    def asker(self) -> Consumer:
        """The client for questions about the group."""
        if self._asker is None:
            group = {"group.id": self._settings.group, "enable.auto.commit": False}
            client = {**self._settings.admin, **group, "log_level": 0}
            self._asker = self._made(lambda token: Consumer({**client, **token}))
        return self._asker

    def _made(self, make: Callable[[Mapping[str, Any]], Client]) -> Client:
        return make({}) if self.clients is None else self.clients.make(make)


def id_of(description: TopicDescription) -> str:
    """The topic's id as text; empty where the broker is too old to have any."""
    topic_id: object = description.topic_id
    text = "" if topic_id is None else str(topic_id)
    return "" if text == NO_ID else text


def _spec(which: OffsetSpec | None) -> OffsetSpec:
    if which is None:
        raise ConnectorError("This confluent-kafka cannot ask for the offsets of a partition. Upgrade it.")
    return which

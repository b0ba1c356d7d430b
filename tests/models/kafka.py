"""A cluster in memory: one topic in its lives, a group that gives partitions to members, and their clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dbos_events.model.event import ConsumerOptions
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.topics import Committed, Topics
from tests.models.intake import Life, Log

TOPIC = "orders"
PARTITIONS = 2


class Cluster:
    """What the brokers hold. A group's offsets outlive the topic, as they may in Kafka."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.committed: dict[int, Committed] = {}
        self.owner: dict[int, object] = {}
        self.number = 0
        self.make_topic()

    @property
    def life(self) -> Life:
        return self.lives[-1]

    def make_topic(self) -> None:
        logs = {partition: Log() for partition in range(PARTITIONS)}
        self.lives.append(Life(f"id-{len(self.lives) + 1}", logs))

    def produce(self, partition: int, records: Iterable[bool]) -> None:
        for is_record in records:
            self.number += 1
            value = f"{self.life.topic_id} {partition} {self.number}".encode()
            self.life.logs[partition].append(value if is_record else None)

    def cut(self, partition: int, count: int) -> None:
        """An unclean election: the last records are gone, and others come in their place."""
        log = self.life.logs[partition]
        if count and log.end:
            log.records = log.records[: max(log.low, log.end - count)]
            log.cut_at = log.end if log.cut_at is None else min(log.cut_at, log.end)


class Message:
    """What the client polls, as far as it is read."""

    def __init__(
        self, partition: int, offset: int, value: bytes | None, error: KafkaError | None = None
    ) -> None:
        self._partition, self._offset, self._value, self._error = partition, offset, value, error

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def leader_epoch(self) -> int:
        return 0

    def latency(self) -> None:
        return None

    def error(self) -> KafkaError | None:
        return self._error


class Fetching:
    """One partition of a client: where it fetches, and whether it may."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.paused = False
        self.astray = False


class Client:
    """As confluent_kafka.Consumer: it fetches ahead, and knows nothing of lives."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.newest = 0
        """The newest life that it was given a record of, as the cluster counts them; it does not know."""
        self.parts: dict[int, Fetching] = {}
        self.queue: list[Message] = []
        self.callbacks: dict[str, Callable[..., None]] = {}

    def subscribe(self, _topics: list[str], **callbacks: Callable[..., None]) -> None:
        self.callbacks = callbacks

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.parts.update({place.partition: Fetching(place.offset) for place in places})

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        for place in places:
            self.parts.pop(place.partition, None)
            self._purge(place.partition)

    def seek(self, place: TopicPartition) -> None:
        if place.partition not in self.parts:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.parts[place.partition].position = place.offset
        self._purge(place.partition)

    def pause(self, places: list[TopicPartition]) -> None:
        for place in places:
            self.parts[place.partition].paused = True
            self._purge(place.partition)

    def resume(self, places: list[TopicPartition]) -> None:
        for place in places:
            if place.partition in self.parts:
                self.parts[place.partition].paused = False

    def _purge(self, partition: int) -> None:
        """What was fetched ahead is thrown away, and the position is that of what is polled next."""
        thrown = [one for one in self.queue if one.partition() == partition]
        if thrown and thrown[0].error() is None and self.parts.get(partition) is not None:
            part = self.parts[partition]
            part.position = min(part.position, thrown[0].offset()) if part.paused else part.position
        self.queue = [one for one in self.queue if one.partition() != partition]

    def fetch(self, count: int) -> None:
        """From the log that is there now, whichever life it is of."""
        for partition, part in self.parts.items():
            log = self._cluster.life.logs[partition]
            if part.paused or part.astray:
                continue
            if not log.low <= part.position <= log.end:
                cut = log.cut_at is not None and part.position > log.end
                text = "log truncation detected" if cut else "offset out of range"
                error = KafkaError(KafkaError._AUTO_OFFSET_RESET, text)
                self.queue.append(Message(partition, part.position, None, error))
                part.astray = True
                continue
            for offset in range(part.position, min(log.end, part.position + count)):
                value = log.records[offset]
                if value is not None:
                    self.queue.append(Message(partition, offset, value))
                    self.newest = len(self._cluster.lives) - 1
                part.position = offset + 1

    def poll(self, _seconds: float) -> Message | None:
        return self.queue.pop(0) if self.queue else None

    def consume(self, count: int, _seconds: float) -> list[Message]:
        found, self.queue = self.queue[:count], self.queue[count:]
        return found

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool = True) -> None:
        """The coordinator refuses who is not a member of this generation any more; then nothing is committed."""
        if any(self._cluster.owner.get(place.partition) is not self for place in offsets):
            if not asynchronous:
                raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
            return
        for place in offsets:
            self._cluster.committed[place.partition] = Committed(place.offset, place.metadata or "")

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        return 0, self._cluster.life.logs[place.partition].end

    def list_topics(self, _topic: str, timeout: float) -> None:
        """Nothing to learn."""

    def offsets_for_times(self, _places: list[TopicPartition], timeout: float) -> None:
        """Only wakes a real client."""


class Question(NamedTuple):
    """In which life its asker believes to read, and the newest of which it had been given a record by then."""

    answer: Future[Any]
    believed: str
    newest: int


class Asking(Topics):
    """The intake thread's questions. Those that it does not wait for are answered when the machine says so."""

    def __init__(self, cluster: Cluster, intake: Any, settings: ConsumerSettings) -> None:
        super().__init__(intake, settings)
        self._cluster = cluster
        self.reader: Client
        self.questions: list[Question] = []

    def answer(self, *, stale: bool) -> None:
        """All of them: as the cluster is now, or by a broker that has not heard of the last life yet.

        But none says that the topic is as before to who asks about a record of the next life: brokers may, and what
        comes of it is no promise, but what remains (docs/kafka.md, "A topic that is made again").
        """
        lives = self._cluster.lives
        questions, self.questions = self.questions, []
        for question in questions:
            told = max(len(lives) - 2, 0) if stale else len(lives) - 1
            if told < question.newest and lives[told].topic_id == question.believed:
                told = len(lives) - 1
            question.answer.set_result(SimpleNamespace(topic_id=lives[told].topic_id))

    def describe_soon(self, topics: list[str]) -> dict[str, Future[Any]]:
        asked = {
            topic: Question(Future(), self.current(topic).topic_id, self.reader.newest) for topic in topics
        }
        self.questions += asked.values()
        return {topic: question.answer for topic, question in asked.items()}

    def _describe(self, _topic: str) -> Any:
        partitions = [SimpleNamespace(id=number) for number in range(PARTITIONS)]
        return SimpleNamespace(topic_id=self._cluster.life.topic_id, partitions=partitions)

    def _cluster_id(self) -> str:
        return "cluster"

    def bounds(self, _topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        logs = self._cluster.life.logs
        return {number: (logs[number].low, logs[number].end) for number in partitions}

    def committed(self, _topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        known = self._cluster.committed
        return {number: known[number] for number in partitions if number in known}

    def ends_soon(self, places: Iterable[tuple[str, int]]) -> dict[TopicPartition, Future[Any]]:
        answers = {}
        for topic, number in places:
            answer: Future[Any] = Future()
            answer.set_result(SimpleNamespace(offset=self._cluster.life.logs[number].end))
            answers[TopicPartition(topic, number)] = answer
        return answers

    def client(self) -> Any:
        return SimpleNamespace(describe_topics=self._allowed)

    def _allowed(self, topics: Any, **_more: object) -> dict[str, Future[Any]]:
        answer: Future[Any] = Future()
        answer.set_result(SimpleNamespace(authorized_operations=None))
        return {TOPIC: answer}


def options() -> ConsumerOptions:
    return ConsumerOptions(TOPIC, (TOPIC,), {}, batch_size=4, max_in_flight=1000)

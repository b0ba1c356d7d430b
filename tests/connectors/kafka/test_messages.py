"""A message is the same for the first handler that sees it and for the one that takes it up."""

import asyncio
import threading

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from dbos_events import KafkaMessage
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

MESSAGES: dict[str, dict] = {
    "plain": {"value": b"value", "key": b"key"},
    "tombstone": {"value": None, "key": b"key"},
    "null key": {"value": b"value", "key": None},
    "nothing at all": {"value": None, "key": None},
    "empty value": {"value": b"", "key": b"key"},
    "empty key": {"value": b"value", "key": b""},
    "binary": {"value": bytes(range(256)), "key": b"\xff\xfe\x00"},
    "zero bytes": {"value": b"\x00\x00", "key": b"\x00"},
    "text beyond ASCII": {"value": "schön € 🎈".encode(), "key": "ключ".encode()},
    "headers": {
        "value": b"value",
        "key": b"key",
        "headers": [("a", b"1"), ("a", b"2"), ("null", None), ("empty", b""), ("binary", b"\xff\x00")],
    },
    "own time": {"value": b"value", "key": b"key", "timestamp": 1_234_567_890_123},
    "one megabyte": {"value": bytes(range(256)) * 3906, "key": b"k" * 1000},
}


def raw(bootstrap: str, topic: str, count: int) -> list[Message]:
    """The records as a plain client gets them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "plain", "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        messages: list[Message] = []
        while len(messages) < count:
            messages += consumer.consume(count - len(messages), timeout=10)
        return messages
    finally:
        consumer.close()


def assert_same(message: KafkaMessage, plain: Message) -> None:
    assert (message.topic, message.partition, message.offset) == (
        plain.topic(),
        plain.partition(),
        plain.offset(),
    )
    assert message.key == plain.key()
    assert message.value == plain.value()
    assert message.headers == plain.headers()
    assert message.timestamp == plain.timestamp()
    assert message.leader_epoch == plain.leader_epoch()


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_messages_arrive_as_they_were_also_in_the_process_that_takes_them_up(
    ordering: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(max_message_bytes="2000000")
    producer = broker.producer(**{"message.max.bytes": 2_000_000})
    for message in MESSAGES.values():
        producer.produce(topic, partition=0, **message)
    assert producer.flush(30) == 0
    plain = raw(broker.bootstrap, topic, len(MESSAGES))
    lock = threading.Lock()
    first: list[KafkaMessage] = []
    second: list[KafkaMessage] = []

    async def never_ends(message: KafkaMessage) -> None:
        with lock:
            first.append(message)
        await asyncio.Event().wait()

    def ends(message: KafkaMessage) -> None:
        with lock:
            second.append(message)

    waits = 1 if ordering == "partition" else len(MESSAGES)
    app = consumers.start(topic, never_ends, ordering=ordering, app_executor_id="first")
    wait_until(lambda: rows.statuses() == {"PENDING": len(MESSAGES)}, "not all was taken in")
    wait_until(lambda: len(first) == waits, "the handlers have not begun")
    app.destroy()
    consumers.start(topic, ends, ordering=ordering, app_executor_id="second")
    wait_until(lambda: rows.succeeded() == len(MESSAGES), "the events are not taken up")

    first.sort(key=lambda message: message.offset or 0)
    if ordering == "none":
        second.sort(key=lambda message: message.offset or 0)
    assert len(second) == len(MESSAGES)
    assert second[:waits] == first
    for message, expected in zip(second, plain, strict=True):
        assert_same(message, expected)

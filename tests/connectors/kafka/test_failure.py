"""How an event ends when its handler does not return (rules 7, 10 and 11): put aside or recorded, never lost."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dbos_events import KafkaMessage
from dbos_events.errors import Quarantine
from dbos_events.serialization.headers import decode_headers
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until

BAD = b"\xff\x00 not for this handler"


class BadValue(Exception):
    """What the handlers raise."""


class Picky(Counting):
    """Fails for the values in `bad`."""

    def __init__(self, bad: bytes = BAD) -> None:
        super().__init__()
        self.bad = bad

    def sync_handler(self, message: KafkaMessage) -> None:
        super().sync_handler(message)
        if message.value == self.bad:
            raise BadValue(f"no {message.offset}")


class Blocking(Counting):
    """Waits in its first event until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def sync_handler(self, message: KafkaMessage) -> None:
        self.began(message)
        self.go_on.wait(60)
        self.ended()


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    handler = Blocking()
    yield handler
    handler.go_on.set()


def by_place(rows: Rows) -> dict[tuple[int, int], str]:
    """The status of each event."""
    found = rows.query("SELECT partition, position, status FROM {t}workflows WHERE consumer IS NOT NULL")
    return {(partition, offset): status for partition, offset, status in found}


def id_at(rows: Rows, partition: int, offset: int) -> str:
    return str(
        rows.one("SELECT id FROM {t}workflows WHERE partition = ? AND position = ?", (partition, offset))
    )


# -- a handler that raises --------------------------------------------------------------------


def test_a_failed_event_is_put_aside_with_its_raw_bytes_and_the_error(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    headers = [("trace", b"\x00\xfe"), ("trace", None)]
    broker.produce(topic, [BAD], headers=headers, key=b"\x80key")

    app = consumers.start(topic, Picky().sync_handler)
    wait_until(rows.quarantined, "the event is not in quarantine")

    assert by_place(rows) == {(0, 0): "ERROR"}
    assert rows.quarantined() == [(0, 0, "handler-failed")]
    key, value, stored = rows.query("SELECT key, value, headers FROM {t}events")[0]
    assert (bytes(key), bytes(value)) == (b"\x80key", BAD)
    assert decode_headers(stored) == headers
    event = id_at(rows, 0, 0)
    assert "no 0" in rows.one("SELECT error FROM {t}results WHERE workflow_id = ?", (event,))
    assert "no 0" in rows.one("SELECT error FROM {t}quarantine WHERE workflow_id = ?", (event,))
    status = app.get_workflow_status(event)
    assert status is not None
    assert isinstance(status.error, BadValue)
    assert rows.watermarks(topic) == {0: 1}


def test_without_order_a_failed_event_stops_no_other(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, [b"1", BAD, b"3", BAD, b"5"])

    consumers.start(topic, Picky().sync_handler)
    wait_until(lambda: len(rows.quarantined()) == 2 and rows.succeeded() == 3, "not all events have ended")

    assert rows.quarantined() == [(0, 1, "handler-failed"), (0, 3, "handler-failed")]


def test_a_failed_event_holds_its_lane_while_other_partitions_go_on(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    picky = Picky()
    broker.produce(topic, [b"1", BAD, b"3", b"4"], partition=0)
    app = consumers.start(topic, picky.sync_handler, ordering="partition")
    wait_until(lambda: rows.watermarks(topic).get(0) == 4 and rows.quarantined(), "it has not failed")

    broker.produce(topic, [b"1"] * 50, partition=1)
    wait_until(lambda: rows.succeeded() == 51, "the other partition does not go on")

    stays(lambda: rows.succeeded() == 51, "the lane went on behind its failed event", seconds=1.5)
    statuses = {place: status for place, status in by_place(rows).items() if place[0] == 0}
    assert statuses == {(0, 0): "SUCCESS", (0, 1): "ERROR", (0, 2): "PENDING", (0, 3): "PENDING"}
    assert {place for place in picky.executions if place[0] == 0} == {(0, 0), (0, 1)}
    assert app.health().live


def test_a_lane_stays_held_in_the_next_process(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, [BAD, b"2", b"3"])
    first = consumers.start(topic, Picky().sync_handler, ordering="partition")
    wait_until(lambda: rows.watermarks(topic).get(0) == 3 and rows.quarantined(), "it has not failed")
    first.destroy()

    healthy = Counting()
    consumers.start(topic, healthy.sync_handler, ordering="partition")
    broker.produce(topic, [b"4"])
    wait_until(lambda: 0 in rows.holders(), "the next process does not become the holder")

    stays(lambda: healthy.total == 0, "an event ran before the failed one ahead of it", seconds=1.5)
    assert list(by_place(rows).values()).count("PENDING") == 2
    assert rows.watermarks(topic) == {0: 3}, "the backlog stays with the broker"


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_a_recorded_failure_frees_the_lane_and_puts_nothing_aside(
    ordering: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, [b"1", BAD, b"3", BAD, b"5"])

    consumers.start(topic, Picky().sync_handler, ordering=ordering, on_failure="record")
    wait_until(lambda: rows.statuses() == {"SUCCESS": 3, "ERROR": 2}, "not all events have ended")

    assert rows.one("SELECT count(*) FROM {t}quarantine") == 0
    assert rows.one("SELECT count(*) FROM {t}workflows WHERE lane_open") == 0


def test_a_handler_can_put_an_event_aside_with_its_own_reason(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, ["x"])

    def handler(message: KafkaMessage) -> None:
        raise Quarantine("unknown currency")

    consumers.start(topic, handler)
    wait_until(rows.quarantined, "the event is not in quarantine")

    assert rows.quarantined() == [(0, 0, "unknown currency")]
    assert by_place(rows) == {(0, 0): "ERROR"}


def test_an_async_handler_that_raises_is_put_aside_as_well(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, ["x", "y"])

    async def handler(message: KafkaMessage) -> None:
        if message.offset == 0:
            raise BadValue("asynchronously")

    consumers.start(topic, handler)
    wait_until(lambda: rows.quarantined() and rows.succeeded(), "not both events have ended")

    assert rows.quarantined() == [(0, 0, "handler-failed")]


def test_a_failed_event_of_a_queue_is_put_aside(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, [BAD, b"2"])

    consumers.start(topic, Picky().sync_handler, queue_name="events")
    wait_until(lambda: rows.quarantined() and rows.succeeded(), "not both events have ended")

    assert rows.quarantined() == [(0, 0, "handler-failed")]


# -- cancelled, or given up -------------------------------------------------------------------


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_a_cancelled_event_is_put_aside_and_holds_its_lane(
    ordering: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
    blocking: Blocking,
) -> None:
    topic = kafka_topic()
    broker.produce(topic, ["1", "2"])
    app = consumers.start(topic, blocking.sync_handler, ordering=ordering)
    wait_until(lambda: (0, 0) in blocking.executions and len(by_place(rows)) == 2, "it does not run")

    app.cancel_workflow(id_at(rows, 0, 0))
    blocking.go_on.set()

    wait_until(rows.quarantined, "the event is not in quarantine")
    assert rows.quarantined() == [(0, 0, "cancelled")]
    if ordering == "partition":
        stays(lambda: rows.succeeded() == 0, "the lane went on behind a cancelled event", seconds=1.5)
        assert by_place(rows) == {(0, 0): "CANCELLED", (0, 1): "PENDING"}
    else:
        wait_until(lambda: rows.succeeded() == 1, "the other event has not run")
        assert by_place(rows) == {(0, 0): "CANCELLED", (0, 1): "SUCCESS"}


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_an_event_whose_process_crashed_too_often_is_put_aside(
    ordering: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
    blocking: Blocking,
) -> None:
    topic = kafka_topic()
    broker.produce(topic, ["1"])
    first = consumers.start(topic, blocking.sync_handler, ordering=ordering, app_shutdown_timeout_seconds=0.5)
    wait_until(lambda: blocking.total == 1, "it does not run")
    first.destroy()
    rows.query("UPDATE {t}workflows SET crashes = 101")  # as a row says that has been taken up that often

    second = Counting()
    consumers.start(topic, second.sync_handler, ordering=ordering)
    wait_until(rows.quarantined, "the event is not in quarantine")

    assert rows.quarantined() == [(0, 0, "max-recovery-attempts-exceeded")]
    assert by_place(rows) == {(0, 0): "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
    assert second.total == 0


# -- the same offset, another record ----------------------------------------------------------


def test_another_record_under_a_known_offset_halts_that_partition_only(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    broker.produce_spread(topic, [str(number) for number in range(8)], 2)
    first = consumers.start(topic, Counting().sync_handler)
    wait_until(lambda: rows.succeeded() == 8, "not all events have finished")
    first.destroy()
    rows.query("UPDATE {t}watermarks SET next_offset = 1")  # both partitions are read again from there
    rows.query("UPDATE {t}events SET fingerprint = 1 WHERE workflow_id = ?", (id_at(rows, 0, 2),))

    again = Counting()
    second = consumers.start(topic, again.sync_handler)
    broker.produce_spread(topic, ["new 0", "new 1"], 2)
    wait_until(lambda: rows.watermarks(topic)[1] == 5, "the other partition does not go on")
    wait_until(lambda: states(second)[0][0] == "halted", "the partition is not halted")
    wait_until(lambda: again.total == 1, "the new record of the other partition has not run")

    assert "offset 2 holds another record" in str(states(second)[0][1])
    wait_until(lambda: states(second)[1][0] == "reading", "the other partition is not reading")
    assert again.executions == {(1, 4): 1}
    assert rows.watermarks(topic) == {0: 2, 1: 5}


def test_a_halted_partition_stays_halted_in_the_next_process(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, ["0", "1", "2"])
    first = consumers.start(topic, Counting().sync_handler)
    wait_until(lambda: rows.succeeded() == 3, "not all events have finished")
    first.destroy()
    rows.query("UPDATE {t}watermarks SET next_offset = 0")
    rows.query("UPDATE {t}events SET fingerprint = 1 WHERE workflow_id = ?", (id_at(rows, 0, 1),))
    second = consumers.start(topic, Counting().sync_handler)
    wait_until(lambda: states(second)[0][0] == "halted", "the partition is not halted")
    second.destroy()

    broker.produce(topic, ["3"])
    counting = Counting()
    third = consumers.start(topic, counting.sync_handler, app_executor_id="third")

    def halted_by_third() -> bool:
        return rows.holders() == {0: "third"} and states(third)[0][0] == "halted"

    wait_until(halted_by_third, "the next process goes on as if nothing were wrong")
    assert counting.total == 0
    assert rows.watermarks(topic) == {0: 1}


def states(app: Any) -> dict[int, tuple[str | None, str | None]]:
    """State and detail of each partition, as `kafka status` shows them."""
    return {row.partition: (row.state, row.detail) for row in app.launched.storage.positions.read(None)}

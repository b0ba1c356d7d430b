"""Where reading begins and goes on: the database says, the broker's committed offset is a hint (P1, P2, rule 7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from confluent_kafka.cimpl import NewPartitions

from dbos_events.app import App
from tests.conftest import TopicFactory, unique_name
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import SECONDS, Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until

NEVER_COMMITTED = -1001
UPTAKE_SECONDS = 2.5
"""Longer than the pause between two commits to Kafka."""


def values(first: int, end: int) -> list[bytes]:
    return [str(number).encode() for number in range(first, end)]


def stop(app: App, broker: Broker, group: str) -> None:
    """End the App; returns when the group has no member any more."""
    app.destroy(workflow_completion_timeout_sec=10)
    wait_until(lambda: broker.members(group) == 0, "the member has not left")


def reasons(rows: Rows) -> dict[int, str]:
    return dict(rows.query("SELECT partition, reason FROM {t}watermarks"))  # type: ignore[arg-type]


def states(app: App) -> dict[int, tuple[str | None, str | None]]:
    """State and detail of each partition, as `kafka status` shows them."""
    return {row.partition: (row.state, row.detail) for row in app.launched.storage.positions.read(None)}


def offsets(counting: Counting, partition: int = 0) -> list[int]:
    return sorted(offset for place, offset in counting.executions.elements() if place == partition)


# -- where a group begins ---------------------------------------------------------------------


@pytest.mark.parametrize("start", [None, "earliest", "latest"])
def test_where_a_new_group_begins_is_decided_once(
    start: str | None,
    group: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
) -> None:
    topic = kafka_topic()
    config = {"group.id": group, **({"auto.offset.reset": start} if start else {})}
    counting = Counting()
    broker.produce(topic, values(0, 3))

    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.holders() and 0 in rows.watermarks(topic), "the partition is not read")
    if start == "latest":
        assert rows.watermarks(topic) == {0: 3}
        assert reasons(rows) == {0: "auto.offset.reset=latest"}
    broker.produce(topic, values(3, 5))
    wait_until(lambda: rows.watermarks(topic) == {0: 5}, "not all records are taken in")
    stop(app, broker, group)
    broker.produce(topic, values(5, 7))  # while nobody reads: `latest` does not skip them
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.watermarks(topic) == {0: 7}, "not all records are taken in")
    first = 3 if start == "latest" else 0
    wait_until(lambda: rows.succeeded() == 7 - first, "not all events have finished")

    assert offsets(counting) == list(range(first, 7))
    assert rows.gaps() == []


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_group_that_has_read_elsewhere_goes_on_at_its_committed_offset(
    start: str,
    group: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    broker.produce(topic, values(0, 5), partition=0)
    broker.produce(topic, values(0, 5), partition=1)
    broker.commit(group, topic, {0: 3})

    config = {"group.id": group, "auto.offset.reset": start}
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.watermarks(topic) == {0: 5, 1: 5}, "not all records are taken in")
    others = [] if start == "latest" else list(range(5))
    wait_until(lambda: rows.succeeded() == 2 + len(others), "not all events have finished")

    assert offsets(counting, 0) == [3, 4]
    assert offsets(counting, 1) == others


def test_a_partition_that_is_added_later_is_read_from_its_first_record(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    broker.produce(topic, values(0, 3))
    config = {"group.id": group, "auto.offset.reset": "latest", "topic.metadata.refresh.interval.ms": 500}
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.watermarks(topic) == {0: 3}, "the group has not begun")
    stop(app, broker, group)

    for future in broker.admin.create_partitions([NewPartitions(topic, 2)]).values():
        future.result(SECONDS)
    broker.produce(topic, values(0, 4), partition=1)  # before the consumer knows the partition
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 4, "the new partition's records have not run")

    assert counting.executions == {(1, offset): 1 for offset in range(4)}
    assert rows.watermarks(topic) == {0: 3, 1: 4}


def test_a_partition_that_is_added_while_it_runs_is_read_from_its_first_record(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    config = {"group.id": group, "auto.offset.reset": "latest", "topic.metadata.refresh.interval.ms": 500}
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.watermarks(topic) == {0: 0}, "the group has not begun")

    for future in broker.admin.create_partitions([NewPartitions(topic, 2)]).values():
        future.result(SECONDS)
    broker.produce(topic, values(0, 4), partition=1)
    wait_until(lambda: rows.succeeded() == 4, "the new partition's records have not run")

    assert counting.executions == {(1, offset): 1 for offset in range(4)}


# -- what Kafka believes ----------------------------------------------------------------------


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_group_whose_offsets_are_lost_repeats_and_skips_nothing(
    start: str,
    group: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    config = {"group.id": group, "auto.offset.reset": start}
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.watermarks(topic) == {0: 0, 1: 0}, "the group has not begun")
    broker.produce_spread(topic, values(0, 10), 2)
    wait_until(lambda: rows.succeeded() == 10, "not all events have finished")
    stop(app, broker, group)

    broker.forget_group(group)
    broker.produce_spread(topic, values(10, 20), 2)
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 20, "not all events have finished")

    assert counting.executions == {(partition, offset): 1 for partition in (0, 1) for offset in range(10)}
    assert rows.gaps() == []


def test_offsets_that_somebody_moved_in_kafka_change_nothing(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    config = {"group.id": group}
    broker.produce_spread(topic, values(0, 10), 2)
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 10, "not all events have finished")
    stop(app, broker, group)

    broker.produce_spread(topic, values(10, 20), 2)
    broker.commit(group, topic, {0: 0, 1: 10})  # one back, one beyond what was read
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 20, "not all events have finished")

    assert counting.executions == {(partition, offset): 1 for partition in (0, 1) for offset in range(10)}


@contextmanager
def intake_held(url: str) -> Iterator[None]:
    """Hold every intake in its transaction, before it moves a watermark."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1 FROM dbos_events.watermarks FOR UPDATE")
        yield


def test_offsets_are_committed_to_kafka_only_after_the_database_has_the_events(
    group: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
    migrated_postgres: str,
) -> None:
    topic = kafka_topic()
    counting = Counting()
    consumers.start(topic, counting.sync_handler, config={"group.id": group})
    wait_until(lambda: rows.holders() and rows.watermarks(topic) == {0: 0}, "the group has not begun")

    with intake_held(migrated_postgres):
        broker.produce(topic, values(0, 5))
        wait_until(lambda: waiting_for_a_lock(migrated_postgres), "no intake is under way")
        stays(
            lambda: broker.committed(group, topic, 1)[0] in (NEVER_COMMITTED, 0),
            "Kafka's committed offset is ahead of the database",
            seconds=UPTAKE_SECONDS,
        )
        assert counting.total == 0
        assert rows.watermarks(topic) == {0: 0}

    wait_until(lambda: broker.committed(group, topic, 1) == {0: 5}, "the offset does not reach Kafka")
    assert rows.watermarks(topic) == {0: 5}


def waiting_for_a_lock(url: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()


# -- holes in the log -------------------------------------------------------------------------


def test_records_that_retention_took_first_are_a_recorded_gap(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    broker.produce(topic, values(0, 4))
    app = consumers.start(topic, counting.sync_handler, config={"group.id": group})
    wait_until(lambda: rows.succeeded() == 4, "not all events have finished")
    stop(app, broker, group)

    broker.produce(topic, values(4, 10))
    broker.delete_records(topic, {0: 7})
    consumers.start(topic, counting.sync_handler, config={"group.id": group})
    wait_until(lambda: rows.succeeded() == 7, "reading does not go on behind the gap")

    assert offsets(counting) == [0, 1, 2, 3, 7, 8, 9]
    assert rows.gaps() == [(0, 4, 7)]
    assert rows.unexplained_holes() == []


def test_a_log_that_lost_all_its_records_is_a_gap_once_there_is_a_new_one(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    app = consumers.start(topic, counting.sync_handler, config={"group.id": group})
    wait_until(lambda: rows.holders() and rows.watermarks(topic) == {0: 0}, "the group has not begun")
    stop(app, broker, group)

    broker.produce(topic, values(0, 5))
    broker.delete_records(topic, {0: 5})
    consumers.start(topic, counting.sync_handler, config={"group.id": group})
    broker.produce(topic, values(5, 6))
    wait_until(lambda: rows.succeeded() == 1, "reading does not go on behind the gap")

    assert offsets(counting) == [5]
    assert rows.gaps() == [(0, 0, 5)]


def test_records_of_an_aborted_transaction_are_not_delivered_and_markers_are_gaps(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    producer = broker.producer(**{"transactional.id": unique_name("writer")})
    producer.init_transactions(SECONDS)
    for committed in (False, True, True):
        producer.begin_transaction()
        for _ in range(2):
            producer.produce(topic, b"committed" if committed else b"aborted", partition=0)
        producer.flush(SECONDS)
        if committed:
            producer.commit_transaction(SECONDS)
        else:
            producer.abort_transaction(SECONDS)

    consumers.start(topic, counting.sync_handler, ordering="partition")
    wait_until(lambda: rows.succeeded() == 4, "not all events have finished")

    # 0 and 1 are aborted, 2 is the marker of that, 3 and 4 are records, 5 a marker, 6 and 7 records
    assert counting.order == [(0, 3), (0, 4), (0, 6), (0, 7)]
    assert {message.value for message in counting.messages} == {b"committed"}
    assert rows.gaps() == [(0, 0, 3), (0, 5, 6)]
    assert rows.unexplained_holes() == []


def test_a_watermark_beyond_the_end_of_the_log_halts_that_partition_only(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    broker.produce_spread(topic, values(0, 6), 2)
    app = consumers.start(topic, counting.sync_handler, config={"group.id": group})
    wait_until(lambda: rows.succeeded() == 6, "not all events have finished")
    stop(app, broker, group)
    rows.query("UPDATE {t}watermarks SET next_offset = 50 WHERE partition = 0")

    app = consumers.start(topic, counting.sync_handler, config={"group.id": group})
    broker.produce_spread(topic, values(6, 10), 2)
    wait_until(lambda: rows.succeeded() == 8, "the other partition does not go on")
    wait_until(lambda: states(app)[0][0] == "halted", "the partition is not halted")

    assert offsets(counting, 0) == [0, 1, 2]
    assert offsets(counting, 1) == [0, 1, 2, 3, 4]
    assert "beyond the end of the log" in str(states(app)[0][1])
    wait_until(lambda: states(app)[1][0] == "reading", "the other partition is not reading")
    assert rows.watermarks(topic) == {0: 50, 1: 5}

"""Rules 7 to 9: what stops a partition or a consumer, how it shows, and what an operator does about it."""

import logging
from typing import Any

import pytest
from confluent_kafka.cimpl import NewPartitions

from dbos_events.app import App
from dbos_events.errors import RegistrationError
from dbos_events_kafka.topics import Topics
from tests.conftest import TopicFactory, unique_name
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import SECONDS, Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until
from tests.servers.kafka import create_topic

QUICK = {"topic.metadata.refresh.interval.ms": 500}


def values(first: int, end: int) -> list[bytes]:
    return [str(number).encode() for number in range(first, end)]


def states(app: App) -> dict[int, tuple[str | None, str]]:
    """State and detail of each partition, as `kafka status` shows them."""
    found = app.launched.storage.positions.read(None)
    return {row.partition: (row.state, str(row.detail)) for row in found}


def stop(app: App, broker: Broker, group: str) -> None:
    app.destroy(workflow_completion_timeout_sec=10)
    wait_until(lambda: broker.members(group) == 0, "the member has not left")


def storage(app: App) -> Any:
    return app.launched.storage


# -- truncation -------------------------------------------------------------------------------


def test_another_record_where_the_last_one_was_taken_in_halts_the_partition(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    broker.produce_spread(topic, values(0, 8), 2)
    config = {"group.id": group}
    app = consumers.start(topic, Counting().sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 8, "not all events have finished")
    stop(app, broker, group)
    rows.query(  # as if the log had been cut and written anew meanwhile, beyond the watermark
        "UPDATE {t}events SET fingerprint = 1 WHERE workflow_id = "
        "(SELECT id FROM {t}workflows WHERE partition = 0 AND position = 3)"
    )
    broker.produce_spread(topic, values(8, 12), 2)

    again = Counting()
    app = consumers.start(topic, again.sync_handler, config=config)
    wait_until(lambda: states(app)[0][0] == "halted", "the partition is not halted")
    wait_until(lambda: rows.watermarks(topic)[1] == 6, "the other partition does not go on")

    assert "offset 3 holds another record" in states(app)[0][1]
    assert sorted(again.executions) == [(1, 4), (1, 5)]
    assert rows.watermarks(topic) == {0: 4, 1: 6}
    health = app.health()
    assert not health.ready
    assert "is halted" in health.problems[0]


def test_a_truncated_partition_is_read_on_as_a_branch_when_an_operator_says_so(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    broker.produce_spread(topic, values(0, 8), 2)
    config = {"group.id": group}
    counting = Counting()
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 8, "not all events have finished")
    stop(app, broker, group)
    rows.query("UPDATE {t}watermarks SET next_offset = 50 WHERE partition = 0")
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: states(app)[0][0] == "halted", "the partition is not halted")
    stop(app, broker, group)
    broker.produce(topic, values(8, 70))  # the log grows beyond the watermark: it stays halted
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: len(rows.holders()) == 2, "nobody holds the partitions")
    stays(lambda: states(app)[0][0] == "halted", "it is read on without a decision", seconds=2)

    with pytest.raises(RegistrationError, match="Find the first offset that is new"):
        storage(app).decisions.resolve_truncation("rules", "consumer", (topic, 0), None)
    decided = storage(app).decisions.resolve_truncation("rules", "consumer", (topic, 0), 4)
    wait_until(lambda: rows.succeeded() == 8 + 62, "the branch is not read")
    broker.produce_spread(topic, values(0, 4), 2)
    wait_until(lambda: rows.succeeded() == 8 + 66, "not both partitions are read on")

    assert set(counting.executions.values()) == {1}
    branched = rows.query("SELECT id FROM {t}workflows WHERE incarnation = ?", [decided.incarnation])
    assert len(branched) == 64
    assert all(f"/{decided.incarnation}/0/" in str(id_) for (id_,) in branched)
    wait_until(lambda: app.health().ready, "it does not get ready")
    stop(app, broker, group)
    broker.produce(topic, values(0, 1))
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 8 + 67, "the next process does not find the branch")
    assert set(counting.executions.values()) == {1}


# -- regression -------------------------------------------------------------------------------


def went_back(consumers: Consumers, broker: Broker, rows: Rows, topic: str, config: dict[str, Any]) -> None:
    """Six events are taken in and committed; then the database is as it was after four."""
    broker.produce(topic, values(0, 6))
    app = consumers.start(topic, Counting().sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 6, "not all events have finished")
    stop(app, broker, config["group.id"])
    assert broker.committed(config["group.id"], topic, 1) == {0: 6}
    for table in ("events", "results", "checkpoints"):
        rows.query(
            f"DELETE FROM {{t}}{table} WHERE workflow_id IN (SELECT id FROM {{t}}workflows WHERE position >= 4)"
        )
    rows.query("DELETE FROM {t}workflows WHERE position >= 4")
    rows.query("UPDATE {t}watermarks SET next_offset = 4")


def test_a_database_that_went_back_is_told_and_the_events_are_replayed(
    group: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = kafka_topic()
    config = {"group.id": group}
    went_back(consumers, broker, rows, topic, config)
    again = Counting()
    with caplog.at_level(logging.ERROR, "dbos_events"):
        app = consumers.start(topic, again.sync_handler, config=config)
        wait_until(lambda: rows.succeeded() == 6, "the events are not replayed")

    assert sorted(again.executions) == [(0, 4), (0, 5)]
    assert "went back" in caplog.text
    assert "the database went back" in states(app)[0][1]
    assert storage(app).decisions.clear_alarms("rules", "consumer") == 1


@pytest.mark.parametrize("skip", [False, True], ids=["replay", "skip"])
def test_a_database_that_went_back_halts_the_partition_where_that_is_asked_for(
    skip: bool, group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    config = {"group.id": group}
    went_back(consumers, broker, rows, topic, config)
    again = Counting()
    app = consumers.start(topic, again.sync_handler, config=config, on_regression="halt")
    wait_until(lambda: states(app)[0][0] == "halted", "the partition is not halted")
    broker.produce(topic, values(6, 7))
    stays(lambda: again.total == 0, "it is read without a decision", seconds=1.5)

    storage(app).decisions.resolve_regression("rules", "consumer", (topic, 0), skip=skip)
    wait_until(lambda: rows.watermarks(topic) == {0: 7}, "it is not read on")
    expected = [(0, 6)] if skip else [(0, 4), (0, 5), (0, 6)]
    wait_until(lambda: sorted(again.executions) == expected, "not what was decided")
    assert rows.unexplained_holes() == []


def test_what_another_tool_has_committed_is_no_regression(
    group: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = kafka_topic()
    config = {"group.id": group}
    broker.produce(topic, values(0, 4))
    app = consumers.start(topic, Counting().sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 4, "not all events have finished")
    stop(app, broker, group)
    broker.produce(topic, values(4, 8))
    broker.commit(group, topic, {0: 7})

    with caplog.at_level(logging.WARNING, "dbos_events"):
        consumers.start(topic, Counting().sync_handler, config=config, on_regression="halt")
        wait_until(lambda: rows.succeeded() == 8, "it is not read on")
    assert "somebody else has committed the offset 7" in caplog.text


# -- topics that come and grow ----------------------------------------------------------------


def test_topics_of_a_pattern_are_read_and_later_ones_from_their_first_record(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    first = kafka_topic(prefix="pattern")
    broker.produce(first, values(0, 3))
    counting = Counting()
    config = {"group.id": group, "auto.offset.reset": "latest", **QUICK}
    consumers.start(f"^{first}.*", counting.sync_handler, config=config)
    wait_until(lambda: rows.watermarks(first) == {0: 3}, "the first topic is not positioned")

    second = f"{first}-later"
    create_topic(broker.bootstrap, second)
    broker.produce(second, values(0, 2))
    broker.produce(first, values(3, 4))
    wait_until(lambda: rows.succeeded() == 3, "not all events have finished")

    found = sorted((str(message.topic), message.offset) for message in counting.messages)
    assert found == [(first, 3), (second, 0), (second, 1)]


def test_a_topic_that_was_missing_at_first_is_read_from_its_first_record(
    group: str, kafka_bootstrap: str, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = unique_name("late")
    counting = Counting()
    config = {"group.id": group, "auto.offset.reset": "latest", **QUICK}
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.query("SELECT 1 FROM {t}subscriptions"), "it is not registered")

    create_topic(kafka_bootstrap, topic)
    broker.produce(topic, values(0, 2))
    wait_until(lambda: rows.succeeded() == 2, "not all events have finished", seconds=60)


def test_more_partitions_are_an_alarm(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    app = consumers.start(topic, Counting().sync_handler, config={"group.id": group, **QUICK})
    wait_until(lambda: rows.watermarks(topic) == {0: 0}, "the group has not begun")
    for future in broker.admin.create_partitions([NewPartitions(topic, 2)]).values():
        future.result(SECONDS)
    wait_until(lambda: 1 in states(app) and "partitions were added" in states(app)[1][1], "no alarm")


# -- lag --------------------------------------------------------------------------------------


def test_the_marker_of_a_transaction_at_the_end_is_no_lag(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    from dbos_events.cli.partitions import fields

    topic = kafka_topic()
    app = consumers.start(topic, Counting().sync_handler)
    producer = broker.producer(**{"transactional.id": unique_name("writer")})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"committed", partition=0)
    producer.commit_transaction(SECONDS)
    wait_until(lambda: rows.succeeded() == 1, "the event has not run")

    def status() -> dict[str, Any]:
        [row] = storage(app).positions.read(None)
        return fields(row, None)

    wait_until(lambda: status()["end_offset"] == 2, "the end is not known")
    wait_until(lambda: status()["lag"] == 0, "the marker is taken for a record")
    assert status()["watermark"] == 1


# -- clusters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("go_on", [True, False], ids=["continue", "restart"])
def test_another_cluster_is_not_read_until_an_operator_decides(
    go_on: bool,
    group: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = kafka_topic()
    broker.produce(topic, values(0, 4))
    app = consumers.start(topic, Counting().sync_handler, config={"group.id": group})
    wait_until(lambda: rows.succeeded() == 4, "not all events have finished")
    stop(app, broker, group)
    broker.produce(topic, values(4, 6))
    broker.forget_group(group)

    monkeypatch.setattr(Topics, "_cluster_id", lambda _self: "another")
    again = Counting()
    app = consumers.start(topic, again.sync_handler, config={"group.id": group})
    wait_until(lambda: "adopt-cluster" in "".join(app.health().problems), "the health does not say it")
    assert again.total == 0
    storage(app).decisions.adopt_cluster("rules", "consumer", "continue" if go_on else "restart")
    expected = 2 if go_on else 6
    wait_until(lambda: again.total == expected, "it is not read on as decided")
    assert sorted(again.executions) == [(0, offset) for offset in range(6 - expected, 6)]

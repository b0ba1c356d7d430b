"""What a consumer says of itself: health, the status of its partitions, its bounds, and its end."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from dbos_events import KafkaMessage
from dbos_events.app import App
from dbos_events.model.consumer import PartitionState
from dbos_events_kafka.testing import ApiKey, EmbeddedBroker
from tests.conftest import unique_name
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until
from tests.servers.kafka import create_topic

QUICK = {"reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 200}


@pytest.fixture
def stored(migrated_sqlite: str) -> Rows:
    """The system database of `local`."""
    return Rows(migrated_sqlite)


class Blocking(Counting):
    """Events with the value `wait` wait until they are let go; those with `bad` fail."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def sync_handler(self, message: KafkaMessage) -> None:
        self.began(message)
        if message.value == b"bad":
            raise ValueError("bad")
        if message.value == b"wait":
            self.go_on.wait(60)
        self.ended()


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    handler = Blocking()
    yield handler
    handler.go_on.set()


def problem(app: App) -> str:
    """What stands in the way, in one line; empty when the App is ready."""
    health = app.health()
    assert health.live, health
    assert health.ready == (not health.problems)
    return "; ".join(health.problems)


def wait_for_problem(app: App, text: str) -> None:
    wait_until(lambda: text in problem(app), f"the health does not say {text!r}")


def wait_ready(app: App) -> None:
    wait_until(lambda: not problem(app), f"not ready: {app.health()}")


def partitions(app: App) -> dict[int, PartitionState]:
    return {row.partition: row for row in app.launched.storage.positions.read(None)}


# -- what stands in the way -------------------------------------------------------------------


def test_a_broker_that_is_down_at_the_start_is_waited_for(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", "a")
    embedded.set_down()

    app = local.start("orders", Counting().sync_handler, config=QUICK)
    wait_for_problem(app, "check bootstrap.servers")
    embedded.set_up()

    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    wait_ready(app)


def test_a_broker_that_goes_and_comes_back_is_noticed_on_a_quiet_topic(
    local: Consumers, embedded: EmbeddedBroker
) -> None:
    embedded.create_topic("orders")
    app = local.start("orders", Counting().sync_handler, config=QUICK)
    wait_ready(app)

    embedded.set_down()
    wait_for_problem(app, "check bootstrap.servers")
    embedded.set_up()

    wait_ready(app)


def test_a_member_without_a_partition_is_ready_again_when_the_broker_is_back(
    local: Consumers, embedded: EmbeddedBroker
) -> None:
    embedded.create_topic("orders")
    apps = [local.start("orders", Counting().sync_handler, config=QUICK) for _ in range(2)]
    for app in apps:
        wait_ready(app)

    embedded.set_down()
    for app in apps:
        wait_for_problem(app, "check bootstrap.servers")
    embedded.set_up()

    for app in apps:
        wait_ready(app)


def test_a_topic_that_is_missing_is_named_and_waited_for(
    consumers: Consumers, kafka_bootstrap: str, broker: Broker, rows: Rows
) -> None:
    topic = unique_name("late")
    app = consumers.start(topic, Counting().sync_handler, config=QUICK)
    wait_for_problem(app, f"the topic {topic} does not exist")
    stays(lambda: problem(app), "it is ready without its topic", seconds=1.5)

    create_topic(kafka_bootstrap, topic)
    broker.produce(topic, ["a"])

    wait_until(lambda: rows.succeeded() == 1, "the event has not run")
    wait_ready(app)


def test_a_right_to_the_topic_that_is_missing_is_named_and_waited_for(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", "a")
    embedded.inject_topic_error("orders", KafkaError.TOPIC_AUTHORIZATION_FAILED)

    app = local.start("orders", Counting().sync_handler, config=QUICK)
    wait_for_problem(app, "no right to read the topic")
    stays(lambda: problem(app), "it is ready without its right", seconds=1.5)
    embedded.inject_topic_error("orders", KafkaError.NO_ERROR)

    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    wait_ready(app)


def test_a_right_to_the_group_that_is_missing_is_named_and_waited_for(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", "a")
    denied = [KafkaError.GROUP_AUTHORIZATION_FAILED]
    embedded.inject_request_errors(ApiKey.FIND_COORDINATOR, denied * 1000)

    app = local.start("orders", Counting().sync_handler, config=QUICK)
    wait_for_problem(app, "no right to use the group")
    embedded.clear_request_errors(ApiKey.FIND_COORDINATOR)

    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    wait_ready(app)


def test_a_client_that_the_group_refuses_for_good_is_replaced(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    embedded.create_topic("orders")
    app = local.start("orders", Counting().sync_handler, config=QUICK)
    wait_ready(app)

    embedded.inject_request_errors(ApiKey.CONSUMER_GROUP_HEARTBEAT, [KafkaError.GROUP_AUTHORIZATION_FAILED])
    wait_until(lambda: problem(app), "the error does not show")
    embedded.produce("orders", "a")

    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    wait_ready(app)


# -- numbers ----------------------------------------------------------------------------------


def test_the_status_of_each_partition_adds_up(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, blocking: Blocking
) -> None:
    embedded.create_topic("orders", 3)
    embedded.produce("orders", "ok", "bad", "held", "held", partition=0)
    embedded.produce("orders", "ok", "wait", "held", partition=1)
    app = local.start("orders", blocking.sync_handler, ordering="partition", app_executor_id="me")
    wait_until(lambda: stored.watermarks() == {0: 4, 1: 3, 2: 0}, "not all is taken in")
    wait_until(lambda: stored.succeeded() == 2 and stored.quarantined(), "the lanes are not where they stop")

    wait_until(lambda: {row.end_offset for row in partitions(app).values()} == {0, 3, 4}, "no ends yet")
    shown = partitions(app)
    assert [(row.topic, row.holder, row.holder_alive, row.state) for row in shown.values()] == [
        ("orders", "me", True, "reading")
    ] * 3
    assert [(row.next_offset, row.end_offset) for row in shown.values()] == [(4, 4), (3, 3), (0, 0)]
    assert [row.quarantined for row in shown.values()] == [1, 0, 0]
    assert [(row.in_flight, row.held) for row in shown.values()] == [(0, 2), (1, 1), (0, 0)]

    blocking.go_on.set()
    wait_until(lambda: stored.succeeded() == 4, "the lane does not go on")
    assert [(row.in_flight, row.held) for row in partitions(app).values()] == [(0, 2), (0, 0), (0, 0)]


def test_what_is_left_in_kafka_shows_as_lag(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, blocking: Blocking
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", *["wait"] * 50)
    app = local.start("orders", blocking.sync_handler, max_in_flight=5, batch_size=5)

    wait_until(lambda: partitions(app) and partitions(app)[0].end_offset == 50, "no end yet")
    wait_until(lambda: blocking.total == 5, "not five events run")
    row = partitions(app)[0]
    assert (row.next_offset, row.end_offset, row.in_flight) == (5, 50, 5)

    blocking.go_on.set()
    wait_until(lambda: stored.succeeded() == 50, "not all events have finished")
    wait_until(lambda: partitions(app)[0].in_flight == 0, "something still runs")
    assert partitions(app)[0].next_offset == 50


# -- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_no_more_events_run_at_once_than_allowed(
    ordering: str, local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    embedded.create_topic("orders", 4)
    for partition in range(4):
        embedded.produce("orders", *["x"] * 50, partition=partition)
    counting = Counting()

    def slow(message: KafkaMessage) -> None:
        counting.began(message)
        time.sleep(0.002)
        counting.ended()

    local.start("orders", slow, ordering=ordering, max_in_flight=3)
    wait_until(lambda: stored.succeeded() == 200, "not all events have finished")

    assert counting.most_at_once <= 3
    assert set(counting.executions.values()) == {1}


def test_an_event_that_sleeps_for_long_gives_its_place_to_others(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", *["sleep"] * 3, *["x"] * 20)
    app = local.app(park_after_seconds=0.1)

    def handler(message: KafkaMessage) -> None:
        if message.value == b"sleep":
            app.sleep(3600)

    local.declare(app, "orders", handler, max_in_flight=2, batch_size=2)
    local.launch(app)

    wait_until(lambda: stored.succeeded() == 20, "the sleeping events keep the places of the others")
    assert stored.one("SELECT count(*) FROM workflows WHERE status = 'PENDING' AND wake_at IS NOT NULL") == 3


# -- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_destroy_does_not_wait_for_a_handler_that_hangs_and_another_app_finishes_its_event(
    ordering: str, local: Consumers, embedded: EmbeddedBroker, stored: Rows, blocking: Blocking
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", "wait", "x")
    app = local.start("orders", blocking.sync_handler, ordering=ordering, app_shutdown_timeout_seconds=1.0)
    wait_until(lambda: (0, 0) in blocking.executions and stored.watermarks() == {0: 2}, "it does not run")

    began = time.monotonic()
    app.destroy(workflow_completion_timeout_sec=60)
    took = time.monotonic() - began

    assert took < 10
    assert stored.statuses()["PENDING"] >= 1
    healthy = Counting()
    local.start("orders", healthy.sync_handler, ordering=ordering)
    wait_until(lambda: stored.succeeded() == 2, "the other App does not finish the event")
    assert healthy.executions[0, 0] == 1
    blocking.go_on.set()  # what the first handler returns now is not wanted any more
    stays(lambda: stored.statuses() == {"SUCCESS": 2}, "the late handler changed something", seconds=0.5)


def test_an_app_that_drains_takes_nothing_more_in(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, blocking: Blocking
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", "wait")
    app = local.start("orders", blocking.sync_handler)
    wait_until(lambda: blocking.total == 1, "it does not run")
    ended: list[Any] = []
    stopping = threading.Thread(
        target=lambda: ended.append(app.destroy(workflow_completion_timeout_sec=30)), daemon=True
    )
    launched = app.launched
    stopping.start()
    wait_until(lambda: "draining" in launched.health().problems, "it does not drain")

    embedded.produce("orders", "x")
    stays(lambda: stored.watermarks() == {0: 1}, "it takes more in while it drains", seconds=1.5)
    blocking.go_on.set()
    stopping.join(30)

    assert ended == [None]
    assert stored.statuses() == {"SUCCESS": 1}

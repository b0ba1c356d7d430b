"""What may go wrong around the client: said once, seen in the status, waited for calmly, over by itself."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from dbos_events.cli.root import app as command_line
from dbos_events_kafka.source import KafkaSource
from dbos_events_kafka.testing import EmbeddedBroker
from tests.conftest import TopicFactory, unique_name
from tests.connectors.kafka.consuming import CLASSIC, Consumers, Counting
from tests.connectors.kafka.troubles import Troubles
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until
from tests.servers.kafka import create_topic
from tests.servers.kafka_secure import SecureKafkaServer

QUICK = {"reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 200}
NOBODY_ANSWERS = "no broker answers; check bootstrap.servers and the network"


@pytest.fixture
def on_broker(migrated_sqlite: str, kafka_bootstrap: str) -> Iterator[Consumers]:
    """Apps on a SQLite file and the real broker."""
    with Consumers(migrated_sqlite, kafka_bootstrap) as made:
        yield made


def wait_run(stored: Rows, count: int) -> None:
    wait_until(lambda: stored.succeeded() == count, "not all events have run")


def status(url: str) -> list[dict[str, Any]]:
    """What `kafka status --json` prints."""
    arguments = ["kafka", "status", "--all-applications", "--json", "--database", url]
    done = CliRunner().invoke(command_line, arguments, catch_exceptions=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# -- brokers ----------------------------------------------------------------------------------


def test_a_broker_that_is_down_at_the_start_costs_one_line_and_no_time(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, troubles: Troubles
) -> None:
    embedded.create_topic("orders")
    embedded.produce("orders", "a")
    embedded.set_down()

    app = local.start("orders", Counting().sync_handler)
    troubles.wait_for(app, NOBODY_ANSWERS)
    troubles.wait_for_line(app, NOBODY_ANSWERS)
    troubles.assert_calm(app, NOBODY_ANSWERS)
    embedded.set_up()

    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    troubles.wait_ready(app)


def test_a_broker_that_goes_in_the_middle_costs_one_line_and_shows_at_its_partitions(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, troubles: Troubles, migrated_sqlite: str
) -> None:
    embedded.create_topic("orders")
    app = local.start("orders", Counting().sync_handler)
    troubles.wait_ready(app)
    wait_until(lambda: [row["state"] for row in status(migrated_sqlite)] == ["reading"], "it does not read")

    embedded.set_down()
    troubles.wait_for(app, NOBODY_ANSWERS)
    troubles.assert_calm(app, NOBODY_ANSWERS)
    wait_until(
        lambda: [(row["partition"], row["state"]) for row in status(migrated_sqlite)] == [(0, "waiting")],
        "the status does not show it",
    )
    assert NOBODY_ANSWERS in status(migrated_sqlite)[0]["detail"]
    embedded.set_up()

    troubles.wait_ready(app)
    embedded.produce("orders", "a")
    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    wait_until(
        lambda: [row["state"] for row in status(migrated_sqlite)] == ["reading"], "it does not read on"
    )


def test_a_name_that_cannot_be_resolved_is_said(local: Consumers, troubles: Troubles) -> None:
    app = local.start("orders", Counting().sync_handler, config={"bootstrap.servers": "nowhere.invalid:9092"})
    said = "the broker's name cannot be resolved; check bootstrap.servers"
    troubles.wait_for(app, said)
    assert "nowhere.invalid" in troubles.problem(app)
    troubles.assert_calm(app, said)


def test_a_bad_address_beside_a_good_one_is_no_trouble(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, troubles: Troubles
) -> None:
    embedded.create_topic("orders")
    addresses = f"nowhere.invalid:9092,127.0.0.1:1,{embedded.bootstrap_servers}"
    app = local.start("orders", Counting().sync_handler, config={"bootstrap.servers": addresses, **QUICK})
    embedded.produce("orders", "a")
    wait_until(lambda: stored.succeeded() == 1, "the event has not run")

    troubles.wait_ready(app)
    troubles.assert_quiet(lambda: not troubles.problem(app))
    assert len(troubles.warnings) <= 1, troubles.warnings


def test_one_broker_of_three_that_is_down_does_not_make_the_service_unready(
    migrated_sqlite: str, stored: Rows, troubles: Troubles
) -> None:
    with EmbeddedBroker(3) as cluster, Consumers(migrated_sqlite, cluster.bootstrap_servers) as consumers:
        cluster.create_topic("orders")
        cluster.set_leader("orders", 0, 1)
        app = consumers.start("orders", Counting().sync_handler, config=QUICK)
        troubles.wait_ready(app)
        cluster.set_down(3)
        troubles.assert_quiet(lambda: not troubles.problem(app))
        cluster.produce("orders", "a")
        wait_until(lambda: stored.succeeded() == 1, "the event has not run")
        assert troubles.warnings == []


# -- topics -----------------------------------------------------------------------------------


def test_a_topic_that_is_missing_has_a_line_in_the_status(
    on_broker: Consumers, kafka_bootstrap: str, stored: Rows, troubles: Troubles, migrated_sqlite: str
) -> None:
    topic = unique_name("late")
    app = on_broker.start(topic, Counting().sync_handler, app_executor_id="me")
    said = f"the topic {topic} does not exist; create it"
    troubles.wait_for(app, said)
    troubles.wait_for_line(app, said)
    (row,) = status(migrated_sqlite)
    expected = {"topic": topic, "partition": None, "holder": "me", "holder_alive": True, "state": "waiting"}
    assert {key: row[key] for key in expected} == expected
    troubles.assert_calm(app, said)

    create_topic(kafka_bootstrap, topic)
    Broker(kafka_bootstrap).produce(topic, ["a"])

    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    troubles.wait_ready(app)
    wait_until(
        lambda: [row["partition"] for row in status(migrated_sqlite)] == [0], "the line is not replaced"
    )


def test_a_topic_that_is_missing_beside_one_that_is_read_is_said_once(
    on_broker: Consumers, kafka_topic: TopicFactory, kafka_bootstrap: str, stored: Rows, troubles: Troubles
) -> None:
    there, missing = kafka_topic(), unique_name("late")
    broker = Broker(kafka_bootstrap)
    app = on_broker.start([there, missing], Counting().sync_handler)
    said = f"the topic {missing} does not exist; create it"
    troubles.wait_for(app, said)
    for number in range(3):
        broker.produce(there, ["a"])
        wait_run(stored, number + 1)
    troubles.assert_calm(app, said)

    create_topic(kafka_bootstrap, missing)
    broker.produce(missing, ["b"])
    wait_until(lambda: stored.succeeded() == 4, "the topic is not read when it is there")
    troubles.wait_ready(app)


def test_a_consumer_that_no_process_has_is_shown_as_such(
    local: Consumers, troubles: Troubles, migrated_sqlite: str
) -> None:
    app = local.start("orders", Counting().sync_handler)
    troubles.wait_for(app, "the topic orders does not exist")
    app.destroy()

    (row,) = status(migrated_sqlite)
    assert (row["consumer"], row["state"], row["holder"]) == ("consumer", "no process", None)


def test_a_member_without_a_partition_stands_by(
    on_broker: Consumers, kafka_topic: TopicFactory, troubles: Troubles, migrated_sqlite: str
) -> None:
    topic = kafka_topic()
    for label in ("one", "two"):
        app = on_broker.start(topic, Counting().sync_handler, app_executor_id=label)
        troubles.wait_ready(app)

    wait_until(
        lambda: sorted(row["state"] for row in status(migrated_sqlite)) == ["reading", "standing by"],
        "the second process is not shown",
    )
    assert {row["holder"] for row in status(migrated_sqlite)} == {"one", "two"}


# -- membership -------------------------------------------------------------------------------

STATIC: dict[str, dict[str, Any]] = {
    "classic": {"group.protocol": "classic", **CLASSIC},
    "broker-assigned": {"group.protocol": "consumer"},
}


@pytest.mark.parametrize("protocol", STATIC)
def test_a_static_member_that_restarts_keeps_its_partitions(
    protocol: str, on_broker: Consumers, kafka_topic: TopicFactory, stored: Rows, kafka_bootstrap: str
) -> None:
    topic = kafka_topic(2)
    config = {**STATIC[protocol], "group.id": unique_name("group")}
    apps = {
        name: on_broker.start(
            topic, Counting().sync_handler, config={**config, "group.instance.id": name}, app_executor_id=name
        )
        for name in ("a", "b")
    }
    wait_until(lambda: sorted(stored.holders().values()) == ["a", "b"], "not each has a partition")
    before, epochs = stored.holders(), stored.one(EPOCHS)
    apps["a"].destroy()
    stays(lambda: stored.one(EPOCHS) == epochs, "the other member took over at once", seconds=0.5)

    on_broker.start(
        topic, Counting().sync_handler, config={**config, "group.instance.id": "a"}, app_executor_id="a"
    )
    wait_until(lambda: stored.holders() == before, "it did not get its partition back")
    Broker(kafka_bootstrap).produce_spread(topic, ["x", "y"], 2)
    wait_until(lambda: stored.succeeded() == 2, "not both partitions are read")
    assert stored.one(EPOCHS) == epochs + 1, "the other member's partition was moved, too"


EPOCHS = "SELECT sum(epoch) FROM watermarks"


@pytest.mark.parametrize("protocol", STATIC)
def test_of_two_members_with_one_instance_id_one_reads_and_one_says_why_it_does_not(
    protocol: str,
    on_broker: Consumers,
    kafka_topic: TopicFactory,
    stored: Rows,
    kafka_bootstrap: str,
    troubles: Troubles,
) -> None:
    topic = kafka_topic()
    config = {**STATIC[protocol], "group.id": unique_name("group"), "group.instance.id": "same"}
    first = on_broker.start(topic, Counting().sync_handler, config=config, app_executor_id="first")
    troubles.wait_ready(first)
    wait_until(lambda: stored.holders() == {0: "first"}, "the first one has no partition")
    second = on_broker.start(topic, Counting().sync_handler, config=config, app_executor_id="second")
    out, reading = (first, second) if protocol == "classic" else (second, first)

    troubles.wait_for(out, "with the same group.instance.id; give each process its own")
    troubles.wait_ready(reading)
    holder = "second" if protocol == "classic" else "first"
    troubles.assert_quiet(lambda: stored.holders() == {0: holder})
    assert len([one for one in troubles.warnings if "group.instance.id" in one]) == 1, troubles.warnings
    Broker(kafka_bootstrap).produce(topic, ["a"])
    wait_until(lambda: stored.succeeded() == 1, "nobody reads")

    reading.destroy()
    Broker(kafka_bootstrap).produce(topic, ["b"])
    wait_until(lambda: stored.succeeded() == 2, "it does not go on when the other has gone", seconds=40)
    troubles.wait_ready(out)


def test_a_poll_thread_that_stood_still_for_too_long_joins_again(
    on_broker: Consumers,
    kafka_topic: TopicFactory,
    stored: Rows,
    kafka_bootstrap: str,
    troubles: Troubles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic, broker = kafka_topic(), Broker(kafka_bootstrap)
    group = unique_name("group")
    config = {**STATIC["classic"], "group.id": group, "max.poll.interval.ms": 10_000}
    app = on_broker.start(topic, Counting().sync_handler, config=config)
    troubles.wait_ready(app)
    go_on = threading.Event()
    poll = KafkaSource._poll

    def stands_still(source: KafkaSource) -> None:
        go_on.wait(60)
        poll(source)

    with monkeypatch.context() as patched:
        patched.setattr(KafkaSource, "_poll", stands_still)
        wait_until(lambda: broker.members(group) == 0, "the member is not given up")
        go_on.set()
    broker.produce(topic, ["a", "b"])

    wait_until(lambda: stored.succeeded() == 2, "it does not join again")
    troubles.wait_ready(app)
    said = [one for one in troubles.warnings if "max.poll.interval.ms" in one]
    assert len(said) == 1, troubles.warnings


def test_a_database_that_blocks_does_not_cost_the_membership(
    on_broker: Consumers, kafka_topic: TopicFactory, stored: Rows, kafka_bootstrap: str, troubles: Troubles
) -> None:
    topic, broker, group = kafka_topic(), Broker(kafka_bootstrap), unique_name("group")
    config = {"group.id": group, "max.poll.interval.ms": 10_000}
    counting = Counting()
    app = on_broker.start(topic, counting.sync_handler, config=config)
    troubles.wait_ready(app)
    with stored.blocked():
        broker.produce(topic, [str(number) for number in range(1000)])
        stays(
            lambda: broker.members(group) == 1 and app.health().live,
            "the membership was lost",
            seconds=11,
        )
    wait_until(lambda: stored.succeeded() == 1000, "it does not go on")
    troubles.wait_ready(app)
    assert set(counting.executions.values()) == {1}
    assert not [one for one in troubles.warnings if "max.poll.interval.ms" in one]
    assert stored.one(EPOCHS) == 1
    assert len(troubles.warnings) <= 5, troubles.warnings


# -- records that are damaged -----------------------------------------------------------------


def test_a_damaged_record_is_named_and_never_skipped(
    secure_kafka: SecureKafkaServer, migrated_sqlite: str, stored: Rows, troubles: Troubles
) -> None:
    topic = unique_name("orders")
    create_topic(secure_kafka.bootstrap, topic, partitions=2)
    broker = Broker(secure_kafka.bootstrap)
    for number in range(4):
        broker.produce(topic, [f"this is number {number}"])
    segment = secure_kafka.segment(topic)
    place = segment.read_bytes().index(b"number 2")
    overwrite(segment, place, b"NUMBER")
    counting = Counting()
    with Consumers(migrated_sqlite, secure_kafka.bootstrap) as consumers:
        app = consumers.start(topic, counting.sync_handler, ordering="partition")
        said = f"{topic}[0] stands at offset 2: the record that the broker sends is damaged"
        troubles.wait_for(app, said)
        wait_until(lambda: stored.succeeded() == 2, "what comes before it is not read")
        troubles.assert_calm(app, said)
        shown = {row["partition"]: (row["state"], row["detail"]) for row in status(migrated_sqlite)}
        assert shown[0][0] == "waiting"
        assert said in shown[0][1]
        assert shown[1] == ("reading", None), "the other partition has no trouble"

        overwrite(segment, place, b"number")

        wait_until(lambda: stored.succeeded() == 4, "it does not go on when the record is whole again")
        troubles.wait_ready(app)
    assert [message.value for message in counting.messages] == [b"this is number %d" % n for n in range(4)]
    assert stored.gaps() == []


def overwrite(file: Any, place: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(data)

"""Of the client's calls only those are made that cannot end the process; docs/kafka.md lists them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

import dbos_events_kafka
from dbos_events.connect import Intake
from dbos_events_kafka.doubts import Doubts
from dbos_events_kafka.pollwork import Commands
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.topics import Topics
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import CLASSIC
from tests.faults.waiting import wait_until

ROOT = Path(dbos_events_kafka.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "kafka.md"
ENDS_THE_PROCESS = {
    "describe_consumer_groups",
    "list_consumer_group_offsets",
    "alter_consumer_group_offsets",
    "delete_consumer_groups",
}
"""They look for a group's coordinator through the client's worker for administration."""


def calls() -> set[str]:
    """The methods of the two kinds of client that the connector calls, its testing kit apart."""
    methods = {name for kind in (Consumer, AdminClient) for name in dir(kind) if not name.startswith("_")}
    found = set()
    for path in ROOT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = ast.unparse(node.func.value)
            if node.func.attr in methods and re.search(r"consumer|client|asker|admin", of):
                found.add(node.func.attr)
    return found


def test_no_call_that_can_end_the_process_is_made() -> None:
    assert {"poll", "consume", "committed", "list_offsets"} <= calls(), "the search finds nothing"
    assert calls() & ENDS_THE_PROCESS == set()


def test_every_call_that_is_made_is_in_the_table_of_the_page() -> None:
    table = PAGE.read_text().partition("### Calls of the client")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(\w+)`", table))
    assert calls() - {"make", "member"} <= listed


@pytest.fixture
def topic(kafka_topic: TopicFactory) -> str:
    return kafka_topic()


def doubts(bootstrap: str, group: str, instance: str) -> Doubts:
    settings = ConsumerSettings(
        {"bootstrap.servers": bootstrap, "group.id": group, "group.instance.id": instance}, group, "earliest"
    )
    intake = cast("Intake", SimpleNamespace(options=SimpleNamespace(topics=["orders"])))
    return Doubts(intake, settings, Topics(intake, settings), Commands(), SourceState("consumer"))


@pytest.fixture
def member(kafka_bootstrap: str, group: str, topic: str) -> Iterator[Consumer]:
    settings: dict[str, Any] = {**CLASSIC, "bootstrap.servers": kafka_bootstrap, "group.id": group}
    consumer = Consumer({**settings, "group.instance.id": "pod-1"})
    consumer.subscribe([topic])

    def joined() -> bool:
        consumer.poll(0.1)
        return bool(consumer.assignment())

    wait_until(joined, "the member does not join")
    yield consumer
    consumer.close()


@pytest.mark.kafka
def test_a_place_that_another_member_has_is_not_free(
    kafka_bootstrap: str, group: str, member: Consumer
) -> None:
    assert not doubts(kafka_bootstrap, group, "pod-1").instance_is_free()
    assert doubts(kafka_bootstrap, group, "pod").instance_is_free()
    assert doubts(kafka_bootstrap, group, "pod-1-").instance_is_free()
    assert doubts(kafka_bootstrap, group, "pod-2").instance_is_free()


@pytest.mark.kafka
def test_a_place_in_a_group_that_nobody_is_in_is_free(kafka_bootstrap: str, group: str) -> None:
    assert doubts(kafka_bootstrap, group, "pod-1").instance_is_free()


def test_nothing_is_known_of_a_place_while_nobody_answers(group: str) -> None:
    assert not doubts("127.0.0.1:1", group, "pod-1").instance_is_free()

"""The id of a workflow names its event: two different events never share one (rule P3)."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbos_events.model.naming import log_prefix
from dbos_events.runtime.encoding import id_prefix
from tests.conftest import TopicFactory, unique_name
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

Event = tuple[str, str, int, int, int]

SEPARATORS = "/-%. \x00ä2"
words = st.one_of(
    st.text(alphabet=SEPARATORS + "a1", max_size=6),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12),
)
numbers = st.integers(0, 30)
events = st.tuples(words, words, numbers, numbers, numbers)


def id_of(event: Event) -> str:
    group, topic, incarnation, partition, offset = event
    return f"{id_prefix(log_prefix('kafka', group), topic, incarnation, partition)}{offset}"


def rewritten(event: Event, cut: int) -> Event:
    """Another event whose parts, joined without care, read the same: the border moves into the topic."""
    group, topic, incarnation, partition, offset = event
    joined = f"{group}/{topic}"
    cut %= len(joined)
    return joined[:cut], joined[cut + 1 :], incarnation, partition, offset


@given(events, events)
def test_two_different_events_never_share_an_id(one: Event, other: Event) -> None:
    assert (id_of(one) == id_of(other)) == (one == other)


@given(events, st.integers(0, 20))
def test_a_border_between_two_parts_cannot_be_moved(one: Event, cut: int) -> None:
    other = rewritten(one, cut)
    assert (id_of(one) == id_of(other)) == (one == other)


@given(words, words, numbers, numbers, numbers)
def test_each_part_can_be_read_back_from_an_id(
    group: str, topic: str, incarnation: int, partition: int, offset: int
) -> None:
    from urllib.parse import unquote

    kind, *parts = id_of((group, topic, incarnation, partition, offset)).split("/")
    assert kind == "kafka"
    assert [unquote(part) for part in parts] == [group, topic, str(incarnation), str(partition), str(offset)]


@given(words, words, numbers, numbers, numbers)
def test_an_id_is_printable_and_has_no_blanks(
    group: str, topic: str, incarnation: int, partition: int, offset: int
) -> None:
    safe = set(string.ascii_letters + string.digits + "/%-._~")
    assert set(id_of((group, topic, incarnation, partition, offset))) <= safe


def test_a_hyphen_in_a_topic_is_no_separator() -> None:
    assert id_of(("g", "a-1", 1, 2, 0)) != id_of(("2-g", "a", 1, 1, 0))
    assert id_of(("g", "a", 1, 12, 3)) != id_of(("g", "a", 11, 2, 3))
    assert id_of(("g", "a", 1, 2, 13)) != id_of(("g", "a", 1, 21, 3))


@pytest.mark.slow
def test_topics_and_groups_that_joined_by_hyphens_read_the_same_run_all_their_events(
    kafka_topic: TopicFactory, kafka_bootstrap: str, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    first = kafka_topic(3, prefix="a")
    from tests.servers.kafka import create_topic

    second = f"{first}-1"
    create_topic(kafka_bootstrap, second, partitions=3)
    broker.produce(second, ["of topic a-1"], partition=2)
    broker.produce(first, ["of topic a"], partition=1)
    counting = Counting()
    app = consumers.app()
    for name, topic, group in (("one", second, "g"), ("other", first, "2-g")):
        handler = counting.sync_handler
        decorate = app.kafka_consumer(
            {"bootstrap.servers": kafka_bootstrap, "group.protocol": "consumer", "group.id": group},
            topic,
            name=name,
        )

        def handle(message: object, handler: object = handler) -> None:
            handler(message)  # type: ignore[operator]

        decorate(app.workflow(name=name)(handle))
    consumers.launch(app)

    wait_until(lambda: rows.succeeded() == 2, "not both events have run")

    assert {message.value for message in counting.messages} == {b"of topic a-1", b"of topic a"}


@pytest.mark.parametrize("group", ["a/b", "100%", "with a space", "größe", "a/b%2Fc", "-"])
def test_odd_characters_in_a_group_make_an_id_of_six_parts(
    group: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    broker.produce(topic, ["one"])
    group_id = f"{unique_name('group')}{group}"
    counting = Counting()

    consumers.start(topic, counting.sync_handler, config={"group.id": group_id})
    wait_until(lambda: rows.succeeded() == 1, "the event has not run")

    found = rows.one("SELECT id FROM {t}workflows")
    assert re.fullmatch(rf"kafka/[^/ ]+/{topic}/\d+/0/0", found)
    assert rows.one("SELECT group_id FROM {t}consumers") == group_id
    assert counting.executions == {(0, 0): 1}

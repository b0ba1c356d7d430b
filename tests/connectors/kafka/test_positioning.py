"""What the intake thread makes of recorded answers: a topic that is made again between two questions, a cut log."""

from collections.abc import Iterable
from typing import Any, cast

import pytest

from dbos_events.connect import Intake, Position
from dbos_events.model.event import ConsumerOptions
from dbos_events.model.topic import TopicHistory
from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.pollwork import Commands
from dbos_events_kafka.positions import Positions
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.topics import Life, Topics

ORDERS = Place("orders", 0)
OTHER = Place("bills", 0)


class RecordedIntake:
    """A consumer of `orders` and `bills` that stands at 5 everywhere."""

    options = ConsumerOptions("consumer", ("orders", "bills"), {})
    default_group = "group"

    def __init__(self) -> None:
        self.halts: list[tuple[int, int, str, int | None]] = []
        self.revoked: list[tuple[int, list[int]]] = []
        self.watermarks = {1: 5, 2: 0, 10: 5}

    def registered(self) -> frozenset[str]:
        return frozenset(self.options.topics)

    def known_partitions(self, _incarnation: int) -> frozenset[int]:
        return frozenset({0})

    def history(self, _topic: str) -> TopicHistory:
        return TopicHistory(known=True, adopted=False)

    def assign(self, incarnation: int, _topic: str, partitions: list[int]) -> list[Position]:
        return [Position(number, self.watermarks[incarnation], None, "taken in") for number in partitions]

    def unfinished(self, _incarnation: int) -> dict[int, frozenset[int]]:
        return {}

    def halt(self, incarnation: int, partition: int, reason: str, divergence: int | None) -> None:
        self.halts.append((incarnation, partition, reason, divergence))

    def revoke(self, incarnation: int, partitions: list[int]) -> None:
        self.revoked.append((incarnation, partitions))


class RecordedTopics(Topics):
    """`ids` are what a topic's descriptions name, one after the other; the last one is repeated."""

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}
        self.ids: dict[str, list[str]] = {"orders": ["first"], "bills": ["bills"]}
        self.ends = {"orders": 5, "bills": 5}
        self.numbers = {"first": 1, "second": 2, "bills": 10}
        self.broken: Exception | None = None

    def _told(self, topic: str) -> str:
        told = self.ids[topic]
        return told.pop(0) if len(told) > 1 else told[0]

    def look(self, topic: str) -> Life:
        if self.broken is not None and topic == "bills":
            raise self.broken
        topic_id = self._told(topic)
        self._lives[topic] = Life(topic_id, self.numbers[topic_id], frozenset({0}))
        return self._lives[topic]

    def still(self, topic: str) -> bool:
        return self._told(topic) == self._lives[topic].topic_id

    def bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        return dict.fromkeys(partitions, (0, self.ends[topic]))

    def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, Any]:
        return {}


class Positioned:
    def __init__(self) -> None:
        self.intake = RecordedIntake()
        self.topics = RecordedTopics()
        self.commands = Commands()
        self.state = SourceState("consumer")
        self.state.joined = True
        self.positions = Positions(
            cast(Intake, self.intake),
            ConsumerSettings({}, "group", "earliest"),
            self.topics,
            Buffers(100),
            self.commands,
            self.state,
        )

    def assign(self, *places: Place) -> dict[Place, tuple[int, int]]:
        """Assign, and position once; gives (incarnation, offset) of what is read."""
        self.positions.assign(places)
        self.positions.position()
        return {
            place: (target.incarnation, target.offset)
            for place, target in self.commands.take_positions().items()
        }


@pytest.fixture
def positioned() -> Positioned:
    return Positioned()


def test_a_watermark_beyond_the_end_halts_when_a_second_look_says_the_same(positioned: Positioned) -> None:
    positioned.topics.ends["orders"] = 3
    assert positioned.assign(ORDERS) == {}
    ((incarnation, partition, reason, divergence),) = positioned.intake.halts
    assert (incarnation, partition, divergence) == (1, 0, None)  # others may stand below the end by now
    assert "beyond the end" in reason
    assert "orders[0] is halted" in positioned.state.detail


def test_a_topic_that_is_made_again_after_it_was_described_is_not_taken_for_a_cut_one(
    positioned: Positioned,
) -> None:
    positioned.topics.ids["orders"] = ["first", "second"]
    positioned.topics.ends["orders"] = 3
    assert positioned.assign(ORDERS) == {}
    assert positioned.intake.halts == []
    assert positioned.assign(ORDERS) == {ORDERS: (2, 0)}


def test_a_new_life_positions_all_partitions_of_the_topic_and_gives_up_the_old_ones(
    positioned: Positioned,
) -> None:
    assert positioned.assign(ORDERS, OTHER) == {ORDERS: (1, 5), OTHER: (10, 5)}
    positioned.topics.ids["orders"] = ["second"]
    positioned.positions.topic_changed("orders")
    assert positioned.assign() == {ORDERS: (2, 0)}
    assert positioned.intake.revoked == [(1, [0])]


def test_a_topic_that_cannot_be_described_holds_up_no_other(positioned: Positioned) -> None:
    from dbos_events.errors import StaleTopic

    positioned.topics.broken = StaleTopic("bills is told differently")
    assert positioned.assign(OTHER, ORDERS) == {ORDERS: (1, 5)}
    assert positioned.state.detail == "bills is told differently"
    positioned.topics.broken = None
    assert positioned.assign(OTHER) == {OTHER: (10, 5)}
    assert positioned.state.detail == ""


@pytest.mark.parametrize("made_again", [False, True])
def test_what_the_client_finds_cut_is_halted_unless_the_topic_was_made_again(
    made_again: bool, positioned: Positioned
) -> None:
    positioned.assign(ORDERS)
    if made_again:
        positioned.topics.ids["orders"] = ["second"]
    positioned.positions.out_of_range([ORDERS], "Partition log truncated at offset 5")
    assert len(positioned.intake.halts) == (0 if made_again else 1)
    assert positioned.assign() == ({ORDERS: (2, 0)} if made_again else {})


def test_an_offset_that_is_out_of_range_is_looked_up_anew(positioned: Positioned) -> None:
    positioned.assign(ORDERS)
    positioned.positions.out_of_range([ORDERS], "Broker: Offset out of range")
    assert positioned.assign(ORDERS) == {ORDERS: (1, 5)}

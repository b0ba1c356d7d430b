"""Rule 7: an event whose id another workflow has stops its partition there; it is neither lost nor run twice."""

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.intakerows import IntakeResult
from tests.storage.building import APP, begin, read, register, workflow
from tests.storage.topics import Topic, topic


@pytest.mark.parametrize("lane", [False, True])
def test_rule_7_an_id_that_a_workflow_without_event_has_stops_the_partition_before_it(
    storage: SqlStorage, lane: bool
) -> None:
    orders = topic(storage, partitions=2, lane=lane)
    executor = register(storage)
    begin(storage, executor, "e-0-2", name="by_hand")
    epochs = [orders.epoch(executor, partition) for partition in (0, 1)]
    result = orders.intake(executor, {0: (epochs[0], 0, 4), 1: (epochs[1], 0, 1)})
    assert result == IntakeResult(conflicts=frozenset({"e-0-2"}), foreign=frozenset({"e-0-2"}))
    assert (orders.watermark(0), orders.watermark(1)) == (2, 1)
    events = [row.workflow_id for row in read(storage, "SELECT workflow_id FROM {schema}.events")]
    assert sorted(events) == ["e-0-0", "e-0-1", "e-1-0"]
    by_hand = workflow(storage, "e-0-2")
    assert (by_hand.name, by_hand.consumer, by_hand.lane_open) == ("by_hand", None, None)


def test_rule_7_the_event_of_another_consumer_is_no_duplicate(storage: SqlStorage) -> None:
    orders = topic(storage)
    other = storage.consumers.save("another", "audit", "handle", "group", ["orders"], "{}")
    storage.positions.create(other, orders.incarnation, {0: (0, "earliest")})
    audit = Topic(storage, other, orders.incarnation)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 1)})
    result = audit.intake(executor, {0: (audit.epoch(executor), 0, 1)})
    assert (result.conflicts, result.foreign) == ({"e-0-0"}, {"e-0-0"})
    [watermark] = read(
        storage, "SELECT next_offset FROM {schema}.watermarks WHERE consumer = :consumer", consumer=other
    )
    assert watermark.next_offset == 0


def test_rule_7_the_event_runs_as_one_of_a_branch_when_an_operator_says_so(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    begin(storage, executor, "e-0-1")
    orders.intake(executor, {0: (orders.epoch(executor), 0, 3)})
    storage.positions.halt(executor, (orders.consumer, orders.incarnation, 0), "taken", 1)
    branch = storage.decisions.resolve_truncation(APP, "orders", ("orders", 0), None)
    assert branch.next_offset == 1
    [position] = storage.positions.assign(executor, orders.consumer, branch.incarnation, [0])
    assert (position.next_offset, position.halted) == (1, None)

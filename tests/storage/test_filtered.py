"""Rule 11: records that a filter leaves out are counted in the transaction that moves the watermark."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dbos_events.errors import ExecutorFenced
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.intakerows import IntakeResult
from dbos_events.storage.subjects.taking import Taker
from tests.storage.building import APP, change, kill, read, register
from tests.storage.topics import Topic, event, topic

Filtered = tuple[int, int, int, int]


def take_in(
    orders: Topic, executor: int, epoch: int, events: Sequence[Any], filtered: Sequence[Filtered], **more: Any
) -> IntakeResult:
    """Offsets 0 to 5 of partition 0."""
    batch = orders.batch(executor, more.pop("moves", {0: (epoch, 0, 6)}), events=events, **more)
    return orders.storage.intake.take_in(replace(batch, filtered=tuple(filtered)))


def rows(storage: SqlStorage) -> list[tuple[Any, ...]]:
    found = read(
        storage,
        "SELECT partition, first_offset, next_offset, reason, records FROM {schema}.gaps ORDER BY 1, 2",
    )
    return [tuple(row) for row in found]


def filtered(storage: SqlStorage) -> dict[int, int]:
    return {state.partition: state.filtered for state in storage.positions.read(APP)}


def test_each_range_is_a_row_beside_the_gaps(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    executor = register(storage)
    epoch = orders.epoch(executor)
    take_in(orders, executor, epoch, [event(0, 2)], [(0, 0, 2, 2), (0, 5, 6, 1)], gaps=[(0, 3, 5)])
    assert rows(storage) == [(0, 0, 2, "filtered", 2), (0, 3, 5, "missing", None), (0, 5, 6, "filtered", 1)]
    assert orders.watermark() == 6
    assert filtered(storage) == {0: 3, 1: 0}


def test_a_batch_of_which_nothing_is_left_moves_the_watermark(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    assert take_in(orders, executor, epoch, [], [(0, 0, 6, 6)]) == IntakeResult()
    assert (orders.watermark(), filtered(storage)) == (6, {0: 6})


def test_the_same_batch_again_counts_nothing_twice(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    for repeated in ((), (0,)):  # the answer to the first commit was lost
        result = take_in(orders, executor, epoch, [event(0, 0)], [(0, 1, 6, 5)])
        assert result == IntakeResult(repeated=frozenset(repeated))
    assert (orders.watermark(), filtered(storage)) == (6, {0: 5})


def test_a_stale_assignment_counts_nothing(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    first, second = register(storage, "a"), register(storage, "b")
    epoch = orders.epoch(first)
    kept = orders.epoch(first, partition=1)
    orders.epoch(second)
    moves = {0: (epoch, 0, 6), 1: (kept, 0, 2)}
    result = take_in(orders, first, epoch, [], [(0, 0, 6, 6), (1, 0, 2, 2)], moves=moves)
    assert result.stale == {0}
    assert filtered(storage) == {0: 0, 1: 2}
    kill(storage, first)
    with pytest.raises(ExecutorFenced):
        take_in(orders, first, epoch, [], [(1, 2, 3, 1)], moves={1: (kept, 2, 3)})


def test_what_lies_behind_a_conflict_is_not_counted(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=3)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 4)})
    epochs = [orders.epoch(executor, number) for number in range(3)]
    change(storage, "UPDATE {schema}.watermarks SET next_offset = 0")
    result = take_in(
        orders,
        executor,
        epochs[0],
        [event(0, 1), event(0, 3, fingerprint=2), event(0, 5)],
        [(0, 0, 1, 1), (0, 2, 3, 1), (0, 4, 5, 1), (1, 0, 3, 3)],
        moves={0: (epochs[0], 0, 6), 1: (epochs[1], 0, 3)},
    )
    assert result.conflicts == {"e-0-3"}
    assert rows(storage) == [(0, 0, 1, "filtered", 1), (0, 2, 3, "filtered", 1), (1, 0, 3, "filtered", 3)]
    assert [orders.watermark(number) for number in range(3)] == [3, 3, 0]


def test_why_an_event_must_not_be_run_is_stored_with_it_once(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    refused = event(0, 1)._replace(refusal=("json", '"why"'))
    orders.intake(executor, {0: (orders.epoch(executor), 0, 2)}, events=[event(0, 0), refused])
    stored = read(storage, "SELECT workflow_id, codec, input FROM {schema}.payloads")
    assert [tuple(row) for row in stored] == [("e-0-1", "json", '"why"')]
    kill(storage, executor)
    successor = register(storage)
    taken = storage.taking.adopt(Taker(successor, APP, "v1", ["handle"]), {"handle": None}, 10)
    assert {row.id: (row.codec, row.input) for row in taken} == {
        "e-0-0": (None, None),
        "e-0-1": ("json", '"why"'),
    }

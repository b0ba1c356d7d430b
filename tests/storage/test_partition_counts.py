"""What `kafka status` counts, also where much is held."""

import time

from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import APP, change, park, quarantine, register, write
from tests.storage.topics import event, topic

HELD = """
INSERT INTO {schema}.workflows
    (id, application, name, status, take, created_at, updated_at, consumer, incarnation, partition, position,
     lane, lane_sequence, lane_open, held)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
SELECT 'held-' || n, 'shop', 'handle', 'PENDING', 0, n, n, :consumer, :incarnation, n % 10, 1000 + n,
       (n % 10) || '/k' || (n % 1000), 1000 + n, true, true
FROM numbers
"""


def test_what_runs_or_sleeps_is_in_flight_and_what_waits_for_its_turn_is_held(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    events = [
        event(0, 0, lane="0/runs"),
        event(0, 1, lane="0/runs"),  # waits in memory
        event(0, 2, lane="0/runs", kept=False),
        event(0, 3, lane="0/sleeps"),
        event(0, 4, lane="0/sleeps", kept=False),
        event(0, 5),
        event(0, 6),  # sleeps, in no lane
        event(0, 7, lane="0/fails"),
        event(0, 8, lane="0/fails", kept=False),
    ]
    orders.intake(executor, {0: (orders.epoch(executor), 0, 9)}, events=events)
    write(storage, executor, park("e-0-3", 10**14), park("e-0-6", 10**14))
    write(storage, executor, quarantine("e-0-7", orders.consumer))
    [state] = storage.positions.read(APP)
    assert (state.in_flight, state.held, state.quarantined) == (4, 4, 1)


def test_what_waits_on_a_queue_is_held(storage: SqlStorage) -> None:
    orders = topic(storage, queue="q")
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 2)})
    [state] = storage.positions.read(APP)
    assert (state.in_flight, state.held) == (0, 2)


def test_two_hundred_thousand_held_events_are_counted_at_once(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=10)
    executor = register(storage)
    batch = orders.batch(executor, {0: (orders.epoch(executor), 0, 1)}, events=[event(0, 0, lane="0/k0")])
    storage.intake.take_in(batch)
    place = {"consumer": orders.consumer, "incarnation": orders.incarnation}
    change(storage, HELD, count=200_000, **place)
    began = time.perf_counter()
    states = storage.positions.read(APP)
    seconds = time.perf_counter() - began
    assert sum(state.held for state in states) == 200_000
    assert sum(state.in_flight for state in states) == 1
    assert seconds < 5, "it reads more than once what is held"

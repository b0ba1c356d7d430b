"""Rule 26 in the storage: what is accepted, what comes again, what is forgotten, and how consumers stand."""

import pytest

from dbos_events.errors import ExecutorFenced, RegistrationError
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.lanes import LanePlace
from dbos_events.testing import ManualClock
from tests.storage.building import APP, end, kill, park, read, register, write
from tests.storage.inboxes import PREFIX, accept, consumer_of, pushed

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def consumer(storage: SqlStorage) -> int:
    return consumer_of(storage)


@pytest.fixture
def executor(storage: SqlStorage) -> int:
    return register(storage)


def count(storage: SqlStorage, table: str) -> int:
    return int(read(storage, f"SELECT count(*) AS n FROM {{schema}}.{table}")[0].n)


def test_a_consumer_keeps_its_number_and_no_other_connector_gets_its_name(
    storage: SqlStorage, consumer: int
) -> None:
    assert storage.inbox.register(APP, "orders", "renamed", "folder", "file/", ["elsewhere"]) == consumer
    with pytest.raises(RegistrationError, match="another connector"):
        storage.inbox.register(APP, "orders", "handle", "other", "other/", [])
    with pytest.raises(RegistrationError, match="folder"):
        storage.consumers.save(APP, "orders", "handle", "group", ["orders"], "{}", "log")
    storage.consumers.save(APP, "records", "handle", "group", ["orders"], "{}", "log")
    with pytest.raises(RegistrationError, match="another connector"):
        storage.inbox.register(APP, "records", "handle", "folder", "file/", [])


def test_nothing_of_an_acceptance_is_kept_when_a_part_of_it_cannot_be(
    storage: SqlStorage, consumer: int, executor: int
) -> None:
    events = [pushed(consumer, "good", lane="k"), pushed(consumer, "bad", headers=object())]
    with pytest.raises(Exception, match=r"object|adapt|serializable"):
        accept(storage, executor, *events)
    assert [count(storage, table) for table in ("workflows", "events", "seen", "lanes")] == [0, 0, 0, 0]


def test_a_dead_executor_accepts_nothing_not_even_what_it_has_seen(
    storage: SqlStorage, consumer: int, executor: int
) -> None:
    accept(storage, executor, pushed(consumer, "1"))
    kill(storage, executor)
    with pytest.raises(ExecutorFenced):
        accept(storage, executor, pushed(consumer, "1"))


def test_a_closed_consumer_tells_what_it_has_seen_and_takes_nothing_in(
    storage: SqlStorage, consumer: int, executor: int
) -> None:
    accept(storage, executor, pushed(consumer, "1"))
    known, unknown, other = accept(
        storage,
        executor,
        pushed(consumer, "1", closed=True),
        pushed(consumer, "2", closed=True),
        pushed(consumer, "1", closed=True, content="other"),
    )
    assert (known.kind, known.workflow_id) == ("duplicate", f"{PREFIX}1")
    assert unknown.kind == "closed"
    assert other.kind == "conflicting-duplicate"
    assert count(storage, "seen") == 1


def test_an_id_that_a_workflow_of_somebody_else_has_is_put_aside_each_time(
    storage: SqlStorage, consumer: int, executor: int
) -> None:
    other = consumer_of(storage, "others")
    accept(storage, executor, pushed(other, "1", digest="other"))
    for _ in range(2):
        (found,) = accept(storage, executor, pushed(consumer, "1"))
        assert found.kind == "conflicting-duplicate"
    (put_aside,) = read(storage, "SELECT * FROM {schema}.quarantine")
    assert (put_aside.workflow_id, put_aside.consumer) == (found.workflow_id, consumer)
    assert count(storage, "workflows") == 2


def test_the_next_of_a_lane_is_ready_where_its_head_was_there_already(
    storage: SqlStorage, clock: ManualClock, consumer: int, executor: int
) -> None:
    accept(storage, executor, pushed(consumer, "1", lane="k", remembered_ms=1))
    write(storage, executor, end(f"{PREFIX}1"))
    clock.move_to(clock.now_ms() + 2)
    assert storage.inbox.forget(10) == 1
    again, new = accept(storage, executor, pushed(consumer, "1", lane="k"), pushed(consumer, "2", lane="k"))
    assert (again.kind, new.kind, new.owned) == ("duplicate", "accepted", False)
    assert storage.inbox.ready_lanes(consumer, "", 10) == ["k"]
    found = storage.lanes.take(executor, LanePlace(consumer, 0, None, 0), ["k"], 5, {"handle": None})
    assert found is not None
    assert [row.id for row in found["k"].rows] == [f"{PREFIX}2"]


def test_lanes_that_nobody_goes_on_with_are_found_page_by_page(
    storage: SqlStorage, consumer: int, executor: int
) -> None:
    for name in "abcd":
        accept(storage, executor, pushed(consumer, f"{name}1", lane=name))
        accept(storage, executor, pushed(consumer, f"{name}2", lane=name))
    write(storage, executor, end(f"{PREFIX}a1"), end(f"{PREFIX}b1"))  # and the process does not ask for more
    write(storage, executor, park(f"{PREFIX}c1", DAY_MS))
    first = storage.inbox.idle_lanes_after(consumer, "", 2)
    second = storage.inbox.idle_lanes_after(consumer, first[-1][0], 2)
    assert [*first, *second] == [("a", True), ("b", True), ("c", False), ("d", False)]
    assert storage.inbox.idle_lanes_after(consumer, "d", 2) == []


def test_ids_are_forgotten_when_their_time_is_over_the_oldest_first_and_no_sooner(
    storage: SqlStorage, clock: ManualClock, consumer: int, executor: int
) -> None:
    for number in range(5):
        accept(storage, executor, pushed(consumer, f"{number}", remembered_ms=number * 1000 + 1000))
    assert storage.inbox.forget(10) == 0
    clock.move_to(clock.now_ms() + 3000)
    assert [storage.inbox.forget(2), storage.inbox.forget(2), storage.inbox.forget(2)] == [2, 1, 0]
    rows = read(storage, "SELECT workflow_id FROM {schema}.seen ORDER BY workflow_id")
    assert [row.workflow_id for row in rows] == [f"{PREFIX}3", f"{PREFIX}4"]


def test_a_lane_is_forgotten_when_nothing_stands_in_it_and_begins_anew(
    storage: SqlStorage, clock: ManualClock, consumer: int, executor: int
) -> None:
    accept(storage, executor, pushed(consumer, "1", lane="k"), pushed(consumer, "2", lane="l"))
    write(storage, executor, end(f"{PREFIX}1"))
    clock.move_to(clock.now_ms() + DAY_MS + 1)
    assert storage.inbox.forget_lanes(DAY_MS) == 1
    assert [row.lane for row in read(storage, "SELECT lane FROM {schema}.lanes")] == ["l"]
    (found,) = accept(storage, executor, pushed(consumer, "3", lane="k"))
    assert found.owned


def test_how_consumers_stand(storage: SqlStorage, consumer: int, executor: int) -> None:
    accept(
        storage,
        executor,
        pushed(consumer, "1", lane="k"),
        pushed(consumer, "2", lane="k"),
        pushed(consumer, "1", content="other"),
        pushed(consumer, "no", workflow_id=None),
    )
    storage.sources.report(executor, consumer, "listening", None)
    (standing,) = storage.inbox.standing(APP)
    assert (standing.consumer, standing.connector, standing.addresses) == ("orders", "folder", ("in",))
    assert (standing.held, standing.quarantined, standing.filtered) == (1, 1, 1)
    assert standing.processes == (("a", "listening", None),)
    assert storage.inbox.standing("another") == []
    assert storage.sources.list_idle(APP) == [], "what is pushed is not among the consumers of logs"

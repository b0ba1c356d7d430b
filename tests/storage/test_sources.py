"""What each process says of its consumers, while it has no partition to say it of."""

from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import APP, read, register


def consumer(storage: SqlStorage, name: str = "on_order") -> int:
    return storage.consumers.save(APP, name, "handler", f"{APP}.{name}", ["orders", "returns"], "{}")


def said(storage: SqlStorage, application: str | None = APP) -> list[tuple[str, str | None, str | None]]:
    return [(row.consumer, row.state, row.detail) for row in storage.sources.list_idle(application)]


def test_a_consumer_that_nobody_has_is_one_row_without_a_process(storage: SqlStorage) -> None:
    consumer(storage)
    [row] = storage.sources.list_idle(APP)
    assert (row.application, row.consumer, row.group) == (APP, "on_order", f"{APP}.on_order")
    assert row.topics == ("orders", "returns")
    assert (row.process, row.state, row.detail) == (None, None, None)


def test_what_a_process_says_last_counts(storage: SqlStorage) -> None:
    number, process = consumer(storage), register(storage)
    storage.sources.report(process, number, "connecting", None)
    storage.sources.report(process, number, "waiting", "no broker answers")
    [row] = storage.sources.list_idle(APP)
    assert row.process is not None
    assert said(storage) == [("on_order", "waiting", "no broker answers")]


def test_each_process_says_its_own(storage: SqlStorage) -> None:
    number = consumer(storage)
    storage.sources.report(register(storage), number, "waiting", "a")
    storage.sources.report(register(storage), number, "waiting", "b")
    assert said(storage) == [("on_order", "waiting", "a"), ("on_order", "waiting", "b")]


def test_a_process_that_has_a_partition_is_no_idle_one(storage: SqlStorage) -> None:
    number = consumer(storage)
    holder, other = register(storage), register(storage)
    for process in (holder, other):
        storage.sources.report(process, number, "standing by", None)
    incarnation = storage.lives.save("cluster", "orders", "id")
    storage.positions.create(number, incarnation, {0: (0, "earliest")})
    storage.positions.assign(holder, number, incarnation, [0])
    assert said(storage) == [("on_order", "standing by", None)]
    storage.executors.release(other)
    assert said(storage) == []
    storage.executors.release(holder)
    assert said(storage) == [], "its partitions are shown, with a holder that is not alive"


def test_what_an_ended_process_said_is_forgotten(storage: SqlStorage) -> None:
    number = consumer(storage)
    first, second = register(storage), register(storage)
    storage.sources.report(first, number, "waiting", "a")
    storage.executors.release(first)
    storage.sources.report(second, number, "waiting", "b")
    assert said(storage) == [("on_order", "waiting", "b")]
    rows = read(storage, "SELECT executor FROM {schema}.source_states")
    assert [row.executor for row in rows] == [second]


def test_other_applications_are_told_on_request(storage: SqlStorage) -> None:
    consumer(storage)
    assert said(storage, "another") == []
    assert said(storage, None) == [("on_order", None, None)]

"""What each process says of its consumers, while it has no partition to say it of."""

from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import APP, read, register


def consumer(storage: SqlStorage, name: str = "on_order") -> int:
    return storage.save_consumer(APP, name, "handler", f"{APP}.{name}", ["orders", "returns"], "{}")


def said(storage: SqlStorage, application: str | None = APP) -> list[tuple[str, str | None, str | None]]:
    return [(row.consumer, row.state, row.detail) for row in storage.list_idle_sources(application)]


def test_a_consumer_that_nobody_has_is_one_row_without_a_process(storage: SqlStorage) -> None:
    consumer(storage)
    [row] = storage.list_idle_sources(APP)
    assert (row.application, row.consumer, row.group) == (APP, "on_order", f"{APP}.on_order")
    assert row.topics == ("orders", "returns")
    assert (row.process, row.state, row.detail) == (None, None, None)


def test_what_a_process_says_last_counts(storage: SqlStorage) -> None:
    number, process = consumer(storage), register(storage)
    storage.report_source(process, number, "connecting", None)
    storage.report_source(process, number, "waiting", "no broker answers")
    [row] = storage.list_idle_sources(APP)
    assert row.process is not None
    assert said(storage) == [("on_order", "waiting", "no broker answers")]


def test_each_process_says_its_own(storage: SqlStorage) -> None:
    number = consumer(storage)
    storage.report_source(register(storage), number, "waiting", "a")
    storage.report_source(register(storage), number, "waiting", "b")
    assert said(storage) == [("on_order", "waiting", "a"), ("on_order", "waiting", "b")]


def test_a_process_that_has_a_partition_is_no_idle_one(storage: SqlStorage) -> None:
    number = consumer(storage)
    holder, other = register(storage), register(storage)
    for process in (holder, other):
        storage.report_source(process, number, "standing by", None)
    incarnation = storage.save_incarnation("cluster", "orders", "id")
    storage.create_watermarks(number, incarnation, {0: (0, "earliest")})
    storage.assign(holder, number, incarnation, [0])
    assert said(storage) == [("on_order", "standing by", None)]
    storage.release_executor(other)
    assert said(storage) == []
    storage.release_executor(holder)
    assert said(storage) == [], "its partitions are shown, with a holder that is not alive"


def test_what_an_ended_process_said_is_forgotten(storage: SqlStorage) -> None:
    number = consumer(storage)
    first, second = register(storage), register(storage)
    storage.report_source(first, number, "waiting", "a")
    storage.release_executor(first)
    storage.report_source(second, number, "waiting", "b")
    assert said(storage) == [("on_order", "waiting", "b")]
    rows = read(storage, "SELECT executor FROM {schema}.source_states")
    assert [row.executor for row in rows] == [second]


def test_other_applications_are_told_on_request(storage: SqlStorage) -> None:
    consumer(storage)
    assert said(storage, "another") == []
    assert said(storage, None) == [("on_order", None, None)]

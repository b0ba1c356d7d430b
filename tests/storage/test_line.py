"""Batches that are sent without waiting: written as others are, or to be written again."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import ConnStatus, ExecStatus

from dbos_events.storage.functions import functions
from dbos_events.storage.line import Line
from dbos_events.storage.rollback import NotAsExpected
from dbos_events.storage.sessions import is_direct
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import WRITTEN, Fenced, Write
from tests.storage.building import begin, change, end, kill, read, register, step, steps, workflow, write
from tests.storage.conftest import Open

PATIENCE = 10.0


@pytest.fixture
def line(postgres_storage: SqlStorage) -> Iterator[Line]:
    line = postgres_storage.open_line()
    assert line is not None
    yield line
    line.close()


def send(storage: SqlStorage, line: Line, executor: int, *writes: Write) -> None:
    assert storage.send_batch(line, executor, writes)
    while not line.flush():
        pass


def answered(line: Line) -> bool:
    """Whether the batch that was sent is written; raises what the line does."""
    while line.busy:
        assert line.wait(PATIENCE), "the server does not answer"
        if line.receive():
            return True
    return False


def ask(storage: SqlStorage, line: Line, executor: int, *writes: Write) -> None:
    send(storage, line, executor, *writes)
    assert answered(line)


@pytest.mark.parametrize("with_other", [False, True], ids=["ends", "and a step of another"])
def test_what_was_sent_is_written_when_its_answer_is_there(
    postgres_storage: SqlStorage, line: Line, with_other: bool
) -> None:
    storage = postgres_storage
    executor = register(storage)
    begin(storage, executor, "w", "other")
    more = [step("other", 1, output="2")] if with_other else []
    send(storage, line, executor, step("w", 1, output="1"), end("w", output='"done"'), *more)
    assert line.busy
    assert answered(line)
    assert not line.busy
    assert workflow(storage, "w").status == "SUCCESS"
    assert (steps(storage, "w"), steps(storage, "other")) == ({1: "1"}, {1: "2"} if with_other else {})


def test_a_step_alone_is_written(postgres_storage: SqlStorage, line: Line) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    for number in (1, 2):
        send(postgres_storage, line, executor, step("w", number, output=f"{number}"))
        assert answered(line)
    assert steps(postgres_storage, "w") == {1: "1", 2: "2"}


def test_what_takes_more_than_one_call_is_not_sent(postgres_storage: SqlStorage, line: Line) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    write = step("w")
    write.reset_crashes = True
    assert not postgres_storage.send_batch(line, executor, [write])
    assert not line.busy


def test_of_a_batch_that_is_refused_nothing_is_kept_and_the_line_goes_on(
    postgres_storage: SqlStorage, line: Line
) -> None:
    storage = postgres_storage
    executor = register(storage)
    begin(storage, executor, "mine", "taken")
    change(storage, "UPDATE {schema}.workflows SET take = 2 WHERE id = 'taken'")
    batch = [end("mine"), end("taken")]
    send(storage, line, executor, *batch)
    with pytest.raises(NotAsExpected):
        answered(line)
    assert workflow(storage, "mine").status == "PENDING"
    assert write(storage, executor, *batch) == [WRITTEN, Fenced("PENDING")]
    begin(storage, executor, "next")
    send(storage, line, executor, end("next"))
    assert answered(line)


def test_what_a_dead_executor_sends_is_not_written(postgres_storage: SqlStorage, line: Line) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    kill(postgres_storage, executor)
    send(postgres_storage, line, executor, end("w"))
    with pytest.raises(NotAsExpected):
        answered(line)
    assert workflow(postgres_storage, "w").status == "PENDING"


def test_a_batch_whose_answer_was_not_waited_for_may_be_written_again(
    postgres_storage: SqlStorage, line: Line
) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    batch = [step("w", 1, output="1"), end("w")]
    send(postgres_storage, line, executor, *batch)
    assert write(postgres_storage, executor, *batch) == [WRITTEN, WRITTEN]
    with suppress(NotAsExpected):  # the second was first
        answered(line)
    assert steps(postgres_storage, "w") == {1: "1"}


def test_a_step_that_is_written_again_after_its_line_stands_once(
    postgres_storage: SqlStorage, line: Line
) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    first, second = step("w", 1, output="1"), step("w", 2, output="2")
    send(postgres_storage, line, executor, first)
    assert write(postgres_storage, executor, first) == [WRITTEN]
    assert write(postgres_storage, executor, second, end("w")) == [WRITTEN, WRITTEN]
    with suppress(NotAsExpected):
        answered(line)
    assert [entry.step for entry in postgres_storage.workflows.list_steps("w")] == [1, 2]


def test_a_connection_that_breaks_says_so(postgres_storage: SqlStorage, line: Line) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    pid = line._connection._driver.info.backend_pid
    assert read(postgres_storage, "SELECT pg_terminate_backend(:pid, 10000) AS done", pid=pid)[0].done
    with pytest.raises(psycopg.OperationalError):
        ask(postgres_storage, line, executor, end("w"))
    assert line.broken
    assert write(postgres_storage, executor, end("w")) == [WRITTEN]


def test_a_pooler_that_loses_prepared_statements_costs_one_refusal(
    postgres_storage: SqlStorage, line: Line
) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w", "next")
    line._pg.nonblocking = 0
    line._pg.exec_(b"DEALLOCATE ALL")
    line._pg.nonblocking = 1
    send(postgres_storage, line, executor, end("w"))
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        answered(line)
    send(postgres_storage, line, executor, end("next"))
    assert answered(line)
    later = postgres_storage.open_line()
    assert later is not None
    send(postgres_storage, later, executor, end("w"))
    assert answered(later)
    later.close()


def test_the_call_itself_is_planned_once(postgres_storage: SqlStorage, line: Line) -> None:
    executor = register(postgres_storage)
    for name in ("a", "b", "c"):
        begin(postgres_storage, executor, name)
        ask(postgres_storage, line, executor, end(name))
    line._pg.nonblocking = 0
    plans = line._pg.exec_(
        b"SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements WHERE statement LIKE '%write_ends%'"
    )
    assert (plans.get_value(0, 0), plans.get_value(0, 1)) == (b"3", b"0")


@pytest.mark.parametrize(("theirs", "direct"), [(b"4711", True), (b"12", False)])
def test_a_pooler_is_known_by_its_process_ids(theirs: bytes, direct: bool) -> None:
    """Its connections are others' as well, and must be left as they are."""
    answer = SimpleNamespace(status=ExecStatus.TUPLES_OK, get_value=lambda _row, _column: theirs)
    pg: Any = SimpleNamespace(status=ConnStatus.OK, backend_pid=4711, exec_=lambda _query: answer)
    assert is_direct(pg) is direct


def test_values_that_the_socket_does_not_take_at_once_arrive(
    postgres_storage: SqlStorage, line: Line
) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    large = "x" * 8_000_000
    with socket.socket(fileno=os.dup(line.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert postgres_storage.send_batch(line, executor, [step("w", 1, output=large)])
    left = not line.flush()
    assert answered(line)
    assert left, "the socket took all at once: the value is too small to show anything"
    assert steps(postgres_storage, "w") == {1: large}


def test_a_value_that_cannot_be_sent_leaves_the_line_as_it_was(
    postgres_storage: SqlStorage, line: Line
) -> None:
    executor = register(postgres_storage)
    begin(postgres_storage, executor, "w")
    with pytest.raises(UnicodeEncodeError):
        postgres_storage.send_batch(line, executor, [step("w", output="\ud800")])
    assert not line.busy
    send(postgres_storage, line, executor, end("w"))
    assert answered(line)


def test_where_the_functions_may_not_be_called_there_is_no_line(postgres_storage: SqlStorage) -> None:
    change(
        postgres_storage, f"ALTER FUNCTION {{schema}}.{functions()['write_ends'].called} RENAME TO not_there"
    )
    try:
        assert postgres_storage.open_line() is None
    finally:
        change(
            postgres_storage,
            f"ALTER FUNCTION {{schema}}.not_there RENAME TO {functions()['write_ends'].called}",
        )
    assert not postgres_storage.database.calls


def test_sqlite_has_no_line(opened: Open, sqlite_url: str) -> None:
    assert opened(sqlite_url).open_line() is None

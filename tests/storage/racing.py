"""Two at once: transactions that stay open, and calls that wait for them."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from dbos_events.storage.database import Tx
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.writes import Result, Write
from dbos_events.storage.writes.family import write_in_turn

R = TypeVar("R")
PATIENCE = 10.0


@contextmanager
def open_transaction(storage: SqlStorage) -> Iterator[Tx]:
    """A transaction of one more process, committed at the end of the block."""
    with storage.database.engine.begin() as connection:
        yield Tx(storage.database, connection)


@contextmanager
def open_batch(storage: SqlStorage, executor: int, *writes: Write) -> Iterator[list[Result]]:
    """A batch that has written and is not committed before the end of the block."""
    with open_transaction(storage) as tx:
        fence(tx, executor)
        yield write_in_turn(tx, executor, writes)


@contextmanager
def meanwhile(work: Callable[[], R]) -> Iterator[Future[R]]:
    """Run `work` in a thread during the block; the future has `result(PATIENCE)`."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool.submit(work)
    finally:
        pool.shutdown(wait=False)


def await_waiting(storage: SqlStorage, future: Future[Any]) -> None:
    """Return when a connection of this database waits for a lock; fail when `future` is done instead."""
    url = storage.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + PATIENCE
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(query).fetchone() == (0,):
            assert not future.done(), f"it did not wait: {future.result()!r}"
            assert time.monotonic() < deadline, "nobody waits for a lock"


def at_once(*works: Callable[[], R]) -> list[R]:
    """Call all from threads that start together; gives what they return, in order."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], R]) -> R:
        barrier.wait(PATIENCE)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        futures: Sequence[Future[R]] = [pool.submit(begin, work) for work in works]
        return [future.result(30.0) for future in futures]

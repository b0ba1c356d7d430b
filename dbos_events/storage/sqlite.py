"""SQLite: one file, write-ahead log, one writer at a time."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event, exc

from dbos_events.clock import Clock
from dbos_events.errors import ConfigurationError
from dbos_events.storage import errorcodes
from dbos_events.storage.database import Database
from dbos_events.storage.forks import InParent, keep_for_ever
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.statements import SQLITE

BUSY_SECONDS = 30
_HELD = (5, 6)
"""BUSY and LOCKED: another connection is at it, and will be done soon (https://www.sqlite.org/rescode.html)."""


class SqliteStorage(SqlStorage):
    """Our schema in a SQLite file; made for one machine, several processes may share the file."""

    def __init__(self, url: sa.URL, clock: Clock) -> None:
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            connect_args={"timeout": float(BUSY_SECONDS), "check_same_thread": False},
        )
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "checkout", self._refuse_moved)
        event.listen(engine, "begin", _begin)
        self._path = _file(url)
        self._was_opened = False
        super().__init__(Database(engine, SQLITE, "", "main", clock))
        _open.add(self)

    def close(self) -> None:
        _open.discard(self)
        super().close()

    def cut(self) -> None:
        """A file always answers, if only that it is locked."""

    def _connect(self, _dialect: object, _record: object, arguments: Any, options: Any) -> Any:
        """Make the file once only: one that was deleted later would come back empty, and look like a new database."""
        if not self._was_opened or options.get("uri"):
            return None
        try:
            return sqlite3.connect(f"file:{quote(arguments[0])}?mode=rw", uri=True, **options)
        except sqlite3.OperationalError:
            if self._identity() is None:
                raise self._moved_away() from None
            raise

    def _moved_away(self) -> sqlite3.OperationalError:
        return sqlite3.OperationalError(f"the file {self._path} was deleted or moved away: restore it")

    def _opened(self, _connection: object, record: Any) -> None:
        record.info["file"] = self._identity()
        self._was_opened = self._was_opened or record.info["file"] is not None

    def _refuse_moved(self, _connection: object, record: Any, _proxy: object) -> None:
        """What is written to a file that was deleted or replaced is kept by nobody, and SQLite does not say so."""
        if record.info["file"] is None:  # it was named in a way that says nothing about its place
            return
        now = self._identity()
        if now is None:
            raise self._moved_away()
        if record.info["file"] != now:
            raise exc.DisconnectionError("The file is another one than the one that was opened.")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - for each transaction: Path takes twice as long
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def listen(self, on_signal: Callable[[str], object]) -> None:
        """SQLite cannot notify; polls are enough."""

    def notify(self, channels: Sequence[str]) -> None:
        """Nobody listens."""

    def notify_within(self, connection: sa.Connection, channels: Sequence[str]) -> None:
        """Nobody listens."""


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    for pragma in (f"busy_timeout={BUSY_SECONDS * 1000}", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()
    _use_write_ahead_log(connection)


def _use_write_ahead_log(connection: Any) -> None:
    """Switch a new file over, once; SQLite asks no busy handler when two processes do it at the same time."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if errorcodes.code_of(error) not in _HELD or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once when another wrote in between,
    # whatever the timeout; so each takes the write lock at its start, unless it will only read.
    only_reads = connection.get_execution_options().get("only_reads", False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


# https://www.sqlite.org/howtocorrupt.html, 2.6: nothing of a connection may be used in a forked process. What SQLite keeps
# of a file in memory, such as which of its locks this process holds, is shared by all connections to it, new ones too.
_open: weakref.WeakSet[SqliteStorage] = weakref.WeakSet()
_of_parent: set[str] = set()


def _after_fork() -> None:
    for storage in tuple(_open):
        database = storage.database
        keep_for_ever(database.engine)
        _of_parent.add(_file(database.engine.url))
        database.engine = cast("sa.Engine", InParent(partial(_refuse, database.engine.url)))
    _open.clear()


def _refuse(url: sa.URL) -> NoReturn:
    raise ConfigurationError(
        f"The SQLite file {url.database} was open when this process was forked from process {os.getppid()}, and SQLite "
        "does not allow a forked process to use it. Fork before the launch, or start processes by 'spawn'."
    )


def _file(url: sa.URL) -> str:
    return os.path.realpath(Path(url.database or "").expanduser())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def open_sqlite(url: sa.URL, clock: Clock) -> SqliteStorage:
    """A storage in a SQLite file; the file is made when it is missing.

    Raises:
        ConfigurationError: The URL names no file, so that each connection would see an empty database of
            its own, or its folder does not exist.
    """
    if url.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "SQLite in memory cannot be shared by the threads of a process. Name a file: sqlite:///app.sqlite."
        )
    folder = Path(url.database or "").expanduser().absolute().parent
    if not folder.is_dir():
        raise ConfigurationError(f"The folder of the SQLite file does not exist: {folder}. Create it first.")
    if _file(url) in _of_parent:
        _refuse(url)
    return SqliteStorage(url, clock)

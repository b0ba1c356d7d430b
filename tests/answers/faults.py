"""Answers of a database that it can be made to give at any statement, without the database that gives them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import exc

from dbos_events.storage.callconnection import CallConnection, Spelled
from dbos_events.storage.database import Tx

SQLSTATES = (
    "01000", "02000", "03000", "08006", "09000", "0A000", "0B000", "0F000", "0L000", "0P000", "0Z000", "10608", "20000",
    "21000", "24000", "25000", "25006", "25P02", "25P03", "25P04", "26000", "27000", "28000", "28P01", "2B000", "2D000",
    "2F000", "34000", "38000", "39000", "3B000", "3D000", "3F000", "40001", "40P01", "40003", "42501", "42601", "42703",
    "42804", "42883", "42P01", "42P05", "44000", "53100", "53200", "53300", "55000", "55006", "55P03", "57000", "57014",
    "57P01", "57P03", "57P05", "58000", "58030", "72000", "F0000", "HV000", "P0000", "P0001", "XX000", "XX001", "ZZ999",
)  # fmt: skip
"""One or more of each class that PostgreSQL has, but for those about data; the last one is of a release to come."""

DATA_STATES = ("22000", "22001", "22003", "22021", "22P02", "22P05", "23000", "23502", "23514", "54000")

SQLITE_CODES = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    266,
    1032,
    2826,
    99,
)
"""SQLite's result codes, but for those about data; some extended ones, and one that does not exist yet."""

DATA_CODES = (18, 19, 20, 2067, 1555)

SECRET = "INSERT INTO dbos_events.checkpoints VALUES ('customer 4711')"
"""What a driver's error shows besides its first line."""


class _Diagnosis:
    def __init__(self, text: str) -> None:
        self.message_primary = text


def of_postgres(state: str) -> Exception:
    """As psycopg raises it, with its context."""
    try:
        kind: type[psycopg.Error] = errors.lookup(state)
    except KeyError:
        kind = type("Unknown", (psycopg.DatabaseError,), {"sqlstate": state})

    class Shown(kind):  # type: ignore[misc,valid-type]
        sqlstate = state
        diag = property(lambda _: _Diagnosis(f"asked for {state}"))

    Shown.__name__ = kind.__name__
    return Shown(f'asked for {state}\nCONTEXT:  SQL statement "{SECRET}"')


def of_sqlite(code: int) -> Exception:
    """As sqlite3 raises it, within what SQLAlchemy makes of it."""
    kind = sqlite3.IntegrityError if code & 0xFF == 19 else sqlite3.OperationalError
    cause = kind(f"asked for {code}")
    cause.sqlite_errorcode = code
    cause.sqlite_errorname = f"SQLITE_{code}"
    wrapped: Exception = exc.DBAPIError.instance(SECRET, {"secret": SECRET}, cause, sqlite3.Error)  # type: ignore[assignment]
    return wrapped


class DriverGone(Exception):
    """Of a driver that has errors of its own."""


OF_DRIVERS = (
    psycopg.InterfaceError("asked for an interface error"),
    psycopg.OperationalError("asked for one without a state"),
    psycopg.ProgrammingError("asked for a programming error"),
    psycopg.InternalError("asked for an internal error"),
    sqlite3.ProgrammingError("asked for a closed database"),
    DriverGone("asked for one of its own"),
    MemoryError("asked for no memory"),
    OSError(5, "asked for one of the system"),
    RuntimeError("asked for one of the runtime"),
)


_FORMS = re.compile(r"_(apart|among|chosen)$")


class Fault:
    """Has one statement fail with one error after the other; with each, `look` sees what health says of that before."""

    def __init__(
        self, statement: str, made: Sequence[Exception], look: Callable[[], Sequence[str]] = list
    ) -> None:
        self.statement = statement
        self.silent: list[str] = []
        """Of which errors health said nothing."""
        self.told: set[str] = set()
        self._left = list(reversed(made))
        self._look = look
        self._before: Exception | None = None

    @property
    def over(self) -> bool:
        return not self._left and self._before is None

    def __call__(self, name: str) -> None:
        if _FORMS.sub("", name) != _FORMS.sub(
            "", self.statement
        ):  # the narrower forms, which a search asks with, too
            return
        if self._before is not None:
            self._check(self._before)
        self._before = self._left.pop() if self._left else None
        if self._before is not None:
            raise self._before.with_traceback(None)

    def _check(self, error: Exception) -> None:
        found = self._look()
        self.told.update(found)
        words = str(getattr(error, "orig", None) or error).partition("\n")[0]
        if not any(words in text for text in found):
            self.silent.append(f"{words}: {found}")


@contextmanager
def at_each_statement(told: Callable[[str], object]) -> Iterator[None]:
    """Have `told` called before each statement, and each call of a function, with its name; it may raise."""
    with pytest.MonkeyPatch.context() as patch:
        for way in ("run", "batch", "change"):
            patch.setattr(Tx, way, _telling(getattr(Tx, way), told))
        execute = CallConnection.execute

        def execute_told(self: CallConnection, call: Spelled, *rest: Any, **more: Any) -> Any:
            told(call.sql.decode().partition("(")[0].rpartition(".")[2])
            return execute(self, call, *rest, **more)

        patch.setattr(CallConnection, "execute", execute_told)
        yield


def _telling(way: Callable[..., Any], told: Callable[[str], object]) -> Callable[..., Any]:
    def telling(self: Tx, name: str, /, *rest: Any, **more: Any) -> Any:
        if not rest or rest[0]:  # without rows nothing is sent
            told(name)
        return way(self, name, *rest, **more)

    return telling

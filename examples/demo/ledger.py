"""What the outside world has seen: a payment provider and a carrier, with a book of their own.

They keep each call that reaches them, and they act once per idempotency key, as real providers do. So
the book shows both: how often a step ran, and how often something really happened.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = """
CREATE TABLE calls (
    number INTEGER PRIMARY KEY, kind TEXT, order_id TEXT, key TEXT, worker TEXT, pid INTEGER, at REAL
);
CREATE TABLE entries (
    key TEXT PRIMARY KEY, kind TEXT, order_id TEXT, cents INTEGER, worker TEXT
);
"""


@dataclass(frozen=True)
class Call:
    """One call that reached the provider: which step of which order, and who made it."""

    kind: str
    order_id: str
    key: str
    worker: str


@dataclass(frozen=True)
class Entry:
    """Something that happened: money was taken, or a parcel left."""

    kind: str
    order_id: str
    cents: int
    worker: str


class Ledger:
    """The book, a SQLite file that several processes write to."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def create(self) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(TABLES)

    def record(self, call: Call, cents: int) -> None:
        """Note the call; act on it unless its key was seen before."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO calls (kind, order_id, key, worker, pid, at) VALUES (?, ?, ?, ?, ?, ?)",
                (call.kind, call.order_id, call.key, call.worker, os.getpid(), time.time()),
            )
            connection.execute(
                "INSERT INTO entries (key, kind, order_id, cents, worker) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO NOTHING",
                (call.key, call.kind, call.order_id, cents, call.worker),
            )

    def calls(self) -> list[Call]:
        return [Call(*row) for row in self._read("SELECT kind, order_id, key, worker FROM calls")]

    def entries(self) -> list[Entry]:
        return [Entry(*row) for row in self._read("SELECT kind, order_id, cents, worker FROM entries")]

    def counts(self) -> dict[tuple[str, str], int]:
        """Calls by worker and kind."""
        rows = self._read("SELECT worker, kind, count(*) FROM calls GROUP BY worker, kind")
        return {(worker, kind): count for worker, kind, count in rows}

    def shipped(self) -> int:
        return int(self._read("SELECT count(DISTINCT order_id) FROM entries WHERE kind = 'ship'")[0][0])

    def _read(self, query: str) -> Sequence[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._file, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

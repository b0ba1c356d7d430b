"""What a run cost the database, asked of PostgreSQL itself: commits, statements, WAL.

Whole runs are counted, the start with its migrations too, so many events are needed for a figure per event.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psycopg

STATEMENTS = "pg_stat_statements"
PRELOAD = {"shared_preload_libraries": STATEMENTS}
COUNT_CALLS = """
    SELECT sum(s.calls) FROM pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid
    WHERE d.datname = %s
"""
COUNT_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = %s"


@dataclass(frozen=True)
class Costs:
    """Of one run, in all; None where the server cannot tell."""

    commits: int
    wal_bytes: int
    statements: int | None

    def each(self, units: int) -> dict[str, float]:
        """Return the metrics per unit of work."""
        found = {"commits_each": self.commits / units, "wal_bytes_each": self.wal_bytes / units}
        if self.statements is not None:
            found["statements_each"] = self.statements / units
        return found


class Meter:
    """Reads what has happened on the server since it was made; nobody else may use the server meanwhile."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._from = self._position()

    def read(self, database: str) -> Costs:
        """Return what the work in this database has cost; its connections must have ended."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            commits = connection.execute(COUNT_COMMITS, (database,)).fetchone()
            calls = None
            with contextlib.suppress(psycopg.Error):  # it is not loaded
                connection.execute(f"CREATE EXTENSION IF NOT EXISTS {STATEMENTS}")
                calls = connection.execute(COUNT_CALLS, (database,)).fetchone()
        return Costs(
            int(commits[0]) if commits else 0,
            self._position() - self._from,
            int(calls[0]) if calls and calls[0] is not None else None,
        )

    def _position(self) -> int:
        """Return how many bytes of WAL the server has written in its life."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
        return int(row[0]) if row else 0

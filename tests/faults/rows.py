"""What the system database says, read past the code under test."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg

from dbos_events.config import DEFAULT_SCHEMA

Row = tuple[Any, ...]


class Rows:
    """Reads the system database of a PostgreSQL or SQLite URL; `{t}` in a query stands for the schema."""

    def __init__(self, url: str, schema: str = DEFAULT_SCHEMA) -> None:
        self.url = url
        self._prefix = "" if url.startswith("sqlite") else f"{schema}."

    def query(self, text: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows that a query gives; `?` marks a parameter."""
        text = text.replace("{t}", self._prefix)
        if self._prefix:
            with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
                cursor = connection.execute(text.replace("?", "%s"), parameters)
                return cursor.fetchall() if cursor.description else []
        connection = self._open()
        try:
            rows = connection.execute(text, parameters).fetchall()
            connection.commit()
            return rows
        finally:
            connection.close()

    def one(self, text: str, parameters: Sequence[Any] = ()) -> Any:
        """The only value of a query's first row; None without rows."""
        rows = self.query(text, parameters)
        return rows[0][0] if rows else None

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Nobody writes to the SQLite file for the time of the block."""
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(urlsplit(self.url).path.removeprefix("/"), timeout=10)

    # -- what tests ask often -----------------------------------------------------------------

    def statuses(self) -> dict[str, int]:
        """How many events' workflows have which status; empty when the schema is not there yet."""
        try:
            counts = self.query(
                "SELECT status, count(*) FROM {t}workflows WHERE consumer IS NOT NULL GROUP BY status"
            )
        except (psycopg.errors.UndefinedTable, sqlite3.OperationalError):
            return {}
        return dict(counts)  # type: ignore[arg-type]

    def succeeded(self) -> int:
        """How many events have finished well."""
        return self.statuses().get("SUCCESS", 0)

    def watermarks(self, topic: str | None = None) -> dict[int, int]:
        """The next offset of each partition of the topic's newest incarnation, or of the only topic."""
        rows = self.query(
            "SELECT m.partition, m.next_offset FROM {t}watermarks m JOIN {t}incarnations i ON i.id = m.incarnation "
            "WHERE i.topic = ? OR CAST(? AS text) IS NULL ORDER BY m.incarnation",
            (topic, topic),
        )
        return dict(rows)  # type: ignore[arg-type]

    def holders(self) -> dict[int, str]:
        """The label of each partition's holder, of those that are alive."""
        rows = self.query(
            "SELECT m.partition, e.label FROM {t}watermarks m JOIN {t}executors e ON e.id = m.holder WHERE e.alive"
        )
        return dict(rows)  # type: ignore[arg-type]

    def gaps(self) -> list[Row]:
        """(partition, first offset, next offset) of what was jumped over."""
        return self.query("SELECT partition, first_offset, next_offset FROM {t}gaps ORDER BY 1, 2")

    def quarantined(self) -> list[Row]:
        """(partition, offset, reason) of what is put aside."""
        return self.query(
            "SELECT w.partition, w.position, q.reason FROM {t}quarantine q JOIN {t}workflows w ON w.id = q.workflow_id "
            "WHERE q.released_at IS NULL ORDER BY 1, 2"
        )

    def unexplained_holes(self) -> list[Row]:
        """(partition, watermark, first offset, workflows, skipped) of partitions where these do not add up.

        Below the watermark every offset has a workflow or lies in a recorded gap.
        """
        return self.query(
            "SELECT partition, next_offset, rows_, skipped FROM ("
            "  SELECT m.partition, m.next_offset,"
            "    (SELECT count(*) FROM {t}workflows w WHERE w.consumer = m.consumer"
            "       AND w.incarnation = m.incarnation AND w.partition = m.partition"
            "       AND w.position < m.next_offset) AS rows_,"
            "    (SELECT COALESCE(sum(g.next_offset - g.first_offset), 0) FROM {t}gaps g"
            "       WHERE g.consumer = m.consumer AND g.incarnation = m.incarnation"
            "       AND g.partition = m.partition) AS skipped"
            "  FROM {t}watermarks m) AS counted WHERE rows_ + skipped <> next_offset"
        )

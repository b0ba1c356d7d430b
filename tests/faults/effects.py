"""The effects that handlers leave behind: a table of the test's own, beside the engine's."""

import threading
from dataclasses import dataclass

import psycopg

CREATE = """
CREATE TABLE IF NOT EXISTS effects (
    seq bigserial PRIMARY KEY, topic text, "partition" int, "offset" bigint, step text, worker text, executor bigint)
"""
INSERT = 'INSERT INTO effects (topic, "partition", "offset", step, worker, executor) VALUES (%s, %s, %s, %s, %s, %s)'


@dataclass(frozen=True, slots=True)
class Effect:
    """One execution of one step; `seq` is the order in which the database saw them.

    `executor` is the process start that ran it, a new one when the process had to register anew.
    """

    seq: int
    topic: str
    partition: int
    offset: int
    step: str
    worker: str
    executor: int

    @property
    def event(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset


class Effects:
    """Appends effects, each durable when `append` returns, and reads them back."""

    def __init__(self, url: str, worker: str = "") -> None:
        self._url = url
        self._worker = worker
        self._lock = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def create(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(CREATE)

    def append(self, topic: str, partition: int, offset: int, step: str, executor: int = 0) -> None:
        with self._lock:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True)
            self._connection.execute(INSERT, (topic, partition, offset, step, self._worker, executor))

    def read(self) -> list[Effect]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            rows = connection.execute(
                'SELECT seq, topic, "partition", "offset", step, worker, executor FROM effects ORDER BY seq'
            )
            return [Effect(*row) for row in rows]

    def count(self) -> int:
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM effects").fetchone()
            return int(row[0]) if row else 0

"""The committer's batches, under the fence."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from dbos_events.storage.database import Database, Tx
from dbos_events.storage.rollback import NotAsExpected
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.plainbatches import FUNCTIONS, begin_plain, write_plain
from dbos_events.storage.subjects.starts import write_starts
from dbos_events.storage.writes import WRITTEN, Result, Write
from dbos_events.storage.writes.family import fits_one_call, write_in_turn
from dbos_events.storage.writes.own_checkpoints import part

if TYPE_CHECKING:
    from dbos_events.storage.line import Line


class BatchTable:
    """Writes batches. Each kind of write is one statement, however many workflows it serves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write_batch(self, executor: int, writes: Sequence[Write]) -> list[Result]:
        with suppress(NotAsExpected):
            if all(write.only_starts for write in writes):
                if self._database.calls:
                    write_starts(self._database, executor, [write.change for write in writes])
                    return [WRITTEN] * len(writes)
            elif fits_one_call(parted := part(writes)):
                write_plain(self._database, executor, writes, parted)
                return [WRITTEN] * len(writes)

        def work(tx: Tx) -> list[Result]:
            fence(tx, executor)
            return write_in_turn(tx, executor, writes)

        return self._database.transact(work)

    def open_line(self) -> Line | None:
        return self._database.open_line(FUNCTIONS)

    def send_batch(self, line: Line, executor: int, writes: Sequence[Write]) -> bool:
        if not self._database.calls or not fits_one_call(parted := part(writes)):
            return False
        begin_plain(self._database, line, executor, writes, parted)
        return True

"""The committer's batches: checkpoints, starts, outcomes and parks under the fence."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from dbos_events.storage.database import Database, NotAsExpected, Row, Tx
from dbos_events.storage.families.executors import fence
from dbos_events.storage.families.generations import is_next_attempt, quarantine_row, retry_generations
from dbos_events.storage.families.plain import PLAIN, are_plain, begin_plain, write_plain
from dbos_events.storage.families.shapes import checkpoint_row, outcome_row, result_rows, start_row
from dbos_events.storage.families.starts import write_starts
from dbos_events.storage.families.together import Ended, part
from dbos_events.storage.line import Line
from dbos_events.storage.writes import (
    WRITTEN,
    Checkpoint,
    Existing,
    Fenced,
    NewWorkflow,
    Park,
    Result,
    Write,
    Written,
)

UNRELATED_POLL_MS = 5000
"""How often a parked workflow looks for the end of one that is not its child."""


class BatchTable:
    """Writes batches. Each kind of write is one statement, however many workflows it serves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write_batch(self, executor: int, writes: Sequence[Write]) -> list[Result]:
        with suppress(NotAsExpected):
            if are_plain(writes):
                write_plain(self._database, executor, writes)
                return [WRITTEN] * len(writes)
            if self._database.calls and all(write.only_starts for write in writes):
                new = [write.start for write in writes if write.start is not None]
                write_starts(self._database, executor, new)
                return [WRITTEN] * len(writes)
        return self._database.transact(lambda tx: _Batch(tx, executor, writes).write())

    def open_line(self) -> Line | None:
        return self._database.open_line(PLAIN)

    def send_batch(self, line: Line, executor: int, writes: Sequence[Write]) -> bool:
        plain = self._database.calls and are_plain(writes)
        if plain:
            begin_plain(self._database, line, executor, writes)
        return plain


class _Batch:
    """One batch in its transaction. `_refused` holds the runs (workflow and take) that have lost a write."""

    def __init__(self, tx: Tx, executor: int, writes: Sequence[Write]) -> None:
        self._tx = tx
        self._executor = executor
        self._writes = writes
        self._parted = part(writes)
        self._results: list[Result] = [WRITTEN] * len(writes)
        self._refused: set[tuple[str, int]] = set()

    def write(self) -> list[Result]:
        fence(self._tx, self._executor)
        self._write_checkpoints()
        resets = [(write.workflow_id, write.take) for write in self._writes if write.reset_crashes]
        self._tx.change(
            "reset_crashes", resets, executor=self._executor
        )  # before a park gives the workflow up
        self._write_starts()
        self._write_outcomes()
        self._write_retries()
        self._write_parks()
        return self._results

    # -- checkpoints --------------------------------------------------------------------------

    def _write_checkpoints(self) -> None:
        entries = self._parted.checkpoints
        if not entries:
            return
        rows = [checkpoint_row(write, entry) for _, write, entry in entries]
        if self._tx.change("insert_checkpoints", rows, executor=self._executor) < len(rows):
            self._judge_checkpoints(entries)

    def _judge_checkpoints(self, entries: list[tuple[int, Write, Checkpoint]]) -> None:
        """What was not inserted is either there by our own hand already, or not ours to write."""
        keys = [(write.workflow_id, write.generation, entry.step) for _, write, entry in entries]
        ours = {
            (row.workflow_id, row.step, row.write_id)
            for row in self._tx.batch("read_written_checkpoints", keys, executor=self._executor)
        }
        lost = [
            (number, write)
            for number, write, entry in entries
            if (write.workflow_id, entry.step, entry.write_id) not in ours
        ]
        self._refuse(lost)

    def _refuse(self, lost: list[tuple[int, Write]]) -> None:
        if not lost:
            return
        tokens = self._tokens([write.workflow_id for _, write in lost])
        for number, write in lost:
            token = tokens.get(write.workflow_id)
            self._results[number] = Fenced(token.status if token is not None else None)
            self._refused.add((write.workflow_id, write.take))

    def _may_go_on(self, number: int, write: Write) -> bool:
        """Whether the write's run has lost none of its checkpoints in this batch; if so, this one is lost too."""
        if (write.workflow_id, write.take) not in self._refused:
            return True
        if isinstance(self._results[number], Written):
            self._results[number] = Fenced(None)
        return False

    def _tokens(self, ids: Sequence[str]) -> dict[str, Row]:
        return {row.id: row for row in self._tx.run("read_tokens", ids=ids)}

    # -- starts -------------------------------------------------------------------------------

    def _write_starts(self) -> None:
        starts = [
            (number, write.start)
            for number, write in enumerate(self._writes)
            if write.start is not None and self._may_go_on(number, write)
        ]
        if not starts:
            return
        rows = [start_row(start) for _, start in starts]
        if self._tx.change("insert_starts", rows, executor=self._executor) < len(rows):
            starts = self._judge_starts(starts)
        payloads = [(start.id, start.codec, start.input) for _, start in starts]
        self._tx.change("insert_payloads", payloads)

    def _judge_starts(self, starts: list[tuple[int, NewWorkflow]]) -> list[tuple[int, NewWorkflow]]:
        """The starts that are ours: inserted now, or by a commit whose answer was lost."""
        tokens = self._tokens([start.id for _, start in starts])
        ours = []
        for number, start in starts:
            token = tokens[start.id]
            if token.start_id == start.start_id:
                ours.append((number, start))
            else:
                self._results[number] = Existing(
                    start.id, token.name, token.status, token.queue, token.class_name
                )
        return ours

    # -- outcomes -----------------------------------------------------------------------------

    def _write_outcomes(self) -> None:
        ended = [end for end in self._parted.ended if self._may_go_on(end.number, end.write)]
        rows = [outcome_row(end) for end in ended]
        if self._tx.change("update_outcomes", rows, executor=self._executor) < len(rows):
            ended = self._judge_outcomes(ended)
        self._write_results(ended)
        self._answer_riders()

    def _judge_outcomes(self, ended: Sequence[Ended]) -> list[Ended]:
        """The outcomes that are ours: written now, or by a commit whose answer was lost."""
        ids = [end.write.workflow_id for end in ended]
        tokens = {row.id: row for row in self._tx.run("lock_tokens", ids=ids)}
        ours = []
        for end in ended:
            token = tokens.get(end.write.workflow_id)
            asked = (self._executor, end.write.take, end.outcome.status, end.checkpoints)
            if token is not None and (token.owner, token.take, token.status, token.own_checkpoints) == asked:
                ours.append(end)
            else:
                self._results[end.number] = Fenced(None if token is None else token.status)
        return ours

    def _answer_riders(self) -> None:
        """What went with a refused outcome is refused as it is; the outcome then comes after a refused write."""
        for number, riders in self._parted.riders.items():
            if isinstance(self._results[number], Fenced):
                for rider, _, _ in riders:
                    self._results[rider] = self._results[number]
                self._results[number] = Fenced(None)

    def _write_results(self, ended: Sequence[Ended]) -> None:
        self._tx.change("insert_results", result_rows(ended))
        notes = [
            quarantine_row(write.workflow_id, note)
            for _, write, outcome, _ in ended
            if (note := outcome.quarantine) is not None
        ]
        self._tx.change("insert_quarantine", notes)
        children = [(end.outcome.parent_id, end.write.workflow_id) for end in ended if end.outcome.parent_id]
        self._tx.change("wake_parents", children)

    # -- retries ------------------------------------------------------------------------------

    def _write_retries(self) -> None:
        retries = [
            (number, write)
            for number, write in enumerate(self._writes)
            if write.retry is not None and self._may_go_on(number, write)
        ]
        if not retries:
            return
        begun = retry_generations(self._tx, self._executor, [write for _, write in retries])
        others = [
            (number, write) for number, write in retries if (write.workflow_id, write.take) not in begun
        ]
        tokens = self._tokens([write.workflow_id for _, write in others]) if others else {}
        self._refuse([(number, write) for number, write in others if not is_next_attempt(tokens, write)])

    # -- parks --------------------------------------------------------------------------------

    def _write_parks(self) -> None:
        parks = [
            (number, write, write.park)
            for number, write in enumerate(self._writes)
            if write.park is not None and self._may_go_on(number, write)
        ]
        if not parks:
            return
        awaited = [park.awaited_id for _, _, park in parks if park.awaited_id is not None]
        locked = {row.id: row for row in self._tx.run("lock_awaited", ids=awaited)} if awaited else {}
        now = self._tx.run("now")[0].now
        rows = [_park_row(write, park, locked, now) for _, write, park in parks]
        if self._tx.change("update_parks", rows, executor=self._executor) < len(rows):
            tokens = self._tokens([write.workflow_id for _, write, _ in parks])
            self._refuse([(number, write) for number, write, _ in parks if not _is_parked(tokens, write)])


def _is_parked(tokens: dict[str, Row], write: Write) -> bool:
    """Parked by this very run: nobody has taken the workflow since."""
    token = tokens.get(write.workflow_id)
    return (
        token is not None and token.owner is None and token.take == write.take and token.status == "PENDING"
    )


def _park_row(write: Write, park: Park, locked: dict[str, Row], now: int) -> tuple[object, ...]:
    """When to wake: at its time, at once if what it waits for has ended, or by a slow poll."""
    wake_at, awaited_id = park.wake_at, park.awaited_id
    if awaited_id is not None:
        row = locked.get(awaited_id)
        if row is None or row.status not in ("PENDING", "ENQUEUED", "DELAYED"):
            return (write.workflow_id, write.take, now, None)
        if park.polls or row.parent_id != write.workflow_id:
            wake_at = min(wake_at or now + UNRELATED_POLL_MS, now + UNRELATED_POLL_MS)
    elif wake_at is None:
        wake_at = now + UNRELATED_POLL_MS
    return (write.workflow_id, write.take, wake_at, awaited_id)

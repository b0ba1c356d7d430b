"""Defects that are put into the product on purpose, to see that the suites find them.

Each breaks one rule of docs/protocol.md in the way in which it would be broken by mistake. A database whose functions were
made without the defect has the rule still: where a defect concerns what they do too, they are not called, and all goes
statement by statement.

`DBOS_EVENTS_DEFECT=name python -m pytest -p tests.defects.everywhere tests/...` runs any suite with one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dbos_events.storage import statements
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.subjects import intake
from dbos_events.storage.subjects.batches import BatchTable
from dbos_events.storage.subjects.intakerows import IntakeBatch, IntakeResult
from dbos_events.storage.writes import Outcome, Result, Write

NAMED = "DBOS_EVENTS_DEFECT"

Put = Callable[[Any, str, Any], object]
"""`setattr`, or that of pytest's monkeypatch, which takes it back."""


def plant(name: str, put: Put = setattr) -> None:
    """Put the defect in. Databases that are open already keep the statements that they have."""
    DEFECTS[name](put)


def plant_named() -> None:
    """Put in for good what the environment names, if it names one."""
    name = os.environ.get(NAMED, "")
    if name:
        plant(name)


def offset_first(put: Put) -> None:
    """Records are committed to Kafka when they were polled, and reading begins where Kafka says."""
    from confluent_kafka import KafkaException

    from dbos_events_kafka.pollwork import Durable
    from dbos_events_kafka.positions import Positions
    from dbos_events_kafka.settings import metadata_of
    from dbos_events_kafka.source import KafkaSource, _committing

    poll, target = KafkaSource._poll, Positions._target

    def commit(source: Any, records: Sequence[tuple[Any, Any]]) -> None:
        reached = source._commands._reached
        last = {place: record for place, record in records if place in source._buffers.opened()}
        offsets = [
            _committing(place, Durable(record.offset + 1, record.leader_epoch, reached[place].incarnation))
            for place, record in last.items()
        ]
        if offsets:
            with suppress(KafkaException):
                source._consumer.commit(offsets=offsets, asynchronous=False)

    def commit_and_buffer(self: Any) -> None:
        add = self._buffers.add
        self._buffers.add = lambda records: (commit(self, records), add(records))
        try:
            poll(self)
        finally:
            del self._buffers.add

    def where_kafka_says(self: Any, place: Any, position: Any, bounds: Any, committed: Any) -> Any:
        if committed is not None and committed.metadata == metadata_of(self._numbers[place]):
            position = replace(position, next_offset=committed.offset, witness=None)
        return target(self, place, position, bounds, committed)

    put(KafkaSource, "_poll", commit_and_buffer)
    put(Positions, "_target", where_kafka_says)


def token_unchecked(put: Put) -> None:
    """Writes ask whether the workflow runs, not whether it runs here and under this take."""
    token = "w.owner = :executor AND w.take = u.{} AND "
    names = {"insert_checkpoints": "take", "update_outcomes": "take", "update_parks": "take"}
    _respell(
        put, {name: (token.format(take), "") for name, take in {**names, "update_retries": "token"}.items()}
    )


def watermark_unchecked(put: Put) -> None:
    """The watermark is set to where the intake says, whoever holds the partition and wherever it stood."""
    compare = intake._compare_watermarks

    def only_lock(tx: Tx, batch: IntakeBatch) -> tuple[set[int], set[int]]:
        compare(tx, batch)
        return set(), set()

    put(intake, "_compare_watermarks", only_lock)
    _call_no_functions(put)


def order_forgotten(put: Put) -> None:
    """Ordered events of a dead process are adopted as all others are, and not left to the holder of their lane."""
    _respell(
        put,
        {
            "adopt_from_dead": ("AND w.lane_open IS NOT TRUE", ""),
            "free_lanes_of_dead": ("AND w.lane_open\n", "AND w.lane_open AND 1 = 0\n"),
        },
    )


def outcome_first(put: Put) -> None:
    """Outcomes are written in a transaction of their own, before the checkpoints of the same batch."""
    whole = BatchTable.write_batch

    def in_two(self: BatchTable, executor: int, writes: Sequence[Write]) -> list[Result]:
        results: dict[int, Result] = {}
        for outcomes in (True, False):
            part = {
                number: write
                for number, write in enumerate(writes)
                if isinstance(write.change, Outcome) == outcomes
            }
            if part:
                results.update(zip(part, whole(self, executor, list(part.values())), strict=True))
        return [results[number] for number in range(len(writes))]

    put(BatchTable, "write_batch", in_two)
    _respell(put, {"insert_checkpoints": (" AND w.status = 'PENDING'", "")})


def watermark_first(put: Put) -> None:
    """The watermark moves in a transaction of its own, before that in which the events are inserted."""
    whole = intake._intake

    def in_two(self: Any, batch: IntakeBatch) -> IntakeResult:
        place = {"consumer": batch.consumer, "incarnation": batch.incarnation}
        moves = [
            {"partition": partition, "next_offset": move[2], "leader_epoch": move[3]}
            for partition, move in sorted(batch.moves.items())
        ]
        self._database.transact(lambda tx: tx.change("move_watermarks", moves, **place))
        result: IntakeResult = self._database.transact(lambda tx: whole(_WithoutMove(tx), batch))
        return result

    put(intake, "_compare_watermarks", lambda tx, batch: (set(), set()))  # noqa: ARG005
    put(intake.IntakeTable, "take_in", in_two)


def fence_of_a_snapshot(put: Put) -> None:
    """Transactions see what was there when they began, as where somebody sets another isolation for the database."""
    import psycopg

    from dbos_events.storage.postgres import PostgresStorage

    prepare = PostgresStorage._prepare_connection

    def of_a_snapshot(self: Any, connection: Any, record: Any) -> None:
        prepare(self, connection, record)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

    put(PostgresStorage, "_prepare_connection", of_a_snapshot)
    _call_no_functions(put)


def unread_dropped(put: Put) -> None:
    """What raises between the client and the buffers ends that poll alone, and reading goes on behind it."""
    from dbos_events_kafka.reading import Reading

    poll = Reading.poll

    def poll_on(self: Any, consumer: Any) -> Any:
        with suppress(Exception):
            return poll(self, consumer)
        return None

    put(Reading, "poll", poll_on)


class _WithoutMove(Tx):
    """A transaction in which the watermark has been moved before."""

    def __init__(self, tx: Tx) -> None:
        super().__init__(tx._database, tx.connection)

    def change(self, name: str, rows: Any, /, **parameters: Any) -> int:
        return 0 if name == "move_watermarks" else super().change(name, rows, **parameters)


def _respell(put: Put, changes: Mapping[str, tuple[str, str]]) -> None:
    """Read these statements with another text in place of the one that they have."""
    read = statements._read

    def respelled() -> Iterator[tuple[str, str]]:
        for name, body in read():
            old, new = changes.get(name, ("", ""))
            assert old in body, f"{name} does not read {old!r} any more"
            yield name, body.replace(old, new) if old else body

    put(statements, "_read", respelled)
    _call_no_functions(put)


def _call_no_functions(put: Put) -> None:
    put(Database, "calls", property(lambda _: False))


DEFECTS: dict[str, Callable[[Put], None]] = {
    "offset first": offset_first,
    "token unchecked": token_unchecked,
    "watermark unchecked": watermark_unchecked,
    "order forgotten": order_forgotten,
    "outcome first": outcome_first,
    "watermark first": watermark_first,
    "fence of a snapshot": fence_of_a_snapshot,
    "unread dropped": unread_dropped,
}

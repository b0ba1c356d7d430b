"""Streams that workflows and their steps write, and readers anywhere."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.api.values import checked_seconds, checked_workflow_id, reading_run, writing_scope
from dbos_events.engine.context import workflow_scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.streams import (
    READ,
    READ_OFFSET,
    entry_to_store,
    read_item,
    read_item_recorded,
    value_of,
    write_entry,
    write_entry_in_step,
)
from dbos_events.engine.outlet import checked_key
from dbos_events.engine.reader import Item, StreamReader
from dbos_events.errors import DBOSStreamTimeoutError
from dbos_events.model.stream import MODES, StreamMode

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow


class Streams(Session):
    """The verbs about streams."""

    def write_stream(self, key: str, value: Any, *, serialization_type: object = None) -> None:
        """Append `value` to the stream `key` of this workflow.

        In a workflow it is written exactly once, together with its record. Entries follow each other without waiting; the
        workflow's next operation of another kind waits until all of them are durable. In a step it is written at least
        once: a new attempt of the step writes its entries again (`read_stream` says how to tell).

        `serialization_type` is accepted for programs written for DBOS Transact; the App's serializer stores every value.

        Raises:
            SerializationError: The value cannot be stored; nothing was.
            DBOSException: It was called outside of workflows and steps, or the key is not usable.
        """
        refuse_on_loop("write_stream")
        drive(_write(self, key, value))

    async def write_stream_async(self, key: str, value: Any, *, serialization_type: object = None) -> None:
        """As `write_stream`, without blocking the loop."""
        await drive_async(_write(self, key, value))

    def close_stream(self, key: str) -> None:
        """End the stream `key` of this workflow: its readers stop there. Written as an entry is."""
        refuse_on_loop("close_stream")
        drive(_close(self, key))

    async def close_stream_async(self, key: str) -> None:
        """As `close_stream`, without blocking the loop."""
        await drive_async(_close(self, key))

    def read_stream(
        self,
        workflow_id: str,
        key: str,
        *,
        offset: int = 0,
        polling_interval_sec: float | None = None,
        timeout_seconds: float | None = None,
        mode: StreamMode = "all",
        with_offset: bool = False,
    ) -> Generator[Any, None, None]:
        """Iterate over the values of a stream, in order, as they come, in any process.

        It ends where the stream was closed, or when its workflow has ended and all was read. In a workflow each value is
        recorded, and a long wait costs a row. However slow the reader is, little is read ahead.

        Args:
            workflow_id: The workflow that writes it.
            key: The name of the stream.
            offset: The first entry to give; entries count from 0.
            polling_interval_sec: How often to look where no signal comes; 1.0 by default.
            timeout_seconds: How long to wait for each value.
            mode: "all": every entry, also of attempts of steps that failed; "live": the same, and a `StreamReset` where a
                new attempt begins; "committed": entries of a step once it has ended well, and only those, each once.
            with_offset: Give pairs of an entry's offset and its value; go on later with the next offset.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
            DBOSStreamTimeoutError: A value did not come in time.
            SerializationError: A value cannot be read here.
        """
        refuse_on_loop("read_stream")
        reading = _Reading(
            self, workflow_id, key, offset, polling_interval_sec, timeout_seconds, mode, name=READ
        )
        return _values(reading, with_offset=with_offset)

    def read_stream_async(
        self,
        workflow_id: str,
        key: str,
        *,
        offset: int = 0,
        polling_interval_sec: float | None = None,
        timeout_seconds: float | None = None,
        mode: StreamMode = "all",
        with_offset: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """As `read_stream`, for `async for`. One that is closed early leaves nothing behind."""
        reading = _Reading(
            self, workflow_id, key, offset, polling_interval_sec, timeout_seconds, mode, name=READ
        )
        return _values_async(reading, with_offset=with_offset)

    def read_stream_offset(
        self,
        workflow_id: str,
        key: str,
        offset: int,
        *,
        polling_interval_sec: float | None = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Wait for one entry of a stream; gives its value. In a workflow it is recorded.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
            DBOSStreamTimeoutError: It did not come in time, or the stream has ended before it.
        """
        refuse_on_loop("read_stream_offset")
        reading = _Reading(
            self, workflow_id, key, offset, polling_interval_sec, timeout_seconds, "all", name=READ_OFFSET
        )
        with closing(reading):
            return reading.value(reading.only(drive(reading.next())))

    async def read_stream_offset_async(
        self,
        workflow_id: str,
        key: str,
        offset: int,
        *,
        polling_interval_sec: float | None = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        """As `read_stream_offset`, without blocking the loop."""
        reading = _Reading(
            self, workflow_id, key, offset, polling_interval_sec, timeout_seconds, "all", name=READ_OFFSET
        )
        with closing(reading):
            return reading.value(reading.only(await drive_async(reading.next())))


def _write(session: Session, key: str, value: Any) -> Flow[None]:
    scope = writing_scope(session, "write_stream")
    checked_key("name of a stream", key)
    form = entry_to_store(scope.run, key, value)
    if scope.step is not None:
        return write_entry_in_step(scope.run, scope.step, key, form)
    return write_entry(scope.run, scope.run.locate(scope), key, form)


def _close(session: Session, key: str) -> Flow[None]:
    scope = writing_scope(session, "close_stream")
    checked_key("name of a stream", key)
    if scope.step is not None:
        return write_entry_in_step(scope.run, scope.step, key, None)
    return write_entry(scope.run, scope.run.locate(scope), key, None)


class _Reading:
    """One reader with its arguments checked."""

    __slots__ = ("_core", "_name", "_poll", "_reader", "_seconds")

    def __init__(
        self,
        session: Session,
        workflow_id: str,
        key: str,
        offset: object,
        polling_interval_sec: float | None,
        timeout_seconds: float | None,
        mode: StreamMode,
        *,
        name: str,
    ) -> None:
        checked_workflow_id(workflow_id)
        checked_key("name of a stream", key)
        if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < 2**63:
            raise ValueError(f"offset={offset!r} is not a number of an entry; they count from 0.")
        poll = 1.0 if polling_interval_sec is None else polling_interval_sec
        if not math.isfinite(poll) or poll < SHORTEST_POLL:
            raise ValueError(
                f"polling_interval_sec={poll!r} is too short, or not a time: give at least {SHORTEST_POLL} seconds."
            )
        if timeout_seconds is not None and timeout_seconds < 0:
            raise ValueError(f"timeout_seconds={timeout_seconds!r} is negative.")
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is not known; it is one of {', '.join(MODES)}.")
        self._core = session.core
        self._reader = StreamReader(self._core, workflow_id, key, offset, mode)
        self._seconds = checked_seconds("timeout_seconds", timeout_seconds)
        self._poll = poll
        self._name = name

    def next(self) -> Flow[Item]:
        """The next item; its place is taken where the caller stands now."""
        scope = workflow_scope()
        if scope is None:
            return read_item(self._core, reading_run(), self._reader, self._seconds, self._poll)
        place = scope.run.locate(scope)
        return read_item_recorded(scope.run, place, self._name, self._reader, self._seconds, self._poll)

    def close(self) -> None:
        """Nobody reads on."""
        self._reader.close()

    def value(self, item: Item) -> Any:
        return value_of(self._core, self._reader, item)

    def only(self, item: Item) -> Item:
        """The item, if it is the entry that was asked for: nothing may have been written at its offset, or ever will be."""
        if item.ends:
            raise DBOSStreamTimeoutError(self._reader.workflow_id, self._reader.stream)
        return item


SHORTEST_POLL = 0.001


def _values(reading: _Reading, *, with_offset: bool) -> Generator[Any, None, None]:
    with closing(reading):
        while not (item := drive(reading.next())).ends:
            value = reading.value(item)
            yield (item.position, value) if with_offset else value


async def _values_async(reading: _Reading, *, with_offset: bool) -> AsyncGenerator[Any, None]:
    with closing(reading):
        while not (item := cast("Item", await drive_async(reading.next()))).ends:
            value = reading.value(item)
            yield (item.position, value) if with_offset else value

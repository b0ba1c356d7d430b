"""From a workflow that was taken to a run that goes on where it stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dbos_events.engine.core import Core
from dbos_events.engine.keys import UsedKeys
from dbos_events.engine.replay import History
from dbos_events.engine.run import EventOrigin, Host, Run
from dbos_events.errors import DBOSException, SerializationError, StorageUnavailable, UndecodablePayload
from dbos_events.model.event import KafkaMessage
from dbos_events.serialization.headers import decode_headers
from dbos_events.storage.rows import StoredEvent, TakenWorkflow

DOUBT_SECONDS = 10.0
"""How long a commit whose answer was lost may still be under way."""


class Taken:
    """Builds runs of taken workflows. `quarantines` tells of each consumer whether it quarantines."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.quarantines: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._under_way = 0
        self._doubtful_until: float | None = None

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Around a taking, and the start of what it took: without an answer it may have made work ours that waits."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        except StorageUnavailable:
            self._doubtful_until = time.monotonic() + DOUBT_SECONDS
            raise
        finally:
            with self._lock:
                self._under_way -= 1

    def start_lost(self, host: Host) -> list[TakenWorkflow]:
        """Start what a taking without an answer has made ours, once no other taking is under way; gives it."""
        with self._lock:
            until = self._doubtful_until
            if until is None or self._under_way:
                return []
            core = self._core
            over = time.monotonic() >= until
            rows = core.storage.lost_takings(core.executor, frozenset(tuple(core.runner.active)))
            self.start(rows, host)
            if over:
                self._doubtful_until = None
            return rows

    def runs(self, rows: Sequence[TakenWorkflow], host: Host | None = None) -> list[Run]:
        """One run per workflow, with its history; checkpoints are read once, here."""
        if not rows:
            return []
        core = self._core
        begun = [row.id for row in rows if row.take > 1]
        histories = core.ask(lambda: core.storage.read_checkpoints(begun)) if begun else {}
        retried = [row.id for row in rows if row.generation > 0]
        diverged = core.ask(lambda: core.storage.read_divergences(retried)) if retried else {}
        used_keys = core.ask(lambda: core.storage.read_used_keys(retried)) if retried else {}
        event_ids = [row.id for row in rows if row.consumer is not None]
        events = core.ask(lambda: core.storage.read_events(event_ids)) if event_ids else {}
        runs = []
        for row in rows:
            run = self._run(row, History(histories.get(row.id, ()), diverged.get(row.id)), events.get(row.id))
            run.host = host
            if row.id in used_keys:
                run.used_keys = UsedKeys(*used_keys[row.id])
            runs.append(run)
        return runs

    def start(self, rows: Sequence[TakenWorkflow], host: Host | None = None) -> None:
        self._core.runner.submit(self.runs(rows, host))

    def _run(self, row: TakenWorkflow, history: History, event: StoredEvent | None) -> Run:
        function = self._core.registry.workflows[row.name]
        args, kwargs, key_prefix, verdict = self._input(row, event)
        origin = None
        if row.consumer is not None:
            quarantines = self.quarantines.get(row.consumer, True)
            # What the filter could not judge carries the reason; a redrive asks the filter again.
            asks_again = row.generation > 0 and row.input is not None
            origin = EventOrigin(row.consumer, quarantines, row.lane is not None, asks_again)
        run = Run(
            self._core,
            row.id,
            function,
            args,
            kwargs,
            take=row.take,
            generation=row.generation,
            crashes=row.crashes,
            history=history if history.steps else None,
            origin=origin,
            queue=row.queue,
            parent_id=row.parent_id,
            root_id=row.root_id,
            attempt=row.attempt,
            key_prefix=key_prefix,
        )
        run.verdict = verdict
        return run

    def _input(
        self, row: TakenWorkflow, event: StoredEvent | None
    ) -> tuple[tuple[Any, ...], dict[str, Any], str | None, BaseException | None]:
        """What the function is called with, what its idempotency keys begin with, or why it must not be called.

        Whatever a damaged row holds is its own workflow's end: the others of the batch are taken already.
        """
        try:
            if row.consumer is None:
                return *self._arguments(row), None
            return (_received(event),), {}, None, self._refusal(row)
        except Exception as error:  # noqa: BLE001 - whatever the reading of a damaged row raises
            return (), {}, None, _unreadable(row, error)

    def _arguments(self, row: TakenWorkflow) -> tuple[tuple[Any, ...], dict[str, Any], str | None]:
        if row.input is None:
            raise SerializationError("The row with it is missing.")
        stored = self._core.codecs.get(row.codec or "json").decode(row.input)
        args = stored.get("args") if isinstance(stored, dict) else None
        kwargs = stored.get("kwargs") if isinstance(stored, dict) else None
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise SerializationError("It does not hold arguments (args, a list, and kwargs, an object).")
        keys = stored.get("keys") if isinstance(stored, dict) else None
        return tuple(args), kwargs, keys if isinstance(keys, str) else None

    def _refusal(self, row: TakenWorkflow) -> BaseException | None:
        """Why an event's handler must not be called: its consumer's filter could not judge it."""
        if row.input is None or row.generation > 0:
            return None
        return self._core.codecs.get(row.codec or "json").decode_error(row.input)


def _unreadable(row: TakenWorkflow, why: Exception) -> DBOSException:
    shown = str(why) if isinstance(why, DBOSException) else f"{type(why).__name__}: {why}"
    if row.consumer is None:
        return SerializationError(f"The stored input of workflow {row.id} cannot be read: {shown}")
    return UndecodablePayload(f"What is stored of the event {row.id} cannot be read: {shown}")


def _received(event: StoredEvent | None) -> KafkaMessage[bytes | None]:
    if event is None:
        raise SerializationError("Its record is missing in the table events.")
    return message_of(event)


def message_of(event: StoredEvent) -> KafkaMessage[bytes | None]:
    """The record as the handler saw it first."""
    return KafkaMessage(
        headers=decode_headers(event.headers),
        key=event.key,
        latency=event.latency,
        leader_epoch=event.leader_epoch,
        offset=event.offset,
        partition=event.partition,
        timestamp=(event.timestamp_type, event.timestamp),
        topic=event.topic,
        value=event.value,
    )

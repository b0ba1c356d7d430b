"""From a workflow that was taken to a run that goes on where it stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dbos_events.engine.core import Core
from dbos_events.engine.replay import History
from dbos_events.engine.run import EventOrigin, Host, Run
from dbos_events.errors import DBOSException, SerializationError
from dbos_events.model.event import KafkaMessage
from dbos_events.runtime.encoding import decode_headers
from dbos_events.storage.rows import StoredEvent, TakenWorkflow
from dbos_events.telemetry.log import logger


class Taken:
    """Builds runs of taken workflows. `quarantines` tells of each consumer whether it quarantines."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._taking = threading.Lock()
        self._in_doubt = False
        self.quarantines: dict[int, bool] = {}

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Within it, workflows become this executor's own and are started: one taking at a time.

        So whatever was taken and is not here was taken by a commit whose answer was lost.
        """
        with self._taking:
            try:
                yield
            except BaseException:
                self._in_doubt = True
                raise

    def start_lost(self) -> None:
        """Start what a taking that failed may have made our own."""
        if not self._in_doubt:
            return
        core = self._core
        with self._taking:
            owned = core.storage.taken_by(core.executor)
            lost = [(id_, take) for id_, take in owned if not self._is_here(id_, take)]
            if lost:
                self.start(core.storage.retake(core.executor, lost))
                logger.info("Started %d workflows that were taken by a commit without an answer.", len(lost))
            self._in_doubt = False

    def _is_here(self, workflow_id: str, take: int) -> bool:
        run = self._core.runner.active.get(workflow_id)
        return run is not None and run.take == take

    def runs(self, rows: Sequence[TakenWorkflow], host: Host | None = None) -> list[Run]:
        """One run per workflow, with its history; checkpoints are read once, here."""
        if not rows:
            return []
        core = self._core
        begun = [row.id for row in rows if row.take > 1]
        histories = core.ask(lambda: core.storage.read_checkpoints(begun)) if begun else {}
        retried = [row.id for row in rows if row.generation > 0]
        diverged = core.ask(lambda: core.storage.read_divergences(retried)) if retried else {}
        event_ids = [row.id for row in rows if row.consumer is not None]
        events = core.ask(lambda: core.storage.read_events(event_ids)) if event_ids else {}
        runs = []
        for row in rows:
            run = self._run(row, History(histories.get(row.id, ()), diverged.get(row.id)), events.get(row.id))
            run.host = host
            runs.append(run)
        return runs

    def start(self, rows: Sequence[TakenWorkflow], host: Host | None = None) -> None:
        self._core.runner.submit(self.runs(rows, host))

    def _run(self, row: TakenWorkflow, history: History, event: StoredEvent | None) -> Run:
        function = self._core.registry.workflows[row.name]
        args, kwargs, verdict = self._input(row, event)
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
        )
        run.verdict = verdict
        return run

    def _input(
        self, row: TakenWorkflow, event: StoredEvent | None
    ) -> tuple[tuple[Any, ...], dict[str, Any], BaseException | None]:
        if event is not None:
            return (message_of(event),), {}, self._refusal(row)
        try:
            stored: Any = self._core.codecs.get(row.codec or "json").decode(row.input or "null")
            return tuple(stored["args"]), dict(stored["kwargs"]), None
        except (DBOSException, KeyError, TypeError, json.JSONDecodeError) as error:
            reason = SerializationError(f"The stored input of workflow {row.id} cannot be read: {error}")
            return (), {}, reason

    def _refusal(self, row: TakenWorkflow) -> BaseException | None:
        """Why an event's handler must not be called: its consumer's filter could not judge it."""
        if row.input is None or row.generation > 0:
            return None
        try:
            return self._core.codecs.get(row.codec or "json").decode_error(row.input)
        except DBOSException as error:
            return SerializationError(f"Why {row.id} must not be run cannot be read: {error}")


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

"""From a workflow that was taken to a run that goes on where it stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Protocol, TypeVar

from dbos_events.engine.context import forget_caller
from dbos_events.engine.core import Core
from dbos_events.engine.keys import UsedKeys
from dbos_events.engine.replay import History
from dbos_events.engine.run import Host, Run
from dbos_events.engine.runvalues import EventOrigin
from dbos_events.engine.takings import OpenTakings
from dbos_events.engine.timelimits import DEADLINES
from dbos_events.errors import (
    DBOSException,
    ExecutorFenced,
    SerializationError,
    StorageError,
    StorageUnavailable,
    UndecodablePayload,
)
from dbos_events.runtime.eventmessages import message_of
from dbos_events.runtime.weights import Weights, portions
from dbos_events.serialization.raised import text_of
from dbos_events.storage.apart import after, halved, passes_by, refuses
from dbos_events.storage.subjects.debounces import DebouncedCall
from dbos_events.storage.subjects.intakerows import StoredEvent
from dbos_events.storage.subjects.taking import TakenWorkflow
from dbos_events.storage.writes.debounce import GATHERED
from dbos_events.telemetry.log import Recurring, logger

DOUBT_SECONDS = 10.0
"""How long a commit whose answer was lost may still be under way."""

PATIENCE = 5.0
"""Seconds that a taking waits for what it needs to read; then it gives back what it took."""

READING = "reading what was taken up"

R = TypeVar("R")


class Ask(Protocol):
    """Asks the database something, and again where that may help."""

    def __call__(self, work: Callable[[], R]) -> R: ...


class Taken:
    """Builds runs of taken workflows. `quarantines` tells of each consumer whether it quarantines."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.quarantines: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._under_way = 0
        self._doubtful_until: float | None = None
        self._trouble = Recurring()
        self._context = copy_context()
        self._context.run(forget_caller)
        self.weights = Weights()
        self.takings = OpenTakings()
        """Those of the services and intakes under way; the starts of callers are in the core's."""

    def new_context(self) -> Context:
        """Context variables as they were at the launch, for code of a user that is called before a run is there."""
        return self._context.copy()

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Around a taking, and the start of what it took: without an answer it may have made work ours that waits."""
        with self._lock:
            self._under_way += 1
        try:
            with self.takings.under_way():
                yield
        except ExecutorFenced:
            raise  # nothing was taken
        except BaseException:
            self._doubtful_until = time.monotonic() + DOUBT_SECONDS
            raise
        finally:
            with self._lock:
                self._under_way -= 1

    def start_lost(self, host: Host) -> list[Run]:
        """Start what a taking without an answer has made ours, once no other taking is under way; gives it."""
        with self._lock:
            until = self._doubtful_until
            if until is None or self._under_way:
                return []
            core = self._core
            over = time.monotonic() >= until
            rows = core.storage.taking.lost(core.executor, frozenset(tuple(core.runner.active)))
            runs = self.runs(rows, host)
            core.runner.submit(runs)
            if over:
                self._doubtful_until = None
            return runs

    def runs(self, rows: Sequence[TakenWorkflow], host: Host | None = None) -> list[Run]:
        """One run per workflow, with its history; checkpoints are read once, here.

        What no run can be made of is given back: nothing is owned that does not run.
        """
        if not rows:
            return []
        executor = self._core.executor
        try:
            runs, strange = self._read(rows, host)
        except BaseException as error:
            self._give_back(executor, rows, error)
            raise
        heavy = [row for row in strange if self.weights.are_too_heavy((row.id,))]
        if heavy:
            self._give_back(executor, heavy, None)
            strange = [row for row in strange if row not in heavy]
        if strange:
            self._give_back(executor, strange, "their functions are not registered any more")
        return runs

    def _read(
        self, rows: Sequence[TakenWorkflow], host: Host | None
    ) -> tuple[list[Run], list[TakenWorkflow]]:
        """As `_made`; what cannot be read of one of them keeps none of the others: it is given back, and waits apart.

        Where nothing can be read, also of no workflow at all, it is not their rows that are to blame.
        """
        apart = self._core.storage.apart
        try:
            made = self._made(rows, host, self._at_once)
        except Exception as error:
            if not refuses(error):
                raise
            apart.note(READING, error)
        else:
            apart.served([row.id for row in rows])
            apart.went_well(READING)
            return made
        note = partial(apart.note, READING)
        found, refused = halved(rows, lambda some: self._made(some, host, self._at_once), note)
        if not found and not self._can_read(note):
            made = self._made(rows, host, self._ask)
            apart.went_well(READING)
            return made
        apart.went_well(READING)
        for row, why in refused:
            apart.put(row.id, why)
        runs = [run for some, _ in found for run in some]
        strange = [row for _, some in found for row in some]
        known = {run.id for run in runs} | {row.id for row in strange}
        left = [row for row in rows if row.id not in known]
        self._give_back(
            self._core.executor, left, refused[0][1] if refused else "one of them could not be read"
        )
        return runs, strange

    def _can_read(self, note: Callable[[Exception], object]) -> bool:
        """Whether the database lets the tables be read that runs are made of."""
        storage = self._core.storage
        generations = storage.generations
        reads = (storage.workflows.read_checkpoints, storage.intake.read_events, storage.debounces.members)
        try:
            for read in (*reads, generations.read_divergences, generations.read_used_keys):
                read([])
        except StorageError as error:
            note(error)
            return False
        return True

    def _give_back(self, executor: int, rows: Sequence[TakenWorkflow], why: object) -> None:
        """Try it at once; what fails here, the watch over what this process owns does later. Without a reason, no word."""
        shown = text_of(why) if isinstance(why, BaseException) else why
        if why is not None:
            self._trouble.say(
                "%s workflows had been taken and could not be started; they are given back: %s",
                len(rows),
                shown,
            )
        try:
            self._core.storage.taking.give_back(executor, [(row.id, row.take) for row in rows])
        except StorageError as error:
            logger.debug("They could not be given back yet: %s", error)
            self.takings.on_doubt()

    def _made(
        self, rows: Sequence[TakenWorkflow], host: Host | None, ask: Ask
    ) -> tuple[list[Run], list[TakenWorkflow]]:
        """The runs, and the rows of functions that are not here, or of events that do not fit into the memory now."""
        core = self._core
        sizes = self._sizes(rows, ask)
        fitting = self.weights.fitting(sizes)
        left_out = [row for row in rows if row.id in sizes and row.id not in fitting]
        if left_out:
            rows = [row for row in rows if row.id not in sizes or row.id in fitting]
        begun = [row.id for row in rows if row.take > 1]
        histories = ask(lambda: core.storage.workflows.read_checkpoints(begun)) if begun else {}
        retried = [row.id for row in rows if row.generation > 0]
        diverged = ask(lambda: core.storage.generations.read_divergences(retried)) if retried else {}
        used_keys = ask(lambda: core.storage.generations.read_used_keys(retried)) if retried else {}
        events: dict[str, StoredEvent] = {}
        for some in portions({row.id: sizes.get(row.id, 0) for row in rows if row.consumer is not None}):
            events |= ask(partial(core.storage.intake.read_events, some))
        gathered = [row.id for row in rows if row.codec == GATHERED]
        members = ask(lambda: core.storage.debounces.members(gathered)) if gathered else {}
        runs, strange = [], left_out
        for row in rows:
            if row.name not in core.registry.workflows:
                strange.append(row)
                continue
            history = History(histories.get(row.id, ()), diverged.get(row.id))
            run = self._run(row, history, events.get(row.id), members.get(row.id))
            run.host = host
            self.weights.weigh(run, sizes.get(row.id, 0))
            if row.id in used_keys:
                run.used_keys = UsedKeys(*used_keys[row.id])
            runs.append(run)
        return runs, strange

    def _tell(self, runs: Sequence[Run]) -> None:
        """Give woken runs the message that each of them may have been woken for, so that none of them looks for it alone."""
        core = self._core
        found = core.storage.messages.first([run.id for run in runs])
        for run in runs:
            if run.id in found:
                topic, message = found[run.id]
                core.mailboxes.of(run).topic(topic).know(message)

    def _sizes(self, rows: Sequence[TakenWorkflow], ask: Ask) -> dict[str, int]:
        """The bytes of the events of these workflows, in their order."""
        ids = [row.id for row in rows if row.consumer is not None]
        if not ids:
            return {}
        found = ask(lambda: self._core.storage.intake.event_sizes(ids))
        return {id_: found.get(id_, 0) for id_ in ids}

    def _ask(self, work: Callable[[], R]) -> R:
        """As `Core.ask`, but not for ever: whoever takes for many must not wait for one table."""
        return self._core.ask(work, PATIENCE)

    def _at_once(self, work: Callable[[], R]) -> R:
        """The same, but a refusal is not waited for: one row may be to blame for it."""
        try:
            return work()
        except StorageUnavailable as error:
            if refuses(error) and not passes_by(error):
                raise
            work = after(error, work)
        return self._ask(work)

    def start(
        self, rows: Sequence[TakenWorkflow], host: Host | None = None, *, woken: bool = False
    ) -> list[TakenWorkflow]:
        """Start what was taken; gives what could not be started, and was given back. `woken`: they were parked."""
        runs = self.runs(rows, host)
        if woken and runs:
            try:
                self._tell(runs)
            except Exception as error:  # noqa: BLE001 - they are taken, so they start; then each of them looks itself
                logger.debug("Woken workflows look for their messages themselves: %s", text_of(error))
        self._core.runner.submit(runs)
        if len(runs) == len(rows):
            return []
        started = {run.id for run in runs}
        return [row for row in rows if row.id not in started]

    def _run(
        self,
        row: TakenWorkflow,
        history: History,
        event: StoredEvent | None,
        members: list[DebouncedCall] | None,
    ) -> Run:
        function = self._core.registry.workflows[row.name]
        args, kwargs, key_prefix, verdict = self.new_context().run(self._input, row, event, members)
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
        run.deadline = row.deadline
        if row.deadline is not None:
            self._core.hub.signal(DEADLINES)
        run.partition = row.queue_partition_key
        return run

    def _input(
        self, row: TakenWorkflow, event: StoredEvent | None, members: list[DebouncedCall] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any], str | None, BaseException | None]:
        """What the function is called with, what its idempotency keys begin with, or why it must not be called.

        Whatever a damaged row holds is its own workflow's end: the others of the batch are taken already.
        """
        try:
            if members is not None:
                calls = [self._decoded(member.codec, member.input)[0][0] for member in members]
                return (calls,), {}, None, None
            if row.consumer is None:
                return *self._arguments(row), None
            return (self._received(row, event),), {}, None, self._refusal(row)
        except BaseException as error:  # noqa: BLE001 - whatever the reading of a damaged row raises
            return (), {}, None, _unreadable(row, error)

    def _arguments(self, row: TakenWorkflow) -> tuple[tuple[Any, ...], dict[str, Any], str | None]:
        if row.input is None:
            raise SerializationError("The row with it is missing.")
        return self._decoded(row.codec, row.input)

    def _decoded(self, codec: str | None, text: str) -> tuple[tuple[Any, ...], dict[str, Any], str | None]:
        stored = self._core.codecs.get(codec or "json").decode(text)
        args = stored.get("args") if isinstance(stored, dict) else None
        kwargs = stored.get("kwargs") if isinstance(stored, dict) else None
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise SerializationError("It does not hold arguments (args, a list, and kwargs, an object).")
        keys = stored.get("keys") if isinstance(stored, dict) else None
        return tuple(args), kwargs, keys if isinstance(keys, str) else None

    def _received(self, row: TakenWorkflow, event: StoredEvent | None) -> Any:
        """The event as its handler saw it first."""
        if event is None:
            raise SerializationError("Its record is missing in the table events.")
        return message_of(event, self._core.registry.workflows[row.name].messages)

    def _refusal(self, row: TakenWorkflow) -> BaseException | None:
        """Why an event's handler must not be called: its consumer's filter could not judge it."""
        if row.input is None or row.generation > 0:
            return None
        return self._core.codecs.get(row.codec or "json").decode_error(row.input)


def _unreadable(row: TakenWorkflow, why: BaseException) -> DBOSException:
    shown = text_of(why) if isinstance(why, DBOSException) else f"{type(why).__name__}: {text_of(why)}"
    if row.consumer is None:
        return SerializationError(f"The stored input of workflow {row.id} cannot be read: {shown}")
    return UndecodablePayload(f"What is stored of the event {row.id} cannot be read: {shown}")

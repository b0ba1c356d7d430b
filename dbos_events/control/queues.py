"""Ask how queues stand and why something waits; pause, resume and purge them; move delays."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dbos_events.control.signals import Tell, tell_nobody, this_operator
from dbos_events.errors import DBOSException, DBOSNonExistentQueueError, DBOSNonExistentWorkflowError
from dbos_events.model.attributes import attributes_text
from dbos_events.model.queue import (
    LONGEST_DELAY_SECONDS,
    QUEUES_CHANGED,
    Explanation,
    QueueOverview,
    QueueState,
    channel_of,
)
from dbos_events.model.workflow import DELAYED, ENQUEUED, FINISHED

if TYPE_CHECKING:
    from dbos_events.storage.protocol import Storage
    from dbos_events.storage.subjects.queues import WaitingWorkflow

UP_TO = 10_000
"""More is not counted: a listing must not read a backlog of millions."""

PARTITIONS = 20
PURGED_AT_ONCE = 500

LIMITS = {
    "concurrency": "as many of the queue run as its concurrency allows",
    "limiter": "as many of the queue have begun within the period as its limiter allows",
    "partition_concurrency": "as many of its partition run as partition_concurrency allows",
    "partition_limiter": "as many of its partition have begun within the period as partition_limiter allows",
}


class QueueControl:
    """What an operator may ask of, and do to, queues; needs no registered functions."""

    def __init__(self, storage: Storage, application: str | None = None, *, tell: Tell = tell_nobody) -> None:
        self._storage = storage
        self._application = application
        self._tell = tell

    # -- asking -------------------------------------------------------------------------------

    def all(self, application: str | None = None) -> list[QueueOverview]:
        """All queues, of one application or of all, with what there is on them."""
        return [self._overview(state) for state in self._storage.queues.read(application)]

    def show(self, name: str) -> QueueOverview:
        """One queue of the application, with the partitions in which most waits.

        Raises:
            DBOSNonExistentQueueError: There is none of the name.
        """
        overview = self._overview(self._state(name))
        partitions = self._storage.queues.partitions(overview.state.application, name, UP_TO, PARTITIONS)
        return QueueOverview(overview.state, overview.counts, tuple(partitions))

    def explain(self, workflow_id: str) -> Explanation:
        """Why a workflow does not run.

        Raises:
            DBOSNonExistentWorkflowError: There is none with that id.
        """
        row = self._storage.queues.explain(workflow_id)
        if row is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        if row.status in FINISHED:
            return Explanation(row.id, row.status, row.queue, f"It has ended as {row.status}.")
        if row.status == DELAYED:
            left = (row.delay_until or row.now) - row.now
            why = (("delay", f"It is delayed for another {max(0, left) / 1000:.1f} s."),)
            return Explanation(row.id, row.status, row.queue, "It waits for its time.", why)
        if row.status != ENQUEUED:
            return _of_running(row)
        state = self._storage.queues.get(row.application, row.queue) if row.queue is not None else None
        reasons = tuple(self._reasons(row, state))
        partitioned = state is not None and state.limits.partitioned
        before = self._storage.queues.count_before(row, in_partition=partitioned, up_to=UP_TO)
        says = (
            "It waits for its turn." if reasons or before else "It is claimed at the next look of a process."
        )
        return Explanation(row.id, row.status, row.queue, says, reasons, before)

    def _reasons(self, row: WaitingWorkflow, state: QueueState | None) -> Iterator[tuple[str, str]]:
        if row.queue is not None and state is None:
            yield (
                "no-queue",
                f"There is no queue {row.queue!r}: no process of {row.application!r} declares it, and nobody registered it.",
            )
        if state is not None and state.paused_at is not None:
            why = f": {state.paused_reason}" if state.paused_reason else ""
            yield "paused", f"The queue is paused by {state.paused_by}{why}."
        if state is not None and state.limits.partitioned and row.queue_partition_key is None:
            yield (
                "no-partition",
                (
                    "The queue has partitions, and it was enqueued without a queue_partition_key. Cancel it and enqueue it "
                    "anew, or resume it, which takes it off the queue."
                ),
            )
        yield from self._of_processes(row)
        if state is not None:
            rooms, wait_ms = self._storage.queues.room(state, row.queue_partition_key)
            for limit, room in rooms.items():
                if room <= 0 and limit in LIMITS:
                    free = f"; room comes in {wait_ms / 1000:.1f} s" if "limiter" in limit and wait_ms else ""
                    yield ("rate" if "limiter" in limit else "limit"), f"{limit}: {LIMITS[limit]}{free}."

    def _of_processes(self, row: WaitingWorkflow) -> Iterator[tuple[str, str]]:
        alive = [one for one in self._storage.executors.read(row.application) if one.alive]
        having = [one for one in alive if row.name in _functions(one.functions)]
        if not alive:
            yield "no-process", f"No process of {row.application!r} lives."
        elif not having:
            yield "no-function", f"No live process has the function {row.name!r}."
        elif row.version_pinned and all(one.version != row.version for one in having):
            yield "version", f"It was enqueued for version {row.version!r}, and no live process has it."

    # -- changing -----------------------------------------------------------------------------

    def pause(self, name: str, *, by: str | None = None, reason: str | None = None) -> bool:
        """Let nothing more of a queue begin, in all processes; what runs goes on. False when it was paused before.

        Raises:
            DBOSNonExistentQueueError: There is none of the name.
        """
        state = self._state(name)
        if state.paused_at is not None:
            return False
        self._storage.queues.pause(state.application, name, by or this_operator(), reason)
        self._tell((QUEUES_CHANGED,))
        return True

    def resume(self, name: str) -> bool:
        """End a pause; False when there was none.

        Raises:
            DBOSNonExistentQueueError: There is none of the name.
        """
        state = self._state(name)
        changed = self._storage.queues.unpause(state.application, name)
        self._tell((QUEUES_CHANGED, channel_of(name)))
        return changed

    def purge(self, name: str, *, most: int | None = None) -> list[str]:
        """Cancel what waits on a queue, the next ones first, at most so many; gives the ids. What runs goes on.

        The queue need not exist: what waits on one that was deleted is purged as well.
        """
        cancelled: list[str] = []
        while most is None or len(cancelled) < most:
            count = PURGED_AT_ONCE if most is None else min(PURGED_AT_ONCE, most - len(cancelled))
            waiting = self._storage.queues.waiting(self._named(), name, count)
            changed = self._storage.workflows.cancel(waiting) if waiting else []
            if not changed:
                break
            self._tell([f"workflow:{workflow_id}" for workflow_id in changed])
            cancelled += changed
        return cancelled

    def set_delay(self, workflow_id: str, *, delay_seconds: float | None, until: int | None) -> bool:
        """Move the time of a delayed workflow; False when it is not delayed (any more).

        Raises:
            DBOSException: None or both of the two are given, or the one is not a time.
            DBOSNonExistentWorkflowError: There is none with that id.
        """
        delay_ms = _delay(delay_seconds, until)
        changed = self._storage.queues.set_delay(workflow_id, delay_ms=delay_ms, until=until)
        if not changed and self._storage.queues.explain(workflow_id) is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        self._tell(("timers",))
        return changed

    def set_attributes(self, workflow_id: str, attributes: Mapping[str, Any] | None, *, merge: bool) -> None:
        """Give a workflow other attributes, or, with `merge`, more of them.

        Raises:
            DBOSNonExistentWorkflowError: There is none with that id.
        """
        text = None if attributes is None else attributes_text(attributes)

        def change(known: str | None) -> str | None:
            if not merge or text is None:
                return known if merge else text
            return attributes_text({**json.loads(known or "{}"), **json.loads(text)})

        if not self._storage.attributes.change(workflow_id, change):
            raise DBOSNonExistentWorkflowError(workflow_id)

    # -- helpers ------------------------------------------------------------------------------

    def _named(self) -> str:
        if self._application is None:
            raise DBOSException("Say of which application the queue is.")
        return self._application

    def _state(self, name: str) -> QueueState:
        application = self._named()
        states = {state.name: state for state in self._storage.queues.read(application)}
        if name not in states:
            raise DBOSNonExistentQueueError(name, application, sorted(states))
        return states[name]

    def _overview(self, state: QueueState) -> QueueOverview:
        return QueueOverview(state, self._storage.queues.counts(state.application, state.name, UP_TO))


def _of_running(row: WaitingWorkflow) -> Explanation:
    """What is PENDING runs, or is parked, or waits behind another of its lane."""
    if row.owner is not None:
        return Explanation(row.id, row.status, row.queue, "It runs.")
    if row.lane_open and row.held:
        why = ("lane", "An earlier event of its lane has not ended.")
    elif row.awaits is not None:
        why = ("waits", f"It is parked and waits for {row.awaits}.")
    elif row.wake_at is not None:
        why = ("sleeps", f"It is parked for another {max(0, row.wake_at - row.now) / 1000:.1f} s.")
    else:
        return Explanation(
            row.id, row.status, row.queue, "It is ready and is taken at the next look of a process."
        )
    return Explanation(row.id, row.status, row.queue, "It does not run now.", (why,))


def _functions(told: str | None) -> frozenset[str]:
    return frozenset(json.loads(told)) if told else frozenset()


def is_delay(seconds: object) -> bool:
    """Whether it is a number of seconds that something may be delayed by."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return False
    return math.isfinite(seconds) and 0 <= seconds <= LONGEST_DELAY_SECONDS


def _delay(delay_seconds: float | None, until: int | None) -> int | None:
    if (delay_seconds is None) == (until is None):
        raise DBOSException("Give exactly one of delay_seconds and delay_until_epoch_ms.")
    if delay_seconds is not None:
        if not is_delay(delay_seconds):
            raise DBOSException(
                f"delay_seconds must be a number of seconds from 0 to {LONGEST_DELAY_SECONDS:.0f}, not {delay_seconds!r}."
            )
        return round(delay_seconds * 1000)
    if not isinstance(until, int) or isinstance(until, bool) or not 0 <= until <= 2**53:
        raise DBOSException(f"delay_until_epoch_ms must be milliseconds since 1970, not {until!r}.")
    return None

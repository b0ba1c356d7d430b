"""Look at events in quarantine, redrive them, discard them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dbos_events.control.signals import Tell, tell_nobody, this_operator
from dbos_events.errors import DBOSException, DBOSNonExistentWorkflowError, SerializationError
from dbos_events.model.dataclass import dataclass, replace
from dbos_events.model.quarantine import (
    DecidedEvents,
    QuarantineCount,
    QuarantinedDetail,
    QuarantinedEvent,
    QuarantineFilter,
    Redrive,
)
from dbos_events.model.workflow import WorkflowFilter
from dbos_events.serialization import Codecs, error_summary
from dbos_events.serialization.headers import decode_headers
from dbos_events.storage.subjects.quarantine import OperatorDecision, StoredQuarantine

if TYPE_CHECKING:
    from dbos_events.storage.protocol import Storage

R = TypeVar("R")

BATCH = 200
"""Events that one transaction decides about, at most: locks are held for no longer than that takes."""

CHANNELS = ("lanes", "queues")


@dataclass(frozen=True, slots=True)
class Order:
    """What is decided: by whom, why, how fast, and whether only to tell what it would change.

    `progress` is called after each batch with how many events were decided about and how many fitted at the beginning.
    """

    by: str | None = None
    reason: str | None = None
    rate: float | None = None
    dry_run: bool = False
    progress: Callable[[int, int], object] | None = None


class QuarantineControl:
    """What an operator may ask about, and do to, events in quarantine; needs no registered functions.

    Args:
        tell: Called with the channels to wake after each change.
        ask: Calls what talks to the database; `Core.ask` repeats it while that does not answer.
        pause: Waits for so many seconds, to keep a rate.
    """

    def __init__(
        self,
        storage: Storage,
        codecs: Codecs,
        *,
        tell: Tell = tell_nobody,
        ask: Callable[[Callable[[], Any]], Any] = lambda work: work(),
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._storage = storage
        self._codecs = codecs
        self._tell = tell
        self._ask = ask
        self._pause = pause

    def find(self, criteria: QuarantineFilter) -> list[QuarantinedEvent]:
        """Events that fit, in the order in which they were put aside."""
        found: list[QuarantinedEvent] = self._ask(lambda: self._storage.quarantine.find(criteria))
        return found

    def counts(self, criteria: QuarantineFilter) -> list[QuarantineCount]:
        """How many events fit, by consumer, reason and class of the error; the most first."""
        found: list[QuarantineCount] = self._ask(lambda: self._storage.quarantine.count(criteria))
        return found

    def get(self, workflow_id: str) -> QuarantinedDetail | None:
        """All that is known of one event; None when it was never put aside."""
        stored: StoredQuarantine | None = self._ask(lambda: self._storage.quarantine.get(workflow_id))
        if stored is None:
            return None
        return QuarantinedDetail(
            stored.event,
            stored.key,
            stored.value,
            _headers(stored.headers),
            stored.timestamp,
            self._error(stored),
            _traceback(stored),
            stored.edits,
            stored.generations,
            stored.decisions,
        )

    def show(self, workflow_id: str) -> QuarantinedDetail:
        """As `get`, for somebody who asks for one event by its id.

        Raises:
            DBOSNonExistentWorkflowError: There is no workflow with that id.
            DBOSException: It never was in quarantine.
        """
        found = self.get(workflow_id)
        if found is not None:
            return found
        if self._ask(lambda: self._storage.workflows.read_ending(workflow_id)) is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        raise DBOSException(f"{workflow_id} is not in quarantine, and never was.")

    def redrive(self, criteria: QuarantineFilter, redrive: Redrive, order: Order) -> DecidedEvents:
        """Begin a new generation of the events that fit, in batches; those that were put aside later stay.

        Raises:
            DBOSNonExistentWorkflowError: One of the ids does not exist; nothing was changed.
            DBOSException: The options contradict each other.
        """
        _check_redrive(criteria, redrive, order)
        details = _details(criteria, redrive)
        decision = OperatorDecision(order.by or this_operator(), order.reason, details)
        return self._decide(
            criteria, order, lambda ids: self._storage.quarantine.redrive(ids, redrive, decision)
        )

    def discard(self, criteria: QuarantineFilter, order: Order) -> DecidedEvents:
        """Give the events that fit up, in batches, and let their lanes go on; they stay in the database.

        Raises:
            DBOSNonExistentWorkflowError: One of the ids does not exist; nothing was changed.
            DBOSException: There is no reason.
        """
        if not (order.reason or "").strip():
            raise DBOSException(
                "Discarding an event needs a reason: whoever misses it later will look for one."
            )
        decision = OperatorDecision(order.by or this_operator(), order.reason, _details(criteria))
        return self._decide(criteria, order, lambda ids: self._storage.quarantine.discard(ids, decision))

    def _decide(
        self, criteria: QuarantineFilter, order: Order, change: Callable[[list[str]], list[str]]
    ) -> DecidedEvents:
        self._refuse_unknown(criteria.workflow_ids)
        changed: list[str] = []
        total = self._total(criteria) if order.progress is not None else 0
        rate = order.rate
        size = BATCH if rate is None else max(1, min(BATCH, int(rate / 10)))
        for number, batch in enumerate(self._batches(criteria, size)):
            ids = [event.workflow_id for event in batch]
            if order.dry_run:
                changed += ids
                continue
            if rate is not None and number:
                self._pause(size / rate)
            changed += self._ask(partial(change, ids))
            self._tell(CHANNELS)
            if order.progress is not None:
                order.progress(len(changed), max(total, len(changed)))
        asked = dict.fromkeys(criteria.workflow_ids)
        done = set(changed)
        return DecidedEvents(tuple(changed), tuple(one for one in asked if one not in done), order.dry_run)

    def _total(self, criteria: QuarantineFilter) -> int:
        """How many events are to be decided about, as things stand."""
        if criteria.workflow_ids:
            return len(set(criteria.workflow_ids))
        fitting = sum(one.count for one in self.counts(replace(criteria, released=False)))
        return fitting if criteria.limit is None else min(fitting, criteria.limit)

    def _batches(self, criteria: QuarantineFilter, size: int) -> Iterator[list[QuarantinedEvent]]:
        """What fits now: an event that fails again meanwhile is not met a second time."""
        now: int = self._ask(self._storage.now_ms)
        until = now if criteria.quarantined_until is None else min(now, criteria.quarantined_until)
        left = criteria.limit
        for ids in _chunks(criteria.workflow_ids):
            narrowed = replace(criteria, workflow_ids=ids, quarantined_until=until, released=False)
            while left is None or left > 0:
                count = size if left is None else min(size, left)
                found = self.find(replace(narrowed, limit=count))
                if not found:
                    break
                yield found
                left = None if left is None else left - len(found)
                narrowed = replace(narrowed, after=(found[-1].quarantined_at, found[-1].workflow_id))

    def _refuse_unknown(self, workflow_ids: tuple[str, ...]) -> None:
        for ids in _chunks(workflow_ids) if workflow_ids else ():
            criteria = WorkflowFilter(workflow_ids=ids, with_input=False, with_output=False)
            rows = self._ask(partial(self._storage.workflows.find, criteria))
            known = {row["id"] for row in rows}
            for workflow_id in ids:
                if workflow_id not in known:
                    raise DBOSNonExistentWorkflowError(workflow_id)

    def _error(self, stored: StoredQuarantine) -> BaseException | None:
        if stored.error is None:
            return None
        try:
            return self._codecs.get(stored.codec or "json").decode_error(stored.error)
        except Exception as error:  # noqa: BLE001 - its other parts are still to be seen
            return DBOSException(f"The stored error cannot be read: {error}")


def _check_redrive(criteria: QuarantineFilter, redrive: Redrive, order: Order) -> None:
    if redrive.fresh and redrive.from_step is not None:
        raise DBOSException("fresh runs every step anew, so it does not go with from_step. Give one of them.")
    if redrive.from_step is not None and redrive.from_step < 1:
        raise DBOSException(f"Steps count from 1, so there is none with the number {redrive.from_step}.")
    if redrive.same_key and redrive.new_key:
        raise DBOSException(
            "A redrive goes on with the same keys or with new ones. Give one of same_key, new_key."
        )
    if redrive.value is not None and len(criteria.workflow_ids) != 1:
        raise DBOSException("An edited value belongs to one event: redrive it by its id.")
    if order.rate is not None and order.rate <= 0:
        raise DBOSException(f"A rate is a number of events in a second, more than 0, not {order.rate:g}.")


def _details(criteria: QuarantineFilter, redrive: Redrive | None = None) -> dict[str, Any]:
    """What the audit shows besides who, when and why: only what was asked for."""
    details: dict[str, Any] = {}
    if redrive is not None:
        options = {
            "from_step": redrive.from_step,
            "fresh": redrive.fresh or None,
            "keys": "same" if redrive.same_key else "new" if redrive.new_key else None,
            "edited_bytes": None if redrive.value is None else len(redrive.value),
        }
        details = {name: value for name, value in options.items() if value is not None}
    empty = QuarantineFilter()
    named = {field.name: getattr(criteria, field.name) for field in fields(criteria)}
    asked = {
        name: value
        for name, value in named.items()
        if value != getattr(empty, name) and name != "workflow_ids"
    }
    return details if criteria.workflow_ids else {**details, "filter": asked}


def _chunks(ids: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The ids in portions that one query takes; one empty portion where the other filters choose."""
    unique = tuple(dict.fromkeys(ids))
    for start in range(0, len(unique) or 1, 1000):
        yield unique[start : start + 1000]


def _headers(text: str | None) -> list[tuple[str, bytes | None]] | None:
    """Damaged ones as one that holds what is stored: the rest of the event is still to be seen."""
    try:
        return decode_headers(text)
    except SerializationError as error:
        return [(error.message, (text or "").encode())]


def _traceback(stored: StoredQuarantine) -> str | None:
    """As text, without building the error; None where the codec does not keep it so."""
    if stored.error is None:
        return None
    return error_summary(stored.error)[2] or None

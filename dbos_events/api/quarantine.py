"""Verbs about events in quarantine: look, redrive, discard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dbos_events.api.filters import Texts, milliseconds_of, texts_of
from dbos_events.api.reading import asked
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.control.quarantine import Order, QuarantineControl
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.errors import DBOSException
from dbos_events.model.quarantine import (
    DecidedEvents,
    QuarantinedDetail,
    QuarantinedEvent,
    QuarantineFilter,
    Redrive,
)

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow


def quarantine_filter(  # noqa: PLR0913 - one argument per filter
    *,
    workflow_ids: Texts = None,
    consumer: Texts = None,
    topic: Texts = None,
    partition: int | Sequence[int] | None = None,
    first_offset: int | None = None,
    last_offset: int | None = None,
    quarantine_reason: Texts = None,
    error_type: Texts = None,
    error_text: str | None = None,
    since: str | None = None,
    until: str | None = None,
    released: bool = False,
    limit: int | None = None,
) -> QuarantineFilter:
    """A filter from the arguments of `list_quarantined`: values may be one or several, times are ISO 8601."""
    partitions = (partition,) if isinstance(partition, int) else tuple(partition or ())
    return QuarantineFilter(
        workflow_ids=texts_of(workflow_ids),
        consumers=texts_of(consumer),
        topics=texts_of(topic),
        partitions=partitions,
        reasons=texts_of(quarantine_reason),
        error_types=texts_of(error_type),
        error_text=error_text,
        first_offset=first_offset,
        last_offset=last_offset,
        quarantined_from=milliseconds_of(since),
        quarantined_until=milliseconds_of(until),
        released=released,
        limit=limit,
    )


class QuarantineVerbs(Session):
    """What may be asked about, and done to, events in quarantine."""

    def list_quarantined(self, **filters: Any) -> list[QuarantinedEvent]:
        """Events of this application that are in quarantine, the longest first.

        The filters are those of `dbos_events.api.quarantine.quarantine_filter`; `released=True` includes
        those that somebody has decided about.
        """
        refuse_on_loop("list_quarantined")
        return drive(_find(self, filters))

    async def list_quarantined_async(self, **filters: Any) -> list[QuarantinedEvent]:
        """As `list_quarantined`, without blocking the loop."""
        return await drive_async(_find(self, filters))

    def get_quarantined(self, workflow_id: str) -> QuarantinedDetail | None:
        """One event with its content, its error, its generations and all decisions; None if never put aside."""
        refuse_on_loop("get_quarantined")
        return drive(_get(self, workflow_id))

    async def get_quarantined_async(self, workflow_id: str) -> QuarantinedDetail | None:
        """As `get_quarantined`, without blocking the loop."""
        return await drive_async(_get(self, workflow_id))

    def redrive_events(  # noqa: PLR0913 - what can be asked of a redrive
        self,
        workflow_ids: str | Sequence[str] = (),
        *,
        from_step: int | None = None,
        fresh: bool = False,
        value: bytes | str | None = None,
        same_key: bool = False,
        new_key: bool = False,
        rate: float | None = None,
        dry_run: bool = False,
        everything: bool = False,
        reason: str | None = None,
        by: str | None = None,
        **filters: Any,
    ) -> DecidedEvents:
        """Run events in quarantine again, as a new generation that keeps what succeeded.

        Each change and its record in the audit are one transaction. A process that still runs an older
        generation cannot write any more. Ordered events run before those that wait behind them.

        Args:
            workflow_ids: Which events; or leave them out and give filters, as for `list_quarantined`.
            from_step: Run this step and those with a higher number again, too.
            fresh: Keep nothing of the older generations.
            value: What the handler gets as the record's value from now on; the received one is kept beside it.
            same_key: For events that are put aside as `arguments-changed`: the step is called with its new arguments
                under the key that went out with others.
            new_key: The same, under a key of its own.
            rate: Events in a second, at most.
            dry_run: Change nothing and tell what would be changed.
            everything: Allows to leave out ids and filters.
            reason: Noted in the audit.
            by: Who decides; `user@host` of this process by default.
            filters: Those of `list_quarantined`.

        Returns:
            Which events were changed; ids that are not in quarantine are unchanged.

        Raises:
            DBOSNonExistentWorkflowError: One of the ids does not exist; nothing was changed.
            DBOSException: The options contradict each other, or nothing says which events are meant.
        """
        refuse_on_loop("redrive_events")
        order = Order(by, reason, rate, dry_run)
        redrive = Redrive(from_step, fresh, _bytes(value), same_key, new_key)
        return drive(_redrive(self, workflow_ids, filters, everything, redrive, order))

    async def redrive_events_async(  # noqa: PLR0913
        self,
        workflow_ids: str | Sequence[str] = (),
        *,
        from_step: int | None = None,
        fresh: bool = False,
        value: bytes | str | None = None,
        same_key: bool = False,
        new_key: bool = False,
        rate: float | None = None,
        dry_run: bool = False,
        everything: bool = False,
        reason: str | None = None,
        by: str | None = None,
        **filters: Any,
    ) -> DecidedEvents:
        """As `redrive_events`, without blocking the loop."""
        order = Order(by, reason, rate, dry_run)
        redrive = Redrive(from_step, fresh, _bytes(value), same_key, new_key)
        return await drive_async(_redrive(self, workflow_ids, filters, everything, redrive, order))

    def discard_events(
        self,
        workflow_ids: str | Sequence[str] = (),
        *,
        reason: str,
        dry_run: bool = False,
        everything: bool = False,
        by: str | None = None,
        **filters: Any,
    ) -> DecidedEvents:
        """Give events in quarantine up: they stay in the database, and the next of their lane runs.

        Arguments, result and errors as for `redrive_events`; the reason is required.
        """
        refuse_on_loop("discard_events")
        return drive(_discard(self, workflow_ids, filters, everything, Order(by, reason, None, dry_run)))

    async def discard_events_async(
        self,
        workflow_ids: str | Sequence[str] = (),
        *,
        reason: str,
        dry_run: bool = False,
        everything: bool = False,
        by: str | None = None,
        **filters: Any,
    ) -> DecidedEvents:
        """As `discard_events`, without blocking the loop."""
        order = Order(by, reason, None, dry_run)
        return await drive_async(_discard(self, workflow_ids, filters, everything, order))


def _control(session: Session) -> QuarantineControl:
    core = session.core

    def tell(channels: Sequence[str]) -> None:
        for channel in channels:
            core.signal(channel)

    return QuarantineControl(
        core.storage,
        core.codecs,
        tell=tell,
        ask=core.ask,
        pause=(lambda _seconds: None) if core.clock.manual else core.stopped.wait,
    )


def _criteria(
    session: Session, workflow_ids: str | Sequence[str], filters: dict[str, Any], *, everything: bool
) -> QuarantineFilter:
    criteria = quarantine_filter(workflow_ids=workflow_ids, **filters)
    if criteria.is_open and not everything:
        raise DBOSException(
            "Nothing says which events are meant: give ids, or filters such as consumer='on_order', or everything=True."
        )
    return _own(session, criteria)


def _own(session: Session, criteria: QuarantineFilter) -> QuarantineFilter:
    return replace(criteria, applications=(session.core.application,))


def _find(session: Session, filters: dict[str, Any]) -> Flow[list[QuarantinedEvent]]:
    criteria = _own(session, quarantine_filter(**filters))
    return asked(session.core, "DBOS.listQuarantined", lambda: _control(session).find(criteria))


def _get(session: Session, workflow_id: str) -> Flow[QuarantinedDetail | None]:
    return asked(session.core, "DBOS.getQuarantined", lambda: _control(session).get(workflow_id))


def _redrive(
    session: Session,
    workflow_ids: str | Sequence[str],
    filters: dict[str, Any],
    everything: bool,
    redrive: Redrive,
    order: Order,
) -> Flow[DecidedEvents]:
    criteria = _criteria(session, workflow_ids, filters, everything=everything)
    return asked(
        session.core, "DBOS.redriveEvents", lambda: _control(session).redrive(criteria, redrive, order)
    )


def _discard(
    session: Session,
    workflow_ids: str | Sequence[str],
    filters: dict[str, Any],
    everything: bool,
    order: Order,
) -> Flow[DecidedEvents]:
    criteria = _criteria(session, workflow_ids, filters, everything=everything)
    return asked(session.core, "DBOS.discardEvents", lambda: _control(session).discard(criteria, order))


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value

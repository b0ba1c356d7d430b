"""Writes on their way to the database, and how their answers are told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from dbos_events.errors import DBOSWorkflowCancelledError, StorageError
from dbos_events.storage.writes import Fenced, Refused, Result, Write
from dbos_events.telemetry.log import logger

if TYPE_CHECKING:
    from dbos_events.engine.waking import Waker


GATHER = 0.0001
"""Seconds that threads which call again and again get between two batches."""


class Writer(Protocol):
    """Whose writes they are: a run, as the committer sees it."""

    verdict: BaseException | None

    @property
    def tasks(self) -> object | None:
        """There when it runs on a loop."""
        ...

    def handing(self) -> None:
        """Count one more write on its way."""
        ...

    def settled(self, write: Write, result: Result) -> None:
        """Note a write's fate; quick, since all others wait for theirs."""
        ...


class Ticket:
    """A write on its way; `result` is set once, when its fate is known.

    `final` is the write that records the failure of a run. `aside` says that the database refuses it for no reason
    that lies in its values, so that it waits apart from the others.
    """

    __slots__ = ("aside", "final", "result", "run", "waker", "write")

    def __init__(self, write: Write, run: Writer | None, waker: Waker | None, *, final: bool) -> None:
        self.write = write
        self.run = run
        self.waker = waker
        self.final = final
        self.aside = False
        self.result: Result | None = None

    def doom(self) -> Result | None:
        """The answer without asking: what a run hands over after a refused write is refused too."""
        verdict = None if self.run is None or self.final else self.run.verdict
        if verdict is None or (self.write.shielded and isinstance(verdict, DBOSWorkflowCancelledError)):
            return None
        return Refused(verdict) if isinstance(verdict, Exception) else Fenced(None)

    def settle(self, result: Result) -> None:
        self.result = result
        if self.run is not None:
            self.run.settled(self.write, result)
        if self.waker is not None:
            self.waker.wake()


def give_way(tickets: Iterable[Ticket]) -> None:
    """Wait a moment where several threads outside of workflows got an answer, so that their next writes are one batch.

    They cannot hand anything over while the caller has Python's lock. Without the pause they would fall into two halves,
    of which one always waits while the other one is written.
    """
    outside = [ticket for ticket in tickets if ticket.run is None]
    if len(outside) > 1 and sum(ticket.waker is not None for ticket in outside) > 1:
        time.sleep(GATHER)


def tell_all(tickets: Sequence[Ticket], results: Sequence[Result]) -> None:
    """Tell the answers of a batch; a defect in who hears one must not keep the others from theirs."""
    for ticket, result in zip(tickets, results, strict=True):
        try:
            ticket.settle(result)
        except BaseException:  # noqa: BLE001 - the thread has answers for others
            logger.exception("A run met an unexpected error when it was told of its write.")


def tell(ticket: Ticket, result: Result) -> None:
    """Tell one answer."""
    tell_all((ticket,), (result,))


def by_workflow(tickets: Iterable[Ticket]) -> list[list[Ticket]]:
    """The tickets of each workflow, in their order; a start from outside of workflows stands alone."""
    groups: dict[str, list[Ticket]] = {}
    for number, ticket in enumerate(tickets):
        key = ticket.write.workflow_id or f"\0{number}"
        groups.setdefault(key, []).append(ticket)
    return list(groups.values())


def flat(groups: Sequence[Sequence[Ticket]]) -> list[Ticket]:
    """The tickets of several workflows one after the other."""
    return list(chain.from_iterable(groups))


def shown(error: BaseException) -> str:
    """An error for people; one that is not of the storage, with its type."""
    return str(error) if isinstance(error, StorageError) else f"{type(error).__name__}: {error}"


def refuses_statement(error: BaseException) -> bool:
    """As `storage.errorcodes` says; asked of an error only, since it loads SQLAlchemy."""
    from dbos_events.storage import errorcodes

    return errorcodes.refuses_statement(error)

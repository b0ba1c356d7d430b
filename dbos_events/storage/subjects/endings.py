"""Ends that come from outside of a run: deadlines, starts that come too late, and whole trees that are cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Protocol

from dbos_events.clock import elapsed_ns
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.narrow import Narrow, take_kinds
from dbos_events.storage.rollback import RollBack
from dbos_events.storage.subjects.workflows import cancelled

TIMEOUT = "timeout"
"""Why a workflow was cancelled whose deadline has passed."""

QUEUE_TIMEOUT = "queue-timeout"
"""Why a workflow was cancelled that nobody had claimed in time."""


_REASONS = {"end_late": TIMEOUT, "end_unclaimed": QUEUE_TIMEOUT}
"""By the statement that finds them."""


class EndedLate(NamedTuple):
    """A workflow that was cancelled because a time has passed, and which one: `timeout` or `queue-timeout`."""

    id: str
    reason: str


class Endings(Protocol):
    """Cancelling what has not ended (docs/protocol.md, rule 20)."""

    def next_due(self, application: str) -> int | None:
        """Milliseconds until the next deadline, of running or of starting; None when nothing has one."""
        ...

    def end_due(self, application: str, count: int) -> list[EndedLate]:
        """Cancel at most `count` workflows whose deadline has passed, and as many that nobody has claimed in time.

        What is parked is not woken; whoever waits for its result is. A row that another transaction holds is left for
        the next time. The outcome and the deadline meet on the workflow's row: the later of them changes nothing.
        """
        ...

    def cancel_trees(self, workflow_ids: Sequence[str]) -> list[str]:
        """Cancel these workflows and all that they have started, as far as it has not ended; gives the ids changed.

        One transaction: what one of them starts at this moment is either cancelled with it or never started.
        """
        ...


class EndingTable:
    """Cancels by statements over many rows, each decided on the row itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_due(self, application: str) -> int | None:
        def work(tx: Tx) -> int | None:
            asked = elapsed_ns()
            row = tx.run("next_ending", application=application)[0]
            self._database.told_time(row.now, asked)
            return None if row.milliseconds is None else int(row.milliseconds)

        return self._database.transact(work)

    def end_due(self, application: str, count: int) -> list[EndedLate]:
        def run(tx: Tx, kind: str, narrow: Narrow) -> Sequence[Row]:
            return narrow.run(tx, kind, application=application, count=count, reason=_REASONS[kind])

        def attempt(kinds: Sequence[str], narrow: Narrow) -> list[EndedLate]:
            def work(tx: Tx) -> list[EndedLate]:
                found = {kind: run(tx, kind, narrow) for kind in kinds}
                if not any(found.values()):
                    raise _NothingDue
                return [one for kind, rows in found.items() for one in _ended(tx, rows, _REASONS[kind])]

            try:
                return self._database.transact(work)
            except _NothingDue:
                return []

        def choose(kind: str, narrow: Narrow) -> list[str]:
            return self._database.transact(lambda tx: [row.id for row in run(tx, kind, narrow)])

        return list(chain.from_iterable(take_kinds(self._database, list(_REASONS), attempt, choose)))

    def cancel_trees(self, workflow_ids: Sequence[str]) -> list[str]:
        while True:  # again where another executor took one of them in between
            try:
                return self._database.transact(lambda tx: _cancel_trees(tx, workflow_ids))
            except _Taken:
                continue


class _NothingDue(RollBack):
    """Rolls a transaction back that found nothing to end: a commit would wait for the disk."""


class _Taken(RollBack):
    """Rolls a transaction back because an executor that is not locked owns a workflow of the tree by now."""


def _ended(tx: Tx, rows: Sequence[Row], reason: str) -> list[EndedLate]:
    ids = [row.id for row in rows]
    cancelled(tx, ids, reason)
    return [EndedLate(id_, reason) for id_ in ids]


def _cancel_trees(tx: Tx, roots: Sequence[str]) -> list[str]:
    # A batch that starts a child shows it to nobody before its commit. With the row of its executor locked, this
    # comes before such a batch, which then finds the parent cancelled, or after it, and finds the child.
    first = [row.id for row in tx.run("find_trees", ids=roots)]
    owners = [row.id for row in tx.run("lock_owners", ids=first)]
    tree = [row.id for row in tx.run("find_trees", ids=roots)]
    changed = [row.id for row in tx.run("cancel_owned", ids=tree, owners=owners)]
    if any(row.owner not in (None, *owners) for row in tx.run("running_among", ids=tree)):
        raise _Taken
    cancelled(tx, changed, "cancelled")
    return changed

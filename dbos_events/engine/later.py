"""Writes that are tried again after a pause, apart from all others, since nothing can be done instead."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbos_events.engine.tickets import by_workflow, flat, tell
from dbos_events.errors import StorageError

if TYPE_CHECKING:
    from dbos_events.engine.tickets import Ticket

PAUSE = 2.0
TRIES_AT_ONCE = 64
"""Statements that a search for what is refused may take before others have their turn."""


class Interrupted(StorageError):
    """The process stops while the database does not answer."""

    def __init__(self) -> None:
        super().__init__("Stopped while the database did not answer.")


class StillRefused(StorageError):
    """The database refuses a batch again and again, for no reason that lies in a value."""

    def __init__(self) -> None:
        super().__init__("The batch is refused again and again.")


class Later:
    """What the database refuses for no reason that lies in its values, and what its workflow hands over after it.

    Used by the committer's thread. `once` writes tickets and tells their answers; it gives the error where nothing was
    written.
    """

    def __init__(self, once: Callable[[list[Ticket]], BaseException | None]) -> None:
        self._once = once
        self._tickets: list[Ticket] = []
        self._workflows: Counter[str] = Counter()
        self._due = 0.0

    def __bool__(self) -> bool:
        return bool(self._tickets)

    @property
    def holds_runs(self) -> bool:
        """Whether something of a run that goes on waits here: what it hands over must not overtake that."""
        return bool(self._workflows)

    def holds(self, ticket: Ticket) -> bool:
        """Whether an earlier write of the same workflow waits here."""
        return bool(self._workflows) and self._workflows[ticket.write.workflow_id or ""] > 0

    def put(self, ticket: Ticket) -> None:
        if not self._tickets:
            self._due = time.monotonic() + PAUSE
        ticket.aside = True
        self._tickets.append(ticket)
        if ticket.write.workflow_id and not ticket.final:
            self._workflows[ticket.write.workflow_id] += 1

    def write(self, tickets: Sequence[Ticket]) -> tuple[int, BaseException | None]:
        """Write what can be written, keep the rest; gives how many workflows are kept, and the last error."""
        sound = []
        for ticket in tickets:
            if (doom := ticket.doom()) is None:
                sound.append(ticket)
            else:
                tell(ticket, doom)
        search = _Search(self._once)
        stuck = search.stuck(by_workflow(sound))
        for ticket in flat(stuck):
            self.put(ticket)
        return len(stuck), search.error if stuck else None

    def due(self) -> tuple[list[Ticket], float | None]:
        """What is to be tried now, and the seconds until something else is; None where nothing waits."""
        if not self._tickets:
            return [], None
        left = self._due - time.monotonic()
        return ([], left) if left > 0 else (self.drop(), None)

    def drop(self) -> list[Ticket]:
        """Give all that waits, and forget it."""
        tickets, self._tickets = self._tickets, []
        self._workflows.clear()
        return tickets


class _Search:
    """Finds by halving what is refused, so that all else is written; within a bound of tries."""

    def __init__(self, once: Callable[[list[Ticket]], BaseException | None]) -> None:
        self._once = once
        self._left = TRIES_AT_ONCE
        self.error: BaseException | None = None

    def stuck(self, groups: Sequence[list[Ticket]]) -> list[list[Ticket]]:
        """Write what can be written; gives the groups that were refused, or not tried any more."""
        if not groups or self._left <= 0:
            return list(groups)
        self._left -= 1
        error = self._once(flat(groups))
        if error is None:
            return []
        self.error = error
        if len(groups) == 1:
            return list(groups)
        middle = len(groups) // 2
        return [*self.stuck(groups[:middle]), *self.stuck(groups[middle:])]

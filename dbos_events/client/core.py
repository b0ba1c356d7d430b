"""The engine of a client: it asks and writes, and runs nothing. No executor, no lease, no thread that polls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

from dbos_events.engine.committer import Committer
from dbos_events.engine.core import Core, Listeners, Terms
from dbos_events.engine.registry import Registry
from dbos_events.engine.tickets import Ticket
from dbos_events.engine.waking import running_loop
from dbos_events.errors import DBOSException
from dbos_events.storage.writes import Refused, Result, Write

if TYPE_CHECKING:
    from dbos_events.clock import Clock
    from dbos_events.engine.tickets import Writer
    from dbos_events.engine.waking import Hub, Waker
    from dbos_events.serialization import Codecs
    from dbos_events.storage.protocol import Storage

R = TypeVar("R")

NEVER = 100 * 366 * 86_400.0
"""Seconds; nothing of a client is parked."""


class ClientCore(Core):
    """What the verbs need of an engine.

    Args:
        storage: An open database.
        clock: That of the storage.
        codecs: Read and write values.
        application: The one that the client works for; None: asked for when a verb needs it, which those that name a
            workflow do not.
        hub: Wakes those who wait in this process.
        announce: Told of what other processes may wait for.
        patience: Seconds for which a database that does not answer is asked again; None: for ever.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        codecs: Codecs,
        application: str | None,
        hub: Hub,
        announce: Callable[[str], object],
        patience: float | None,
    ) -> None:
        self._named = application
        self._patience = patience
        super().__init__(
            storage=storage,
            registry=Registry(),
            codecs=codecs,
            clock=clock,
            hub=hub,
            terms=Terms(application or "", "", threads=1, park_after=NEVER),
            listeners=Listeners(lambda: None, announce),
        )
        self.committer = Direct(self)

    @property
    def application(self) -> str:
        """The application that the client works for.

        Raises:
            DBOSException: None is named, and the database does not have exactly one.
        """
        if self._named is None and (found := self.look_for_application()) is not None:
            _refuse(found)
        return self._named or ""

    @application.setter
    def application(self, name: str) -> None:
        self._named = name or None

    @property
    def names_application(self) -> bool:
        """Whether it is known without a question to the database."""
        return self._named is not None

    def look_for_application(self) -> list[str] | None:
        """See that it is known; gives what the database has instead where that leaves it open."""
        if self._named is None:
            found = self.storage.outside.applications()
            if len(found) != 1:
                return found
            self._named = found[0]
        return None

    def ask(self, work: Callable[[], R], patience: float | None = None) -> R:
        return super().ask(work, self._patience if patience is None else patience)


def _refuse(applications: Sequence[str]) -> NoReturn:
    found = f"it has {', '.join(applications)}" if applications else "it knows none yet"
    raise DBOSException(
        "The client has to know for which application it works, and the database does not say it: "
        f"{found}. Name it: DBOSClient(..., application_name='orders')."
    )


class Direct(Committer):
    """Writes each write in a transaction of its own, on the thread of the caller, or on another one for a loop."""

    def __init__(self, core: ClientCore) -> None:
        super().__init__(core.storage.outside.write, lambda: None)
        self._core = core

    def submit(
        self, write: Write, run: Writer | None = None, waker: Waker | None = None, *, final: bool = False
    ) -> Ticket:
        ticket = Ticket(write, None, waker, final=final)
        if running_loop() is None:
            ticket.settle(self._written(write))
        else:
            self._core.readers.submit(lambda: ticket.settle(self._written(write)))
        return ticket

    def before_blocking(self) -> None:
        """Nothing waits here."""

    def _written(self, write: Write) -> Result:
        try:
            return self._core.ask(lambda: self._core.storage.outside.write([write]))[0]
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets it
            return Refused(error)

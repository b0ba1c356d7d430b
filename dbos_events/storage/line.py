"""A connection over which functions in the database are called without waiting for their answer.

For an event loop: it sends a call, goes on, and hears of the answer among its other sockets. The calls are those of
`dbos_events/storage/onecall.py`. https://www.postgresql.org/docs/current/libpq-async.html says in which order libpq is
to be asked.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from psycopg import errors

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from dbos_events.storage.callconnection import CallConnection, Spelled
    from dbos_events.storage.functions import Function


class Calls(Protocol):
    """How functions are called on any connection, and what their answers mean: `OneCall`."""

    prepares: bool

    def spelled(self, function: Function, connection: CallConnection) -> Spelled:
        """The function as it is sent on this connection."""
        ...

    def judge(self, function: Function, result: PGresult, connection: CallConnection) -> None:
        """Raise what an answer means that is not a success."""
        ...


class Line:
    """One call at a time. Used by one thread only, once it is open."""

    def __init__(self, calls: Calls, connection: CallConnection) -> None:
        self._calls = calls
        self._connection = connection
        self._pg = connection.pg
        self._pg.nonblocking = 1
        self._called: Function | None = None
        self._answer: PGresult | None = None
        self._handle = self._pg.socket
        self.then: Callable[[str | None], object] | None = None
        """Told what the function returned, when it was done."""

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._called is not None

    @property
    def broken(self) -> bool:
        return self._connection.broken

    def fileno(self) -> int:
        """The socket; the same after it has broken."""
        return self._handle

    def send(self, function: Function, arguments: Sequence[Any]) -> None:
        """Begin a call. It is one transaction.

        Raises:
            psycopg.Error: The connection is broken, or libpq refuses the call; whether it was sent is unknown.
        """
        spelled = self._calls.spelled(function, self._connection)
        encoded = spelled.encode(arguments)
        self._called = function
        self._connection.begin(spelled, encoded, prepared=self._calls.prepares)

    def flush(self) -> bool:
        """Send what the socket did not take; False while something is left."""
        return self._pg.flush() == 0

    def receive(self) -> bool:
        """Take in what has come: True when the call is done, False when there is more to come.

        Raises:
            NotAsExpected: Nothing was kept; to be done statement by statement.
            psycopg.Error: Any other failure; when the line is broken, whether the call was done is unknown.
        """
        self._pg.consume_input()
        while self._called is not None and not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:
                function, self._called = self._called, None
                return self._take(function)
            self._answer = result
        return False

    def _take(self, function: Function) -> bool:
        """Judge the answer, which is whole."""
        answer, self._answer = self._answer, None
        if answer is None or self.broken:
            raise errors.OperationalError(self._connection.trouble)
        self._calls.judge(function, answer, self._connection)
        then, self.then = self.then, None
        if then is not None:
            value = answer.get_value(0, 0)
            then(None if value is None else value.decode())
        return True

    def wait(self, seconds: float) -> bool:
        """Block until something has come, or more can be sent; False when the time ran out.

        Raises:
            psycopg.Error: The line is broken.
        """
        asked = select.poll()
        asked.register(self._handle, select.POLLIN if self.flush() else select.POLLIN | select.POLLOUT)
        return bool(asked.poll(max(0.0, seconds) * 1000))

    def close(self) -> None:
        self._connection.close()

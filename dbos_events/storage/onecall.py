"""A whole transaction in one call of a function that the migrations have put into the database.

What takes six exchanges otherwise takes one, and no process can be frozen in the middle of it (docs/storage.md).
The functions run the statements of `sql/` under the same fence, each with a snapshot of its own. Where something
is not as expected they keep nothing, and the caller goes statement by statement.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from psycopg import errors
from psycopg.pq import ExecStatus

from dbos_events.storage.callconnection import CallConnection, Spelled
from dbos_events.storage.errorcodes import LOST_PLAN, spoils_session
from dbos_events.storage.forks import keep_for_ever
from dbos_events.storage.line import Line
from dbos_events.storage.rollback import NotAsExpected
from dbos_events.storage.sessions import CALL_CONDITION, CALL_CONDITION_POOLED
from dbos_events.telemetry.log import Recurring

if TYPE_CHECKING:
    import sqlalchemy as sa
    from psycopg.pq.abc import PGresult

    from dbos_events.storage.functions import Function

NOT_AS_EXPECTED = ("DE001", "23505")
"""What a function ends with when it has met something else than its caller expects: raised by it, or unique_violation."""

_NOT_TO_BE_HAD = ("42883", "42501")  # undefined_function, insufficient_privilege
LOOK_AGAIN = 30.0
"""Seconds for which functions that cannot be called are not asked for."""


class OneCall:
    """Calls functions, each caller at a time on a connection of its own beside the pool's.

    The connection is used past the driver's cursors: for batches of a few rows they take longer than all else.
    """

    def __init__(self, engine: sa.Engine, quoted_schema: str) -> None:
        self.prepares = True
        self._engine = engine
        self._schema = quoted_schema
        self._spelled: dict[tuple[str, bool], Spelled] = {}
        self._idle: deque[CallConnection] = deque()
        self._closed = False
        self._age = 0
        self._not_before = 0.0
        self._refusals = Recurring()

    @property
    def usable(self) -> bool:
        """Whether the functions may be asked for now."""
        return monotonic() >= self._not_before

    def call(self, function: Function, arguments: Sequence[Any]) -> str | None:
        """Give what the function returns, as text. It is one transaction.

        Raises:
            NotAsExpected: Nothing was kept; to be done statement by statement.
            psycopg.Error: Any other failure.
        """
        connection = self._connection()
        try:
            spelled = self.spelled(function, connection)
            encoded = spelled.encode(arguments)
            result = connection.execute(spelled, encoded, prepared=self.prepares)
            if connection.broken:
                raise errors.OperationalError(connection.trouble)
            self.judge(function, result, connection)
        except errors.Error as error:
            connection.spoiled |= error.sqlstate not in LOST_PLAN and spoils_session(error)
            raise
        finally:
            self._give_back(connection)
        value = result.get_value(0, 0)
        return None if value is None else value.decode()

    def open_line(self, functions: Iterable[Function]) -> Line:
        """A line of its own, on which `functions` are known; blocks until it stands.

        Raises:
            NotAsExpected: They are not there, or may not be called.
            psycopg.Error: Any other failure.
        """
        connection = CallConnection(self._engine, self._age)
        try:
            for function in functions if self.prepares else ():
                answer = connection.prepare(self.spelled(function, connection))
                if answer is not None:
                    self.judge(function, answer, connection)
            return Line(self, connection)
        except BaseException:
            connection.close()
            raise

    def spelled(self, function: Function, connection: CallConnection) -> Spelled:
        """The function as it is sent on this connection."""
        spelled = self._spelled.get((function.name, connection.direct))
        if spelled is None:
            condition = CALL_CONDITION if connection.direct else CALL_CONDITION_POOLED
            spelled = Spelled(function, self._schema, condition)
            self._spelled[function.name, connection.direct] = spelled
        return spelled

    def _connection(self) -> CallConnection:
        try:
            return self._idle.pop()
        except IndexError:  # a failure to connect is none of this
            pass
        return CallConnection(self._engine, self._age)

    def judge(self, function: Function, result: PGresult, connection: CallConnection) -> None:
        """Raise what an answer means that is no success, and remember what it says for later calls."""
        if result.status == ExecStatus.TUPLES_OK:
            if result.ntuples:
                return
            self._not_before = monotonic() + LOOK_AGAIN
            self._refusals.say(
                "The transactions of this role are not READ COMMITTED by themselves behind the pooler, so small batches "
                "take twice as long: ALTER ROLE ... RESET default_transaction_isolation."
            )
            raise NotAsExpected
        error = errors.error_from_result(result)
        if error.sqlstate in NOT_AS_EXPECTED:
            raise NotAsExpected from error
        if error.sqlstate in LOST_PLAN:
            self.prepares = False  # then the connection serves as before
        else:
            connection.spoiled |= spoils_session(error)
        if error.sqlstate in _NOT_TO_BE_HAD:
            self._not_before = monotonic() + LOOK_AGAIN
            self._refusals.say(
                "The function %s in the database cannot be called, so small batches take twice as long: GRANT "
                "EXECUTE ON ALL FUNCTIONS IN SCHEMA to the role of the service. %s",
                function.name,
                error,
            )
            raise NotAsExpected from error
        raise error

    def _give_back(self, connection: CallConnection) -> None:
        if self._closed or connection.broken or connection.age != self._age:
            connection.close()
        else:
            self._idle.append(connection)

    def renew(self) -> None:
        """Use none of the connections any more that are open."""
        self._age += 1
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def forget(self) -> None:
        """Use none of the connections that are open: they are those of the process that this one was forked from."""
        keep_for_ever(self._idle)
        self._idle = deque()

    def close(self) -> None:
        """Close what is idle; who is in a call closes its own connection after it."""
        self._closed = True
        self.renew()

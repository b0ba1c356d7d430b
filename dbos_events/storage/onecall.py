"""A whole transaction in one call of a function that the migrations have put into the database.

What takes six exchanges otherwise takes one, and no process can be frozen in the middle of it (docs/storage.md).
The functions run the statements of `sql/` under the same fence, each with a snapshot of its own. Where something
is not as expected they keep nothing, and the caller goes statement by statement.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from psycopg import errors
from psycopg.pq import ConnStatus, ExecStatus, Format

from dbos_events.storage.answers import LOST_PLAN, spoils_session
from dbos_events.storage.arrays import ENCODERS
from dbos_events.storage.database import NotAsExpected
from dbos_events.storage.forks import keep_for_ever
from dbos_events.storage.line import Line
from dbos_events.storage.sessions import CALL_CONDITION, CALL_CONDITION_POOLED, is_direct
from dbos_events.telemetry.log import Recurring

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa
    from psycopg.pq.abc import PGconn, PGresult

    from dbos_events.storage.functions import Function

NOT_AS_EXPECTED = ("DE001", "23505")
"""What a function ends with when it has met something else than its caller expects: raised by it, or unique_violation."""

_NOT_TO_BE_HAD = ("42883", "42501")  # undefined_function, insufficient_privilege
LOOK_AGAIN = 30.0
"""Seconds for which functions that cannot be called are not asked for."""
_INT = struct.Struct("!i").pack
_BIGINT = struct.Struct("!q").pack


def _single(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes | None]:
    return lambda value: None if value is None else encode(value)


_SINGLE: dict[str, tuple[int, Callable[[Any], bytes | None]]] = {
    "int": (23, _single(_INT)),
    "bigint": (20, _single(_BIGINT)),
    "text": (25, _single(str.encode)),
}


class Spelled:
    """A function as it is sent to the server: types by PostgreSQL's numbers, and from arguments to their binary form.

    It gives no row, and does nothing, where the transaction does not hold what the functions stand on.
    """

    def __init__(self, function: Function, schema: str, condition: str) -> None:
        kinds = [_SINGLE[kind] for kind in function.single] + [ENCODERS[kind] for kind in function.columns]
        places = ", ".join(f"${number}" for number in range(1, len(kinds) + 1))
        self.sql = f"SELECT {schema}.{function.called}({places}) WHERE {condition}".encode()
        # Behind a pooler a connection may know another schema's function under the same name.
        self.name = f"{function.called}_{zlib.crc32(self.sql):x}".encode()
        self.types = [kind for kind, _ in kinds]
        self.formats = [Format.BINARY] * len(kinds)
        self._encoders = [encode for _, encode in kinds]

    def encode(self, arguments: Sequence[Any]) -> list[bytes | None]:
        return [encode(value) for encode, value in zip(self._encoders, arguments, strict=True)]


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


class CallConnection:
    """One connection that commits each call."""

    def __init__(self, engine: sa.Engine, age: int) -> None:
        self._driver = _sound_connection(engine)
        self.pg: PGconn = self._driver.pgconn
        self.age = age
        self.direct = is_direct(self.pg)
        self.spoiled = False
        """Whether an answer has said that the session is not what it was."""
        self._prepared: set[bytes] = set()
        if self.direct:
            # Planning `SELECT f(...)` anew took a tenth of a small call. It reads no table, so a kept plan cannot grow bad.
            self.pg.exec_(b"SET plan_cache_mode = force_generic_plan")

    @property
    def broken(self) -> bool:
        return self.spoiled or self.pg.status != ConnStatus.OK

    @property
    def trouble(self) -> str:
        """What the connection says of itself."""
        return self.pg.get_error_message()

    def execute(self, call: Spelled, encoded: list[bytes | None], *, prepared: bool) -> PGresult:
        """Call and wait for the answer."""
        if not prepared:
            return self.pg.exec_params(call.sql, encoded, call.types, call.formats)
        refusal = self.prepare(call)
        if refusal is not None:
            return refusal
        return self.pg.exec_prepared(call.name, encoded, call.formats)  # type: ignore[arg-type]  # None is NULL

    def begin(self, call: Spelled, encoded: list[bytes | None], *, prepared: bool) -> None:
        """Call, and do not wait; where prepared, it was prepared before."""
        if prepared:
            self.pg.send_query_prepared(call.name, encoded, call.formats)
        else:
            self.pg.send_query_params(call.sql, encoded, call.types, call.formats)

    def prepare(self, call: Spelled) -> PGresult | None:
        """Have the server keep the call's plan; gives its answer where it refuses."""
        if call.name not in self._prepared:
            answer = self.pg.prepare(call.name, call.sql, call.types)
            if answer.status != ExecStatus.COMMAND_OK:
                return answer
            self._prepared.add(call.name)
        return None

    def close(self) -> None:
        self._driver.close()


def _sound_connection(engine: sa.Engine) -> psycopg.Connection[Any]:
    """A connection taken out of the pool. Those that lie there may have broken together with the last one."""
    while True:
        pooled = engine.raw_connection()
        driver: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
        if driver.pgconn.exec_(b"SELECT 1").status == ExecStatus.TUPLES_OK:
            pooled.detach()
            return driver
        pooled.invalidate()
        pooled.close()

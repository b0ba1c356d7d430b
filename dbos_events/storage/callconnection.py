"""A connection on which functions in the database are called, past the driver's cursors, and the calls as they are sent."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from psycopg.pq import ConnStatus, ExecStatus, Format

from dbos_events.storage.arrays import ENCODERS
from dbos_events.storage.sessions import is_direct

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa
    from psycopg.pq.abc import PGconn, PGresult

    from dbos_events.storage.functions import Function

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
